#pragma once

#include <cstdint>
#include <map>

#include "fuseline/core/status.h"
#include "fuseline/sessionizer/sessionizer.h"

namespace fuseline {

// Where closed sessions go: the learner's queue in this process, or a topic. What it has not made durable stays in the
// sessionizer's outbox and is offered again: so a sink may lose anything, and must never let one go past one that it lost.
// Thread-compatible: the session stage is the only caller.
class TrajectorySink {
 public:
  virtual ~TrajectorySink() = default;

  enum class Room {
    kNow,
    kLater,
    kAfterOthers,  // Not before other partitions have caught up, which may be never.
  };
  virtual Room RoomFor(std::int32_t partition) const = 0;

  // Takes the next entry of a partition, in the order of names. Returns false, and takes nothing, where there is no room after all.
  // Errors: kCorrupt if the entry is no trajectory.
  virtual Result<bool> Offer(const OutboxEntry& entry) = 0;
  // The same for a mark, after every entry that it speaks of.
  virtual Result<bool> Offer(const v1::ProgressMark& mark) = 0;

  // The newest name of each partition that is durable now, with everything before it. Waits up to `wait_ms` for news.
  virtual std::map<std::int32_t, v1::TrajectoryName> Durable(std::int64_t wait_ms) = 0;

  // True once after something was lost: everything that is not durable must be offered again, of all partitions.
  virtual bool TakeSetback() = 0;

  // Whether the receiver may be believed to hold `last` and all before it, as the group's word about a partition says.
  // Errors: kInvalidInput if it knows better.
  virtual Status CheckHolds(const v1::TrajectoryName& last) const = 0;

  virtual void Forget(std::int32_t partition) = 0;  // It has left this process.
  virtual void Close() = 0;                         // Nothing more will be offered.
};

}  // namespace fuseline
