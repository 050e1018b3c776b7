#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "byte_stream.h"
#include "fuseline/core/status.h"

namespace fuseline {

enum class Framing { kLines, kVarintLength };

// The bytes of one record. `trouble`: why they cannot be one; then they may be cut, and `size_bytes` is what was seen.
struct RawRecord {
  std::string_view bytes;  // Valid until the next call.
  std::int64_t size_bytes = 0;
  std::string trouble;
};

// Splits a stream into records. Holds at most `record_bytes` plus one read of 64 KiB, however large a record claims to be.
// One owner thread.
class RecordReader {
 public:
  RecordReader(std::unique_ptr<ByteStream> stream, Framing framing, std::int64_t record_bytes);

  // The next record, or none at the end. A stream that breaks ends with one record with trouble.
  // Errors: kUnavailable if the disk fails; the same call may be made again.
  Result<std::optional<RawRecord>> Next();

  std::int64_t bytes_read() const { return stream_->bytes_read(); }
  bool damaged() const { return damaged_; }  // It could not be read to its end.

 private:
  Result<std::optional<RawRecord>> NextLine();
  Result<std::optional<RawRecord>> NextFrame();
  Result<bool> Fill();                     // More bytes behind those held. False: the stream ended or broke.
  Result<RawRecord> SkipLine();            // Of a line too long to be held.
  Result<RawRecord> SkipFrame(std::uint64_t size);
  RawRecord Broken(std::string trouble);   // Gives what is left and ends the stream.
  std::string_view held() const { return std::string_view(buffer_).substr(begin_); }
  std::string_view Take(std::size_t count);

  std::unique_ptr<ByteStream> stream_;
  const Framing framing_;
  const std::size_t record_bytes_;
  std::string buffer_;
  std::size_t begin_ = 0;    // Of what is held in buffer_.
  std::size_t scanned_ = 0;  // Of what is held: known to have no newline.
  std::string kept_;         // Beginning of a record that was skipped.
  std::int64_t skipped_ = 0;  // Bytes of it so far; 0: none is being skipped.
  std::uint64_t skip_size_ = 0;  // Size of the frame that is being skipped.
  bool ended_ = false;
  bool damaged_ = false;
  std::string damage_;
};

}  // namespace fuseline
