#include "dead_letters.h"

#include <array>
#include <cctype>
#include <charconv>
#include <fstream>
#include <utility>

#include <nlohmann/json.hpp>

#include "topic_reader.h"

namespace fuseline {
namespace {

using Json = nlohmann::json;

std::array<std::int8_t, 256> MakeBase64Values() {
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::array<std::int8_t, 256> values;
  values.fill(-1);
  for (std::size_t i = 0; i < kAlphabet.size(); ++i)
    values[static_cast<unsigned char>(kAlphabet[i])] = static_cast<std::int8_t>(i);
  return values;
}

// The standard alphabet with padding. Returns false for anything else.
bool DecodeBase64(std::string_view text, std::string* bytes) {
  static const std::array<std::int8_t, 256> kValues = MakeBase64Values();
  if (text.size() % 4 != 0) return false;
  const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  bytes->reserve(text.size() / 4 * 3);
  std::uint32_t group = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool pads = i >= text.size() - padding;
    const std::int8_t value = pads ? std::int8_t{0} : kValues[static_cast<unsigned char>(text[i])];
    if (value < 0) return false;
    group = group << 6 | static_cast<std::uint32_t>(value);
    if (i % 4 != 3) continue;
    for (const int shift : {16, 8, 0}) bytes->push_back(static_cast<char>(group >> shift & 0xFF));
    group = 0;
  }
  bytes->resize(bytes->size() - padding);
  return true;
}

// Knows letters again, and lets those of the filter through once.
class Sieve {
 public:
  Sieve(const LetterFilter& filter, const std::function<Status(KeptLetter&& kept)>& see)
      : filter_(filter), see_(see) {}

  Status Take(std::string_view json, std::int64_t kept_ms) {
    auto letter = DecodeDeadLetterJson(json);
    if (!letter) return ++counts_.unreadable, OkStatus();
    KeptLetter kept{std::move(*letter), kept_ms};
    if (!filter_.Matches(kept)) return OkStatus();
    if (!known_.emplace(kept.letter.source, kept.letter.partition, kept.letter.offset).second)
      return ++counts_.repeats, OkStatus();
    return see_(std::move(kept));
  }
  const LetterCounts& counts() const { return counts_; }

 private:
  const LetterFilter& filter_;
  const std::function<Status(KeptLetter&& kept)>& see_;
  std::set<std::tuple<std::string, std::int32_t, std::int64_t>> known_;
  LetterCounts counts_;
};

Status ReadFileLetters(const std::string& path, const std::stop_token& stop, Sieve& sieve) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return ErrorStatus(Code::kNotFound, "no dead-letter file:", path);
  std::string line;
  while (!stop.stop_requested() && std::getline(file, line)) {
    if (!line.empty()) FUSELINE_RETURN_IF_ERROR(sieve.Take(line, /*kept_ms=*/-1));
  }
  return file.bad() ? ErrorStatus(Code::kUnavailable, "cannot read file:", path) : OkStatus();
}

}  // namespace

bool LetterFilter::empty() const {
  return reason.empty() && source.empty() && !partition && !since_ms && !until_ms && positions.empty();
}

bool LetterFilter::Matches(const KeptLetter& kept) const {
  const DeadLetter& letter = kept.letter;
  return letter.reason.find(reason) != std::string::npos && (source.empty() || letter.source == source) &&
         (!partition || letter.partition == *partition) && (!since_ms || kept.kept_ms >= *since_ms) &&
         (!until_ms || kept.kept_ms < *until_ms) &&
         (positions.empty() || positions.contains({letter.partition, letter.offset}));
}

Result<LetterCounts> ReadLetters(const LetterPlace& place, const LetterFilter& filter, const std::stop_token& stop,
                                 const std::function<Status(KeptLetter&& kept)>& see) {
  Sieve sieve(filter, see);
  if (!place.file.empty()) {
    if (filter.since_ms || filter.until_ms) {
      return Error(Code::kInvalidInput,
                   "a dead-letter file does not say when a letter was kept; --since and --until are for the topic:",
                   place.file);
    }
    FUSELINE_FAIL_IF_ERROR(ReadFileLetters(place.file, stop, sieve));
    return sieve.counts();
  }
  TopicRange range{
      .topic = place.kafka.dead_letters_topic(), .partition = std::nullopt, .from = kafka::StartPosition::Earliest()};
  if (filter.since_ms) range.from = kafka::StartPosition::Timestamp(*filter.since_ms);
  const auto take = [&](const kafka::Message& message) -> Result<bool> {
    FUSELINE_FAIL_IF_ERROR(sieve.Take(message.value, message.timestamp_ms));
    return true;
  };
  FUSELINE_FAIL_IF_ERROR(ReadTopic(place.kafka, range, stop, take));
  return sieve.counts();
}

Result<DeadLetter> DecodeDeadLetterJson(std::string_view text) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return Error(Code::kInvalidInput, "no dead letter: not a JSON object");
  const auto is = [&](const char* key, bool (Json::*type)() const noexcept) {
    const auto found = json.find(key);
    return found != json.end() && ((*found).*type)();
  };
  DeadLetter letter;
  for (const char* key : {"source", "fate", "reason", "bytes"}) {
    if (!is(key, &Json::is_string)) return Error(Code::kInvalidInput, "no dead letter: no string", key);
  }
  for (const char* key : {"partition", "offset", "size_bytes"}) {
    if (!is(key, &Json::is_number_integer)) return Error(Code::kInvalidInput, "no dead letter: no number", key);
  }
  letter.source = json["source"].get<std::string>();
  letter.partition = json["partition"].get<std::int32_t>();
  letter.offset = json["offset"].get<std::int64_t>();
  letter.line = is("line", &Json::is_number_integer) ? json["line"].get<std::int64_t>() : 0;
  letter.fate = json["fate"] == "quarantined" ? RecordFate::kQuarantined : RecordFate::kMalformed;
  letter.reason = json["reason"].get<std::string>();
  letter.size_bytes = json["size_bytes"].get<std::int64_t>();
  if (!DecodeBase64(json["bytes"].get_ref<const std::string&>(), &letter.bytes)) {
    return Error(Code::kInvalidInput, "no dead letter: bytes is not base64");
  }
  return letter;
}

Result<std::pair<std::int32_t, std::int64_t>> ParsePosition(std::string_view text) {
  std::pair<std::int32_t, std::int64_t> position;
  const char* const end = text.data() + text.size();
  const auto partition = std::from_chars(text.data(), end, position.first);
  if (partition.ec == std::errc() && partition.ptr != end && *partition.ptr == ':') {
    const auto offset = std::from_chars(partition.ptr + 1, end, position.second);
    if (offset.ec == std::errc() && offset.ptr == end && position.first >= 0 && position.second >= 0) return position;
  }
  return Error(Code::kInvalidInput, "a letter is named PARTITION:OFFSET, not", text);
}

std::string ReasonKind(const std::string& reason) {
  std::string kind;
  bool in_number = false;
  for (const char c : reason) {
    const bool is_digit = std::isdigit(static_cast<unsigned char>(c)) != 0;
    if (!is_digit) kind.push_back(c);
    if (is_digit && !in_number) kind.push_back('#');
    in_number = is_digit;
  }
  return kind;
}

}  // namespace fuseline
