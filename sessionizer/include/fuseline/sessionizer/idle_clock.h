#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "fuseline/proto/event_time.h"

namespace fuseline {

// What is known of one partition that this process owns, as far as it was processed.
struct PartitionPulse {
  std::int64_t previous_offset = -1;            // Of the last record read, whatever it was; -1: none.
  std::int64_t stream_time_ms = kBeforeTimeMs;
  std::uint64_t events = 0;                     // Records of users so far: neither control, nor malformed, nor quarantined.
  bool caught_up = false;                       // Nothing is known to lie behind previous_offset.
};

// A tick to be appended to a partition.
struct DueTick {
  std::int32_t partition = 0;
  std::int64_t predecessor_offset = -1;
  std::int64_t time_ms = 0;
};

// Says when a partition has been silent for so long that its author must move its time, and to which time.
//
// Where: beside a stage that reads a live topic; its owner appends the ticks to the log, where every reader, the owner
// included, finds and judges them. So nothing said here is binding: a tick that is not due for the log is void for everybody.
// Pure: it is told the monotonic time, and knows no wall clock. Thread-compatible; state of a few words a partition.
//
// - Silence is the time without an event of a user; what is malformed or from the future does not end it, nor does a void tick.
// - A partition is ticked whether or not it has open sessions: whoever merges partitions waits for the stream time of each.
// - A tick's time is the stream time plus idle_timeout. A partition that never had a stream time begins with the smallest of the
//   others here, if any has one.
// - Silence goes on over a tick that was taken: stream time keeps pace with the monotonic clock, however late the looks come. But
//   no more than one timeout is made up for: a process that stood still for an hour does not come back with a burst of ticks.
// - One tick is under way at a time. One that had no effect (void, or lost) is due again after another timeout.
class IdleClock {
 public:
  explicit IdleClock(std::int64_t idle_timeout_ms) : idle_timeout_ms_(idle_timeout_ms) {}  // REQUIRES: > 0.

  // Returns the ticks that are due now. `owned`: all partitions of this process; one that is no longer among them is forgotten.
  // REQUIRES: monotonic_us never goes back.
  std::vector<DueTick> Look(const std::map<std::int32_t, PartitionPulse>& owned, std::int64_t monotonic_us);

 private:
  struct Silence {
    std::uint64_t events = 0;             // As of its beginning; so is stream time.
    std::int64_t stream_time_ms = 0;
    std::int64_t since_us = 0;            // The instant to which that stream time belongs.
    std::optional<std::int64_t> said_us;  // When the tick under way was said, and …
    std::int64_t said_time_ms = 0;        // … the time that it carries.
  };
  void Follow(const PartitionPulse& pulse, std::int64_t monotonic_us, Silence* silence) const;

  const std::int64_t idle_timeout_ms_;
  std::map<std::int32_t, Silence> silences_;
};

}  // namespace fuseline
