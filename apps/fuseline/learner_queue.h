#pragma once

#include "freshness.h"
#include "fuseline/core/bounded_queue.h"
#include "fuseline/core/clock.h"
#include "pipeline_status.h"
#include "trajectory_sink.h"

namespace fuseline {

using TrajectoryQueue = BoundedQueue<v1::TrajectoryRecord>;

// The way to a learner in the same process. Durable is what a checkpoint of the learner covers.
class LearnerQueue final : public TrajectorySink {
 public:
  // All are borrowed for its life.
  LearnerQueue(TrajectoryQueue& queue, const StatusBoard& status, Freshness& freshness, const Clock& clock)
      : queue_(queue), status_(status), freshness_(freshness), clock_(clock) {}

  Room RoomFor(std::int32_t partition) const override;
  Result<bool> Offer(const OutboxEntry& entry) override;
  Result<bool> Offer(const v1::ProgressMark& mark) override;
  std::map<std::int32_t, v1::TrajectoryName> Durable(std::int64_t wait_ms) override;
  bool TakeSetback() override { return false; }
  Status CheckHolds(const v1::TrajectoryName& last) const override;
  void Forget(std::int32_t) override {}
  void Close() override { queue_.Close(); }

 private:
  TrajectoryQueue& queue_;
  const StatusBoard& status_;
  Freshness& freshness_;
  const Clock& clock_;
};

}  // namespace fuseline
