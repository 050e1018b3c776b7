#include "fuseline/fusion/whole_numbers.h"

#include <cmath>

#include "fuseline/core/check.h"

namespace fuseline {
namespace {

constexpr std::size_t kParts = 4;
constexpr int kPartBits = 16;
constexpr float kPartEnd = 65'536, kByteEnd = 256;

bool IsWhole(float value, float end) { return value >= 0 && value < end && value == std::floor(value); }

}  // namespace

Tensor TensorOfIds(std::span<const std::uint64_t> ids, std::size_t columns) {
  FUSELINE_CHECK(columns >= 1 && ids.size() % columns == 0);
  Tensor tensor;
  tensor.shape = {static_cast<std::uint32_t>(ids.size() / columns), static_cast<std::uint32_t>(kParts * columns)};
  tensor.values.reserve(kParts * ids.size());
  for (std::uint64_t id : ids) {
    for (std::size_t part = 0; part < kParts; ++part, id >>= kPartBits) {
      tensor.values.push_back(static_cast<float>(id & 0xFFFF));
    }
  }
  return tensor;
}

Tensor TensorOfBytes(std::string_view bytes) {
  Tensor tensor{{static_cast<std::uint32_t>(bytes.size())}, {}};
  for (const char byte : bytes) tensor.values.push_back(static_cast<float>(static_cast<unsigned char>(byte)));
  return tensor;
}

Result<std::vector<std::uint64_t>> IdsOf(const Tensor& tensor) {
  if (tensor.shape.empty() || tensor.shape.back() % kParts != 0) {
    return Error(Code::kCorrupt, "a tensor of ids has no four parts each");
  }
  std::vector<std::uint64_t> ids(tensor.values.size() / kParts, 0);
  for (std::size_t i = 0; i < tensor.values.size(); ++i) {
    if (!IsWhole(tensor.values[i], kPartEnd)) {
      return Error(Code::kCorrupt, "a tensor of ids holds what is no part of one:", tensor.values[i]);
    }
    ids[i / kParts] |= static_cast<std::uint64_t>(tensor.values[i]) << (kPartBits * (i % kParts));
  }
  return ids;
}

Result<std::string> BytesOf(const Tensor& tensor) {
  std::string bytes;
  for (const float value : tensor.values) {
    if (!IsWhole(value, kByteEnd)) return Error(Code::kCorrupt, "a tensor of bytes holds what is none:", value);
    bytes.push_back(static_cast<char>(static_cast<unsigned char>(value)));
  }
  return bytes;
}

}  // namespace fuseline
