#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "fuseline/v1/event.pb.h"

namespace fuseline {

// What decoding made of one record. Malformed and quarantined records travel too: their counters are committed with
// the offsets they belong to.
enum class RecordFate : std::uint8_t { kEvent, kMalformed, kQuarantined };

struct Record {
  std::int64_t offset = 0;
  RecordFate fate = RecordFate::kEvent;
  v1::Event event;  // Valid when fate is kEvent: exposure, feedback or control.
};

// Consecutive records of one partition, decoded once for their whole life. From ingest to the sessionizer.
struct EventBatch {
  std::int32_t partition = 0;
  std::vector<Record> records;    // By offset; offsets may have holes (compacted or aborted records).
  std::int64_t next_offset = 0;   // Where to go on after this batch.
  bool end_of_input = false;      // A finite input ends here: what is open is flushed.
};

// Stream time before the first event, and after the end of a finite input.
inline constexpr std::int64_t kBeforeTimeMs = std::numeric_limits<std::int64_t>::min() / 4;
inline constexpr std::int64_t kEndOfTimeMs = std::numeric_limits<std::int64_t>::max() / 4;

}  // namespace fuseline
