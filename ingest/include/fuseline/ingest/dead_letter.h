#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>

#include "fuseline/core/status.h"
#include "fuseline/kafka/connection.h"
#include "fuseline/proto/event_batch.h"

namespace fuseline {

// A record that could not be used: why, where it was, and what it was.
struct DeadLetter {
  std::string source;          // Topic, or file name.
  std::int32_t partition = 0;
  std::int64_t offset = 0;
  std::int64_t line = 0;       // Line or frame of the file, from 1; 0: not from a file.
  RecordFate fate = RecordFate::kMalformed;
  std::string reason;
  std::string bytes;           // As it was read; a record too large to be kept whole is cut.
  std::int64_t size_bytes = 0;  // Its size before cutting.
};

// One JSON object without newline:
// {"source","partition","offset","line"?,"fate","reason","size_bytes","bytes"}; bytes in base64; line only from files.
std::string EncodeDeadLetterJson(const DeadLetter& letter);

// Where dead letters go. At least once: after a crash the same (partition, offset) may come again. Thread-compatible.
class DeadLetterSink {
 public:
  virtual ~DeadLetterSink() = default;

  // Takes the letter; it is durable after the next Flush, or before. Errors: kUnavailable: not taken, come again.
  virtual Status Write(DeadLetter&& letter) = 0;
  // Everything taken is durable. Errors: kUnavailable: not yet; what was taken is still held.
  virtual Status Flush(std::int64_t deadline_ms) = 0;
  // At most so many of the last letters taken are not durable yet: all before them are. Never waits. A sink that does not
  // know before a Flush says what no count exceeds.
  virtual std::uint64_t Waiting() { return std::numeric_limits<std::uint64_t>::max(); }
};

// Appends lines to `path`; Flush is an fsync. A line half written by a crash is completed by a newline when reopened.
Result<std::unique_ptr<DeadLetterSink>> OpenDeadLetterFile(const std::string& path);

// Produces to `topic`, keyed "partition-offset"; Flush waits for all in-sync replicas. Holds at most `queue_letters`.
Result<std::unique_ptr<DeadLetterSink>> OpenDeadLetterTopic(const kafka::Connection& connection,
                                                            const std::string& topic,
                                                            std::int64_t queue_letters = 10'000);

}  // namespace fuseline
