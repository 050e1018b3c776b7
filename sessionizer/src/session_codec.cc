#include "session_codec.h"

#include <algorithm>

#include "fuseline/core/check.h"

namespace fuseline {
namespace {

constexpr std::uint8_t kExposureFlag = 1;
constexpr std::uint8_t kGluedFlag = 2;

constexpr std::size_t kVarintBytesMax = 10;

void PutVarint(std::uint64_t value, std::string* bytes) {
  while (value >= 0x80) {
    bytes->push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  bytes->push_back(static_cast<char>(value));
}

void PutBlock(std::string_view block, std::string* bytes) {
  PutVarint(block.size(), bytes);
  bytes->append(block);
}

// The same to where there is room, for what is written once per event. Return what is behind it.
char* WriteVarint(std::uint64_t value, char* at) {
  for (; value >= 0x80; value >>= 7) *at++ = static_cast<char>(value | 0x80);
  *at++ = static_cast<char>(value);
  return at;
}

char* WriteZigzag(std::int64_t value, char* at) {
  return WriteVarint((static_cast<std::uint64_t>(value) << 1) ^ static_cast<std::uint64_t>(value >> 63), at);
}

char* WriteBlock(std::string_view block, char* at) {
  at = WriteVarint(block.size(), at);
  return std::copy(block.begin(), block.end(), at);
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

std::int64_t WrappingSum(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}

bool BodyParses(const SessionWindow::NewEvent& event, v1::Exposure* exposure, v1::Feedback* feedback) {
  const int size = static_cast<int>(event.body.size());
  if (size == 0) return true;
  return event.is_exposure ? exposure->ParseFromArray(event.body.data(), size) : feedback->ParseFromArray(event.body.data(), size);
}

Status DecodeEvents(std::string_view bytes, bool has_users, const TakeEvent& take) {
  v1::Exposure exposure;  // Reused: that is most of the cost of checking.
  v1::Feedback feedback;
  Reader reader(bytes);
  SessionWindow::NewEvent event;
  for (std::size_t number = 1; !reader.done(); ++number) {
    const std::string_view user_id = has_users ? reader.Block() : std::string_view();
    event.offset = WrappingSum(event.offset, reader.Zigzag());
    event.time_ms = WrappingSum(event.time_ms, reader.Zigzag());
    const std::uint8_t flags = reader.Byte();
    event.is_exposure = (flags & kExposureFlag) != 0;
    event.glued = (flags & kGluedFlag) != 0;
    event.id = reader.Block();
    event.body = reader.Block();
    const bool possible = reader.ok() && event.offset >= 0 && event.time_ms >= 0 && flags <= (kExposureFlag | kGluedFlag) && !event.id.empty() &&
                          user_id.empty() != has_users && BodyParses(event, &exposure, &feedback);
    if (!possible) return ErrorStatus(Code::kCorrupt, "saved event is not readable, number in its segment:", number);
    take(user_id, event);
  }
  return OkStatus();
}

}  // namespace

void EventEncoder::Put(std::string_view user_id, const SessionWindow::NewEvent& event, std::string* bytes) {
  PutBlock(user_id, bytes);
  Put(event, bytes);
}

void EventEncoder::Put(const SessionWindow::NewEvent& event, std::string* bytes) {
  const std::size_t begin = bytes->size();
  bytes->resize(begin + 4 * kVarintBytesMax + 1 + event.id.size() + event.body.size());
  char* at = bytes->data() + begin;
  at = WriteZigzag(event.offset - offset_, at);
  at = WriteZigzag(event.time_ms - time_ms_, at);
  *at++ = static_cast<char>((event.is_exposure ? kExposureFlag : 0) | (event.glued ? kGluedFlag : 0));
  at = WriteBlock(event.id, at);
  at = WriteBlock(event.body, at);
  bytes->resize(static_cast<std::size_t>(at - bytes->data()));
  offset_ = event.offset;
  time_ms_ = event.time_ms;
}

Status DecodeSegment(std::string_view bytes, const TakeEvent& take) { return DecodeEvents(bytes, /*has_users=*/true, take); }

Status DecodeUserEvents(std::string_view bytes, const TakeEvent& take) { return DecodeEvents(bytes, /*has_users=*/false, take); }

void AppendToPage(const PagedTrajectory& trajectory, std::string* page) {
  PutVarint(static_cast<std::uint64_t>(trajectory.offset), page);
  PutVarint(trajectory.ordinal, page);
  PutBlock(trajectory.bytes, page);
}

Result<std::vector<PagedTrajectory>> DecodePage(std::string_view page, std::size_t max) {
  std::vector<PagedTrajectory> trajectories;
  Reader reader(page);
  while (!reader.done() && trajectories.size() < max) {
    PagedTrajectory& trajectory = trajectories.emplace_back();
    trajectory.offset = static_cast<std::int64_t>(reader.Varint());
    trajectory.ordinal = static_cast<std::uint32_t>(reader.Varint());
    trajectory.bytes = reader.Block();
    if (!reader.ok() || trajectory.offset < 0 || trajectory.bytes.empty()) {
      return Error(Code::kCorrupt, "saved trajectory is not readable, number in its page:", trajectories.size());
    }
  }
  return trajectories;
}

}  // namespace fuseline
