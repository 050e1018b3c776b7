#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>

#include "fuseline/core/status.h"
#include "fuseline/kafka/connection.h"
#include "fuseline/proto/event_batch.h"

namespace fuseline {

// Bytes in a topic or in files → decoded events, in order per partition. The first room of the flow.
//
// Every record read appears in exactly one batch, whatever its fate. A batch is handed over only after the dead letters of
// its records are durable, so whoever commits its offsets, wherever, loses none of them; a source may read on meanwhile.
// Thread-compatible: one owner thread, which keeps calling Next even when everything is paused (a group evicts members
// that do not).
class EventSource {
 public:
  virtual ~EventSource() = default;

  // The next batch of one partition, or none if `timeout_ms` passed without any. After an error the same call may be
  // made again: nothing was lost or skipped.
  // Errors: kUnavailable: back off and call again. kCorrupt: the log does not hold the position any more, or is damaged.
  //         kConflict: the group fenced this member. Others: stop.
  virtual Result<std::optional<EventBatch>> Next(std::int64_t timeout_ms) = 0;

  // Back-pressure: a paused partition gives nothing until resumed. Unknown partitions are ignored.
  virtual Status Pause(std::span<const std::int32_t> partitions) = 0;
  virtual Status Resume(std::span<const std::int32_t> partitions) = 0;

  // Tells the outside how far this reader is done. A file source has nobody to tell.
  virtual Status Commit(const std::map<std::int32_t, kafka::CommittedOffset>& offsets) = 0;

  // Everything that the partition holds now was handed over: whoever waits for more, waits for its producers.
  virtual bool caught_up(std::int32_t partition) const = 0;

  // A finite input has given its last batch (end_of_input) of every partition.
  virtual bool finished() const = 0;
};

}  // namespace fuseline
