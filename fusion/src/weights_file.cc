#include "fuseline/fusion/weights_file.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <optional>
#include <set>

#include <nlohmann/json.hpp>

#include "fuseline/core/check.h"

namespace fuseline {
namespace {

using Json = nlohmann::json;

static_assert(std::endian::native == std::endian::little, "the layout is little-endian");

constexpr std::size_t kLengthBytes = 8;
constexpr std::size_t kHeaderBytesMax = std::size_t{1} << 20;
constexpr std::size_t kDimensionsMax = 8;
constexpr std::size_t kAlignment = 8;  // The data starts at a multiple, as the format asks.
constexpr const char* kMetadataKey = "__metadata__";

// Parses the header, refusing what JSON parsers let pass: a key said twice, nesting that the format does not have.
std::optional<Json> ParseHeader(std::string_view text) {
  std::set<std::string> keys[2];  // Seen in the object open at this depth.
  bool acceptable = true;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::object_start) {
      if (depth >= 2) acceptable = false;
      else keys[depth].clear();
    }
    if (event == Json::parse_event_t::array_start && depth > 2) acceptable = false;
    if (event == Json::parse_event_t::key && (depth < 1 || depth > 2 || !keys[depth - 1].insert(value.get<std::string>()).second)) {
      acceptable = false;
    }
    return acceptable;
  };
  Json header = Json::parse(text.begin(), text.end(), watch, /*allow_exceptions=*/false);
  if (!acceptable || header.is_discarded() || !header.is_object()) return std::nullopt;
  return header;
}

std::optional<std::uint64_t> Unsigned(const Json& value) {
  if (!value.is_number_unsigned()) return std::nullopt;
  return value.get<std::uint64_t>();
}

struct Entry {
  std::vector<std::uint32_t> shape;
  std::uint64_t begin = 0, end = 0;  // Bytes of the data.
};

// Nothing if the description of a tensor is not exactly {dtype F32, shape, data_offsets} or contradicts itself.
std::optional<Entry> ReadEntry(const Json& description, std::uint64_t data_bytes) {
  if (!description.is_object() || description.size() != 3) return std::nullopt;
  const auto dtype = description.find("dtype");
  const auto shape = description.find("shape");
  const auto offsets = description.find("data_offsets");
  if (dtype == description.end() || *dtype != "F32") return std::nullopt;
  if (shape == description.end() || !shape->is_array() || shape->size() > kDimensionsMax) return std::nullopt;
  if (offsets == description.end() || !offsets->is_array() || offsets->size() != 2) return std::nullopt;

  Entry entry;
  std::uint64_t values = 1;
  for (const Json& item : *shape) {
    const auto extent = Unsigned(item);
    // Below 2^32 each and never above what the data can hold: the product cannot wrap.
    if (!extent || *extent > UINT32_MAX) return std::nullopt;
    values *= *extent;
    if (values > data_bytes) return std::nullopt;
    entry.shape.push_back(static_cast<std::uint32_t>(*extent));
  }
  const auto begin = Unsigned((*offsets)[0]);
  const auto end = Unsigned((*offsets)[1]);
  if (!begin || !end || *begin > *end || *end > data_bytes) return std::nullopt;
  if (*end - *begin != values * sizeof(float)) return std::nullopt;
  entry.begin = *begin;
  entry.end = *end;
  return entry;
}

// All of them, once they fill the data without overlap or hole: so no header can claim more memory than its file has.
Result<std::map<std::string, Entry>> ReadEntries(const Json& header, std::uint64_t data_bytes) {
  std::map<std::string, Entry> entries;
  std::map<std::uint64_t, std::uint64_t> extents;  // begin → end
  for (const auto& [name, description] : header.items()) {
    if (name == kMetadataKey) continue;
    auto entry = ReadEntry(description, data_bytes);
    if (!entry) return Error(Code::kCorrupt, "weights file describes a tensor that cannot be:", name);
    if (entry->begin != entry->end && !extents.emplace(entry->begin, entry->end).second) {
      return Error(Code::kCorrupt, "weights file's tensors overlap:", name);
    }
    entries.emplace(name, *std::move(entry));
  }
  std::uint64_t filled = 0;
  for (const auto& [begin, end] : extents) {
    if (begin != filled) return Error(Code::kCorrupt, "weights file's tensors overlap or leave a hole at byte", filled);
    filled = end;
  }
  if (filled != data_bytes) return Error(Code::kCorrupt, "weights file has bytes that belong to no tensor:", data_bytes - filled);
  return entries;
}

}  // namespace

std::string EncodeWeights(const TensorMap& tensors) {
  Json header = Json::object();
  std::uint64_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    std::uint64_t values = 1;
    for (const std::uint32_t extent : tensor.shape) values *= extent;
    FUSELINE_CHECK(values == tensor.values.size());
    const std::uint64_t end = offset + values * sizeof(float);
    header[name] = {{"dtype", "F32"}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  text.resize((text.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');

  std::string bytes(kLengthBytes, '\0');
  const std::uint64_t length = text.size();
  std::memcpy(bytes.data(), &length, kLengthBytes);
  bytes.reserve(kLengthBytes + text.size() + offset);
  bytes += text;
  for (const auto& [name, tensor] : tensors) {
    bytes.append(reinterpret_cast<const char*>(tensor.values.data()), tensor.values.size() * sizeof(float));
  }
  return bytes;
}

Result<TensorMap> DecodeWeights(std::string_view bytes, std::size_t max_bytes) {
  if (bytes.size() > max_bytes) return Error(Code::kCorrupt, "weights file is too large:", bytes.size(), "bytes");
  if (bytes.size() < kLengthBytes) return Error(Code::kCorrupt, "weights file is too short:", bytes.size(), "bytes");
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), kLengthBytes);
  bytes.remove_prefix(kLengthBytes);
  if (header_bytes > kHeaderBytesMax || header_bytes > bytes.size()) {
    return Error(Code::kCorrupt, "weights file's header length is impossible:", header_bytes);
  }
  const auto header = ParseHeader(bytes.substr(0, header_bytes));
  if (!header) return Error(Code::kCorrupt, "weights file's header is not the JSON that it must be");
  const std::string_view data = bytes.substr(header_bytes);

  FUSELINE_ASSIGN_OR_FAIL(const auto entries, ReadEntries(*header, data.size()));
  TensorMap tensors;
  for (const auto& [name, entry] : entries) {
    Tensor& tensor = tensors[name];
    tensor.shape = entry.shape;
    tensor.values.resize((entry.end - entry.begin) / sizeof(float));
    if (!tensor.values.empty()) std::memcpy(tensor.values.data(), data.data() + entry.begin, entry.end - entry.begin);
    for (const float value : tensor.values) {
      if (!std::isfinite(value)) return Error(Code::kCorrupt, "weights file holds a value that is not finite:", name);
    }
  }
  return tensors;
}

}  // namespace fuseline
