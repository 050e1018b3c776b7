#include "confluent_framing.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include "fuseline/proto/wire.h"

namespace fuseline {
namespace {

constexpr std::size_t kSchemaIdBytes = 4;
constexpr std::int64_t kIndexesShown = 4;

bool TakeZigzag(std::string_view* bytes, std::int64_t* value) {
  std::uint64_t bits = 0;
  const char* const behind = wire::ParseVarint(bytes->data(), bytes->data() + bytes->size(), &bits);
  if (behind == nullptr) return false;
  bytes->remove_prefix(static_cast<std::size_t>(behind - bytes->data()));
  *value = static_cast<std::int64_t>(bits >> 1) ^ -static_cast<std::int64_t>(bits & 1);
  return true;
}

// "1.0"
Result<std::string> IndexText(std::string_view bytes, std::int64_t count) {
  std::string text;
  for (std::int64_t i = 0, index = 0; i < std::min(count, kIndexesShown); ++i) {
    if (!TakeZigzag(&bytes, &index)) return Error(Code::kInvalidInput, "Confluent framing is truncated in its message indexes");
    text += (i == 0 ? "" : ".") + std::to_string(index);
  }
  return text;
}

}  // namespace

Result<std::string_view> WithoutConfluentFraming(std::string_view bytes) {
  if (!bytes.starts_with('\0')) return bytes;
  if (bytes.size() < 1 + kSchemaIdBytes) return Error(Code::kInvalidInput, "Confluent framing is truncated in its schema id");
  bytes.remove_prefix(1 + kSchemaIdBytes);
  std::int64_t count = 0;
  std::string_view rest = bytes;
  if (!TakeZigzag(&rest, &count)) return Error(Code::kInvalidInput, "Confluent framing is truncated in its message indexes");
  if (count == 0) return rest;
  if (count < 0) return Error(Code::kInvalidInput, "Confluent framing has an impossible count of message indexes:", count);
  FUSELINE_ASSIGN_OR_FAIL(const std::string indexes, IndexText(rest, count));
  std::int64_t index = 0;
  if (count == 1 && TakeZigzag(&rest, &index) && index == 0) return rest;
  return Error(Code::kInvalidInput, "Confluent framing names another message of its schema than Event, which is 0:", indexes);
}

}  // namespace fuseline
