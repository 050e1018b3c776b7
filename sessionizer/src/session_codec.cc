#include "session_codec.h"

#include <algorithm>
#include <cstdint>

namespace fuseline {
namespace {

constexpr std::size_t kEventHeadBytesMax = 6 * 10 + 1;  // Six varints and the flags.

void PutVarint(std::uint64_t value, std::string* bytes) {
  while (value >= 0x80) {
    bytes->push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  bytes->push_back(static_cast<char>(value));
}

void PutUnsigned(std::int64_t value, std::string* bytes) { PutVarint(static_cast<std::uint64_t>(value), bytes); }

void PutZigzag(std::int64_t value, std::string* bytes) {
  PutVarint((static_cast<std::uint64_t>(value) << 1) ^ static_cast<std::uint64_t>(value >> 63), bytes);
}

void PutBlock(std::string_view block, std::string* bytes) {
  PutVarint(block.size(), bytes);
  bytes->append(block);
}

// Takes fields off the front. After the first that is not there, all are zero and ok() is false.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}
  bool ok() const { return ok_; }
  bool done() const { return rest_.empty() || !ok_; }

  std::uint64_t Varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (rest_.empty()) break;
      const auto byte = static_cast<std::uint8_t>(rest_.front());
      rest_.remove_prefix(1);
      value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    ok_ = false;
    return 0;
  }
  std::int64_t Unsigned() {
    const auto value = static_cast<std::int64_t>(Varint());
    if (value < 0) ok_ = false;
    return value;
  }
  std::int64_t Zigzag() {
    const std::uint64_t value = Varint();
    return static_cast<std::int64_t>((value >> 1) ^ (~(value & 1) + 1));
  }
  std::uint8_t Byte() {
    if (rest_.empty()) ok_ = false;
    if (!ok_) return 0;
    const auto byte = static_cast<std::uint8_t>(rest_.front());
    rest_.remove_prefix(1);
    return byte;
  }
  std::string_view Block() {
    const std::uint64_t size = Varint();
    if (size > rest_.size()) ok_ = false;
    if (!ok_) return {};
    const std::string_view block = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return block;
  }

 private:
  std::string_view rest_;
  bool ok_ = true;
};

// Differences of times may exceed 63 bits (kBeforeTimeMs): they wrap, and wrap back.
std::int64_t WrappingDifference(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) - static_cast<std::uint64_t>(b));
}

bool PayloadParses(const OpenEvent& event, v1::Event* scratch) {
  if (event.payload.empty()) return true;
  return PayloadBody(event) && scratch->ParseFromString(event.payload) &&
         (event.is_exposure ? scratch->has_exposure() : scratch->has_feedback());
}

}  // namespace

std::optional<std::string_view> PayloadBody(const OpenEvent& event) {
  constexpr std::uint64_t kLengthDelimited = 2;
  const std::uint64_t field = event.is_exposure ? v1::Event::kExposureFieldNumber : v1::Event::kFeedbackFieldNumber;
  Reader reader(event.payload);
  const bool is_field = reader.Varint() == (field << 3 | kLengthDelimited);
  const std::string_view body = reader.Block();
  if (!is_field || !reader.ok()) return std::nullopt;
  return body;
}

void EncodeOpenEvent(const OpenEvent& event, std::string* bytes) {
  // At once what is needed, or half as much again: a string's own doubling would begin at 15 bytes.
  const std::size_t needed = bytes->size() + event.id.size() + event.payload.size() + kEventHeadBytesMax;
  if (needed > bytes->capacity()) bytes->reserve(std::max(needed, bytes->size() + bytes->size() / 2));
  PutUnsigned(event.time_ms, bytes);
  PutUnsigned(event.offset, bytes);
  PutUnsigned(event.offset - event.previous_offset, bytes);
  PutZigzag(WrappingDifference(event.time_ms, event.stream_before_ms), bytes);
  bytes->push_back(event.is_exposure ? 1 : 0);
  PutBlock(event.id, bytes);
  PutBlock(event.payload, bytes);
}

Result<std::vector<OpenEvent>> DecodeChunk(std::string_view bytes) {
  std::vector<OpenEvent> events;
  v1::Event scratch;
  Reader reader(bytes);
  while (!reader.done()) {
    OpenEvent& event = events.emplace_back();
    event.time_ms = reader.Unsigned();
    event.offset = reader.Unsigned();
    event.previous_offset = event.offset - reader.Unsigned();
    event.stream_before_ms = WrappingDifference(event.time_ms, reader.Zigzag());
    event.is_exposure = (reader.Byte() & 1) != 0;
    event.id = reader.Block();
    event.payload = reader.Block();
    if (!reader.ok() || event.id.empty() || event.previous_offset < -1 || !PayloadParses(event, &scratch)) {
      return Error(Code::kCorrupt, "saved event is not readable, number in its chunk:", events.size());
    }
  }
  if (events.empty()) return Error(Code::kCorrupt, "saved chunk of events is empty");
  return events;
}

std::string EncodeState(const PartitionState& state) {
  std::string bytes;
  PutUnsigned(state.next_offset, &bytes);
  PutZigzag(state.previous_offset, &bytes);
  PutZigzag(state.stream_time_ms, &bytes);
  bytes.push_back(static_cast<char>((state.finished ? 1 : 0) | (state.last_name ? 2 : 0)));
  PutBlock(state.last_name ? state.last_name->SerializeAsString() : std::string(), &bytes);
  PutBlock(state.accounting.SerializeAsString(), &bytes);
  return bytes;
}

Result<PartitionState> DecodeState(std::string_view bytes) {
  Reader reader(bytes);
  PartitionState state;
  state.next_offset = reader.Unsigned();
  state.previous_offset = reader.Zigzag();
  state.stream_time_ms = reader.Zigzag();
  const std::uint8_t flags = reader.Byte();
  state.finished = (flags & 1) != 0;
  const std::string_view name = reader.Block();
  const std::string_view accounting = reader.Block();
  bool parsed = reader.ok() && state.accounting.ParseFromArray(accounting.data(), static_cast<int>(accounting.size()));
  if ((flags & 2) != 0) {
    state.last_name.emplace();
    parsed = parsed && state.last_name->ParseFromArray(name.data(), static_cast<int>(name.size()));
  }
  if (!parsed || state.previous_offset < -1) return Error(Code::kCorrupt, "saved state of a partition is not readable");
  return state;
}

std::string EncodeShape(const SessionShape& shape) {
  std::string bytes;
  PutUnsigned(shape.gap_ms, &bytes);
  PutUnsigned(shape.lateness_ms, &bytes);
  PutUnsigned(shape.cut_every_ms, &bytes);
  PutUnsigned(shape.max_events, &bytes);
  return bytes;
}

Result<SessionShape> DecodeShape(std::string_view bytes) {
  Reader reader(bytes);
  SessionShape shape;
  shape.gap_ms = reader.Unsigned();
  shape.lateness_ms = reader.Unsigned();
  shape.cut_every_ms = reader.Unsigned();
  shape.max_events = reader.Unsigned();
  if (!reader.ok()) return Error(Code::kCorrupt, "saved shape of sessions is not readable");
  return shape;
}

}  // namespace fuseline
