#include "record_reader.h"

#include <algorithm>
#include <utility>

namespace fuseline {
namespace {

constexpr std::size_t kReadBytes = 64 << 10;
constexpr std::size_t kVarintBytesMax = 10;

// A varint at the start of `bytes`: its length in bytes, 0 if more are needed, or more than kVarintBytesMax if it is none.
std::size_t ParseVarint(std::string_view bytes, std::uint64_t* value) {
  *value = 0;
  for (std::size_t i = 0; i < kVarintBytesMax; ++i) {
    if (i == bytes.size()) return 0;
    const auto byte = static_cast<unsigned char>(bytes[i]);
    *value |= static_cast<std::uint64_t>(byte & 0x7F) << (7 * i);
    if (byte < 0x80) return i + 1;
  }
  return kVarintBytesMax + 1;
}

}  // namespace

RecordReader::RecordReader(std::unique_ptr<ByteStream> stream, Framing framing, std::int64_t record_bytes)
    : stream_(std::move(stream)), framing_(framing), record_bytes_(static_cast<std::size_t>(record_bytes)) {}

Result<std::optional<RawRecord>> RecordReader::Next() {
  return framing_ == Framing::kLines ? NextLine() : NextFrame();
}

Result<bool> RecordReader::Fill() {
  if (ended_) return false;
  buffer_.erase(0, std::exchange(begin_, 0));
  const std::size_t before = buffer_.size();
  buffer_.resize(before + kReadBytes);
  const auto count = stream_->Read(buffer_.data() + before, kReadBytes);
  buffer_.resize(before + count.value_or(0));
  if (!count && count.error().code != Code::kCorrupt) return tl::unexpected<Status>(count.error());
  if (!count) {
    damaged_ = true;
    damage_ = count.error().message;
  }
  ended_ = !count || *count == 0;
  return !ended_;
}

std::string_view RecordReader::Take(std::size_t count) {
  const std::string_view taken = held().substr(0, count);
  begin_ += taken.size();
  scanned_ = 0;
  return taken;
}

RawRecord RecordReader::Broken(std::string trouble) {
  damaged_ = true;
  ended_ = true;
  damage_.clear();
  RawRecord record;
  record.bytes = Take(held().size());
  record.size_bytes = static_cast<std::int64_t>(record.bytes.size());
  record.bytes = record.bytes.substr(0, record_bytes_);
  record.trouble = std::move(trouble);
  return record;
}

Result<std::optional<RawRecord>> RecordReader::NextLine() {
  for (;;) {
    if (skipped_ > 0) return SkipLine();
    const std::size_t newline = held().find('\n', scanned_);
    if (newline != std::string_view::npos) {
      RawRecord record;
      record.bytes = Take(newline + 1).substr(0, newline);
      record.size_bytes = static_cast<std::int64_t>(newline);
      if (record.bytes.ends_with('\r')) record.bytes.remove_suffix(1);
      if (record.bytes.size() > record_bytes_) {
        record.trouble = "line is larger than max_event_bytes";
        record.bytes = record.bytes.substr(0, record_bytes_);
      }
      return record;
    }
    scanned_ = held().size();
    if (scanned_ > record_bytes_ + 1) {  // + 1: a carriage return does not count.
      kept_ = held().substr(0, record_bytes_);
      skipped_ = static_cast<std::int64_t>(Take(scanned_).size());
      continue;
    }
    FUSELINE_ASSIGN_OR_FAIL(const bool more, Fill());
    if (more) continue;
    if (!damage_.empty()) return Broken(std::exchange(damage_, {}));
    if (held().empty()) return std::nullopt;
    RawRecord record;  // The last line may lack its newline.
    record.bytes = Take(held().size());
    record.size_bytes = static_cast<std::int64_t>(record.bytes.size());
    if (record.bytes.size() > record_bytes_) {
      record.trouble = "line is larger than max_event_bytes";
      record.bytes = record.bytes.substr(0, record_bytes_);
    }
    return record;
  }
}

Result<RawRecord> RecordReader::SkipLine() {
  for (;;) {
    const std::size_t newline = held().find('\n');
    skipped_ += static_cast<std::int64_t>(Take(newline == std::string_view::npos ? held().size() : newline).size());
    if (newline != std::string_view::npos) {
      Take(1);
      break;
    }
    FUSELINE_ASSIGN_OR_FAIL(const bool more, Fill());
    if (!more) break;
  }
  RawRecord record;
  record.bytes = kept_;
  record.size_bytes = std::exchange(skipped_, 0);
  record.trouble = damage_.empty() ? "line is larger than max_event_bytes" : std::exchange(damage_, {});
  return record;
}

Result<std::optional<RawRecord>> RecordReader::NextFrame() {
  for (;;) {
    if (skip_size_ > 0) return SkipFrame(skip_size_);
    std::uint64_t size = 0;
    const std::size_t prefix = ParseVarint(held(), &size);
    if (prefix > kVarintBytesMax) return Broken("frame length is not a varint");
    if (prefix > 0 && size > record_bytes_) {
      Take(prefix);
      skip_size_ = size;
      kept_.clear();
      continue;
    }
    if (prefix > 0 && held().size() - prefix >= size) {
      RawRecord record;
      record.bytes = Take(prefix + size).substr(prefix);
      record.size_bytes = static_cast<std::int64_t>(size);
      return record;
    }
    FUSELINE_ASSIGN_OR_FAIL(const bool more, Fill());
    if (more) continue;
    if (!damage_.empty()) return Broken(std::exchange(damage_, {}));
    if (held().empty()) return std::nullopt;
    return Broken("file ends inside a frame");
  }
}

Result<RawRecord> RecordReader::SkipFrame(std::uint64_t size) {
  while (static_cast<std::uint64_t>(skipped_) < size) {
    if (held().empty()) {
      FUSELINE_ASSIGN_OR_FAIL(const bool more, Fill());
      if (!more) break;
    }
    const auto left = size - static_cast<std::uint64_t>(skipped_);
    const std::string_view taken = Take(static_cast<std::size_t>(std::min<std::uint64_t>(left, held().size())));
    kept_.append(taken.substr(0, record_bytes_ - kept_.size()));
    skipped_ += static_cast<std::int64_t>(taken.size());
  }
  RawRecord record;
  record.bytes = kept_;
  record.size_bytes = std::exchange(skipped_, 0);
  record.trouble = "frame is larger than max_event_bytes";
  if (static_cast<std::uint64_t>(record.size_bytes) < size) {
    damaged_ = true;
    record.trouble = damage_.empty() ? "file ends inside a frame" : std::exchange(damage_, {});
  }
  skip_size_ = 0;
  return record;
}

}  // namespace fuseline
