#include "learn_stage.h"

#include <utility>

namespace fuseline {
namespace {

constexpr std::int64_t kQueueWaitMs = 20;  // How long to wait for work before looking at the stop token.
constexpr int kRecordsPerAdvance = 32;

std::int32_t PartitionOf(const v1::TrajectoryRecord& record) {
  return record.has_trajectory() ? record.trajectory().name().partition() : record.progress().partition();
}

}  // namespace

void StopPartition(std::int32_t partition, const std::string& reason, StatusBoard& status, Instruments instruments) {
  const std::size_t stopped = status.With([&](PipelineStatus& now) {
    now.stopped.emplace(partition, reason);
    return now.stopped.size();
  });
  instruments.log.Error("learner.partition_stopped", "partition", partition, "reason", reason);
  instruments.metrics.GetGauge("fuseline_learner_partitions_stopped", "partitions that are not learned from any more: somebody must act")
      .Set(static_cast<double>(stopped));
}

LearnStage::LearnStage(const v1::Config& config, std::unique_ptr<Learner> learner, std::unique_ptr<Publication> publication,
                       std::unique_ptr<Publication> scorers, TrajectoryQueue& queue, bool stops_partitions, Freshness& freshness,
                       StatusBoard& status, Instruments instruments)
    : learner_(std::move(learner)),
      publication_(std::move(publication)),
      scorers_(std::move(scorers)),
      experiments_(config, *learner_, *publication_, instruments),
      queue_(queue),
      stops_partitions_(stops_partitions),
      freshness_(freshness),
      status_(status),
      instruments_(instruments) {
  if (scorers_) {
    learner_->OnMerged([this](const v1::Trajectory& trajectory) {
      if (!trajectory.steps().empty()) scorers_->Served(trajectory.steps(0).exposure().scorer_version());
    });
  }
  Note();
}

LearnStage::~LearnStage() = default;

Status LearnStage::Run(int partitions, std::stop_token stop) {
  learner_->ExpectPartitions(partitions);
  std::uint64_t checkpointed = 0;  // Trajectories covered by the last checkpoint that was made early.
  if (auto pending = learner_->PendingVersion()) publication_->Store(std::move(*pending));
  if (auto pending = learner_->PendingScorerVersion()) scorers_->Store(std::move(*pending));
  while (!stop.stop_requested()) {
    FUSELINE_RETURN_IF_ERROR(HearPublications());
    FUSELINE_RETURN_IF_ERROR(TakeParked());
    if (queue_.exhausted() && parked_.empty() && learner_->idle() && !HasPending()) break;

    // A handful of records for each bout of training: neither starves the other.
    for (int i = 0; i < kRecordsPerAdvance; ++i) {
      auto record = queue_.Pop(i == 0 && learner_->idle() ? kQueueWaitMs : 0);
      if (!record) break;
      FUSELINE_RETURN_IF_ERROR(Take(std::move(*record)));
    }
    FUSELINE_RETURN_IF_ERROR(Advance());

    // A full outbox waits for a checkpoint, which may wait for sessions that are still held back: then it is made early.
    if (!learner_->idle() || learner_->progress().trajectories == checkpointed || !IsHeldBack()) continue;
    FUSELINE_RETURN_IF_ERROR(learner_->Checkpoint());
    checkpointed = learner_->progress().trajectories;
    Note();
  }
  FUSELINE_RETURN_IF_ERROR(learner_->Checkpoint());
  Note();
  status_.With([&, digest = learner_->WeightsSha256()](PipelineStatus& status) { status.weights_sha256 = digest; });
  return OkStatus();
}

Status LearnStage::HearPublications() {
  while (const auto stored = publication_->TakeStored()) FUSELINE_RETURN_IF_ERROR(learner_->MarkStored(*stored));
  while (const auto act = publication_->TakeAct()) FUSELINE_RETURN_IF_ERROR(Follow(*act));
  if (auto failure = publication_->failure()) return *std::move(failure);
  if (!scorers_) return OkStatus();
  while (const auto stored = scorers_->TakeStored()) FUSELINE_RETURN_IF_ERROR(learner_->MarkScorerStored(*stored));
  while (scorers_->TakeAct()) {}  // Nobody explores around a scorer: whichever serves, it learns the same.
  return scorers_->failure().value_or(OkStatus());
}

void LearnStage::NotePublications(PipelineStatus& status) const {
  status.publication = publication_->status();
  if (scorers_) status.scorer_publication = scorers_->status();
}

// An act that cannot be followed changes nothing here: rankers have moved all the same, and somebody must know.
Status LearnStage::Follow(const v1::Act& act) {
  Status followed = learner_->Act(act);
  if (followed.code != Code::kNotFound && followed.code != Code::kInvalidInput) return followed;
  instruments_.log.Error("learner.act_refused", "incumbent", act.incumbent(), "who", act.who(), "reason", followed.message);
  return OkStatus();
}

bool LearnStage::IsHeldBack() const {
  return status_.With([](const PipelineStatus& status) { return !status.full.empty(); });
}

// The learner holds so many trajectories of a partition and no more. Learning makes room; where it cannot, because the merge order
// waits for a partition that is behind, the record steps aside for the others.
Status LearnStage::Take(v1::TrajectoryRecord record) {
  const std::int32_t partition = PartitionOf(record);
  if (const auto parked = parked_.find(partition); parked != parked_.end()) {
    parked->second.push_back(std::move(record));
    return OkStatus();
  }
  for (;;) {
    FUSELINE_ASSIGN_OR_RETURN(const bool taken, Offer(record));
    if (taken) return OkStatus();
    if (learner_->idle()) break;
    FUSELINE_RETURN_IF_ERROR(Advance());
  }
  parked_[partition].push_back(std::move(record));
  status_.With([&](PipelineStatus& status) { status.ahead.insert(partition); });
  return OkStatus();
}

// Returns false where the record must wait. The learner drops repeats itself; what comes of a stopped partition is nobody's.
Result<bool> LearnStage::Offer(const v1::TrajectoryRecord& record) {
  const std::int32_t partition = PartitionOf(record);
  if (stopped_.contains(partition)) return true;
  Status offered = learner_->Offer(record);
  if (offered.ok()) return true;
  if (offered.code == Code::kUnavailable) return false;
  if (!stops_partitions_ || offered.code != Code::kCorrupt) return tl::unexpected(std::move(offered));
  stopped_.insert(partition);
  StopPartition(partition, offered.message, status_, instruments_);
  return true;
}

Status LearnStage::TakeParked() {
  for (auto partition = parked_.begin(); partition != parked_.end();) {
    std::deque<v1::TrajectoryRecord>& records = partition->second;
    while (!records.empty()) {
      FUSELINE_ASSIGN_OR_RETURN(const bool taken, Offer(records.front()));
      if (!taken) break;
      records.pop_front();
    }
    if (!records.empty()) {
      ++partition;
      continue;
    }
    status_.With([&](PipelineStatus& status) { status.ahead.erase(partition->first); });
    partition = parked_.erase(partition);
  }
  return OkStatus();
}

Status LearnStage::Advance() {
  auto version = learner_->Advance();
  if (!version) return std::move(version).error();
  Note();
  if (!version->has_value()) return OkStatus();
  if ((*version)->manifest.has_scorer()) {
    scorers_->Store(std::move(**version));
    return OkStatus();
  }
  if ((*version)->manifest.gate().passed()) {
    freshness_.Learned((*version)->manifest.version(), learner_->DurableNames(), instruments_.clock.wall_ms());
  }
  publication_->Store(std::move(**version));
  return OkStatus();
}

void LearnStage::Note() {
  const bool idle = learner_->idle() && !HasPending();
  status_.With([&, progress = learner_->progress(), names = learner_->DurableNames()](PipelineStatus& status) {
    // Looked at under this lock: what is no longer being offered is in the queue, or was taken by this thread.
    status.idle = idle && !status.offering && queue_.size() == 0;
    status.learner = progress;
    status.learned_names = names;
  });
}

}  // namespace fuseline
