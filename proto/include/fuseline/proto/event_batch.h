#pragma once

#include <cstdint>
#include <vector>

#include "fuseline/proto/byte_arena.h"
#include "fuseline/proto/event_time.h"
#include "fuseline/proto/event_view.h"

namespace fuseline {

// What decoding made of one record. Those without an event travel too: their counters are committed with the offsets
// they belong to.
enum class RecordFate : std::uint8_t {
  kEvent,
  kMalformed,
  kQuarantined,
  // A control record whose time is further ahead of its Kafka record's timestamp than max_future_ms: counted as control, has
  // no effect and moves no clock.
  kVoidControl,
};

struct Record {
  std::int64_t offset = 0;
  RecordFate fate = RecordFate::kEvent;
  EventView event;  // Valid when fate is kEvent: exposure, feedback or control.
};

// Consecutive records of one partition, checked once for their whole life. From ingest to the sessionizer.
// Owns the bytes that its records view: they are valid while the batch lives, and as it is moved.
struct EventBatch {
  std::int32_t partition = 0;
  std::vector<Record> records;    // By offset; offsets may have holes (compacted or aborted records).
  std::int64_t next_offset = 0;   // Where to go on after this batch.
  bool end_of_input = false;      // A finite input ends here: what is open is flushed.
  ByteArena bytes;
};

}  // namespace fuseline
