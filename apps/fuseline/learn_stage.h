#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <stop_token>

#include "experiment_watch.h"
#include "freshness.h"
#include "learner_queue.h"
#include "pipeline_status.h"
#include "publication.h"

namespace fuseline {

// Trajectories from a queue → learner → archive → Redis: the part that `fuseline run` and `fuseline learn` share. A version stays
// pending until the archive has it, so this may be killed at any moment. The scorer's versions, where the learner learns one, go the
// same way beside it. One thread runs it.
class LearnStage {
 public:
  // `stops_partitions`: what cannot follow in a partition (a gap in the names) stops that partition with an alarm, for ever, instead of
  // ending Run. The merge order then waits for it, once the others have gone as far as they may.
  // `scorers`: null where scorer.learn is false.
  LearnStage(const v1::Config& config, std::unique_ptr<Learner> learner, std::unique_ptr<Publication> publication,
             std::unique_ptr<Publication> scorers, TrajectoryQueue& queue, bool stops_partitions, Freshness& freshness, StatusBoard& status,
             Instruments instruments);
  ~LearnStage();

  // Until the queue is closed and all of it is learned from, or a stop is asked for; then it is checkpointed.
  // REQUIRES: the queue brings partitions [0, partitions).
  Status Run(int partitions, std::stop_token stop);

  const Learner& learner() const { return *learner_; }
  void NotePublications(PipelineStatus& status) const;  // Thread-safe.

 private:
  Status HearPublications();
  bool HasPending() const { return learner_->PendingVersion() || learner_->PendingScorerVersion(); }
  Status Take(v1::TrajectoryRecord record);
  Result<bool> Offer(const v1::TrajectoryRecord& record);
  Status TakeParked();
  Status Follow(const v1::Act& act);
  Status Advance();
  void Note();
  bool IsHeldBack() const;

  const std::unique_ptr<Learner> learner_;
  const std::unique_ptr<Publication> publication_, scorers_;
  ExperimentWatch experiments_;
  TrajectoryQueue& queue_;
  const bool stops_partitions_;
  Freshness& freshness_;
  StatusBoard& status_;
  Instruments instruments_;
  // What came of partitions that are ahead. No longer than the queue and a page: no more is offered of them.
  std::map<std::int32_t, std::deque<v1::TrajectoryRecord>> parked_;
  std::set<std::int32_t> stopped_;
};

// Says on the status board, in the log and in a metric that a partition of trajectories is not gone on with. Thread-safe.
void StopPartition(std::int32_t partition, const std::string& reason, StatusBoard& status, Instruments instruments);

}  // namespace fuseline
