#include "pipeline.h"

#include <algorithm>
#include <utility>

#include "fuseline/core/backoff.h"
#include "fuseline/core/bounded_queue.h"
#include "fuseline/core/stage.h"
#include "fuseline/ingest/accounting.h"
#include "fuseline/proto/trajectory_name.h"

namespace fuseline {
namespace {

constexpr std::int64_t kQueueWaitMs = 20;  // How long a stage waits for work before it looks at its stop token.
constexpr std::size_t kOutboxPage = 256;
constexpr int kRecordsPerAdvance = 32;

// Waits for room as long as nobody asks to stop. Returns false when stopped or closed.
template <typename T>
bool PushOrStop(BoundedQueue<T>& queue, T& value, const std::stop_token& stop) {
  while (!queue.TryPush(value)) {
    if (queue.closed() || !SleepFor(stop, 1)) return false;
  }
  return true;
}

}  // namespace

StateFolders::StateFolders(std::filesystem::path state_root)
    : root(std::move(state_root)), sessions(root / "sessions"), learner(root / "learner"), versions(root / "policy") {}

v1::Accounting PipelineStatus::accounting() const {
  v1::Accounting total;
  for (const auto& [number, partition] : partitions) AddAccounting(partition.accounting, &total);
  return total;
}

PartitionStatus StatusOf(const PartitionPosition& position) {
  return {position.next_offset, position.stream_time_ms, position.open_sessions, position.accounting};
}

std::uint64_t PipelineStatus::learner_backlog() const {
  const std::uint64_t closed = accounting().trajectories();
  return closed - std::min(closed, learner.trajectories + learner.waiting);
}

struct Pipeline::Queues {
  explicit Queues(const v1::Config& config)
      : batches(static_cast<std::size_t>(config.ingest().queue_batches())),
        trajectories(static_cast<std::size_t>(config.learner().queue_trajectories())) {}
  BoundedQueue<EventBatch> batches;
  BoundedQueue<v1::TrajectoryRecord> trajectories;
};

Pipeline::Pipeline(const v1::Config& config, Parts parts, Freshness& freshness, Instruments instruments)
    : config_(config),
      parts_(std::move(parts)),
      freshness_(freshness),
      instruments_(instruments),
      queues_(std::make_unique<Queues>(config)) {
  parts_.learner->ExpectPartitions(static_cast<int>(parts_.partitions.size()));
  for (const std::int32_t partition : parts_.partitions) NotePartition(partition);
  NoteLearner();
}

Pipeline::~Pipeline() = default;

Status Pipeline::Run(std::stop_token stop) {
  std::stop_source failed;  // The first stage that fails stops the others.
  const auto guarded = [&](auto body) {
    return [this, body, &failed](std::stop_token token) {
      Status status = (this->*body)(token);
      if (!status.ok()) failed.request_stop();
      return status;
    };
  };
  Stage learn("learner", guarded(&Pipeline::Learn));
  Stage sessions("sessionizer", guarded(&Pipeline::MakeSessions));
  Stage ingest("ingest", guarded(&Pipeline::Ingest));
  {
    const auto stop_all = [&] {
      ingest.RequestStop();
      sessions.RequestStop();
      learn.RequestStop();
    };
    std::stop_callback on_stop(stop, stop_all);
    std::stop_callback on_failure(failed.get_token(), stop_all);
    // In the order of the data: what a stage leaves behind is still taken by the next.
    const Status outcomes[] = {ingest.Join(), sessions.Join(), learn.Join()};
    for (const Status& outcome : outcomes) FUSELINE_RETURN_IF_ERROR(Status(outcome));
  }
  // The learner's last checkpoint covers more than the sessionizer has heard of.
  FUSELINE_RETURN_IF_ERROR(CommitSessions());
  status_.With([&](PipelineStatus& status) { status.weights_sha256 = parts_.learner->WeightsSha256(); });
  return OkStatus();
}

PipelineStatus Pipeline::status() const {
  PipelineStatus status = status_.Copy();
  if (parts_.publication != nullptr) status.publication = parts_.publication->status();
  return status;
}

// --- ingest's thread ---

Status Pipeline::Ingest(std::stop_token stop) {
  Backoff backoff(10, 5'000, config_.fuseline().seed());
  while (!stop.stop_requested() && !parts_.source->finished()) {
    auto batch = parts_.source->Next(config_.ingest().poll_timeout_ms());
    if (!batch && batch.error().code == Code::kUnavailable) {
      instruments_.log.Warn("ingest.source_unavailable", "reason", batch.error().message);
      SleepFor(stop, backoff.NextMs());
      continue;
    }
    if (!batch) return std::move(batch).error();
    backoff.Reset();
    const std::size_t records = batch->has_value() ? (*batch)->records.size() : 0;
    if (batch->has_value() && !PushOrStop(queues_->batches, **batch, stop)) break;
    const InputProgress progress = parts_.input_progress ? parts_.input_progress() : InputProgress();
    status_.With([&](PipelineStatus& status) {
      status.ingested += records;
      status.input = progress;
    });
  }
  queues_->batches.Close();
  return OkStatus();
}

// --- sessionizer's thread ---

Status Pipeline::MakeSessions(std::stop_token stop) {
  FUSELINE_RETURN_IF_ERROR(OfferTrajectories(stop));  // What a former life left in the outbox.
  while (!stop.stop_requested() && !queues_->batches.exhausted()) {
    auto batch = queues_->batches.Pop(kQueueWaitMs);
    if (batch) FUSELINE_RETURN_IF_ERROR(parts_.sessionizer->Process(std::move(*batch)));
    if (!parts_.sessionizer->NeedsCommit()) continue;
    FUSELINE_RETURN_IF_ERROR(CommitSessions());
    FUSELINE_RETURN_IF_ERROR(OfferTrajectories(stop));
  }
  FUSELINE_RETURN_IF_ERROR(CommitSessions());
  FUSELINE_RETURN_IF_ERROR(OfferTrajectories(stop));
  queues_->trajectories.Close();
  return OkStatus();
}

// One durable step: what the learner has made durable leaves the outbox, and what that covers is said to the source's group.
Status Pipeline::CommitSessions() {
  Sessionizer& sessionizer = *parts_.sessionizer;
  const auto learned = status_.With([](const PipelineStatus& status) { return status.learned_names; });
  for (const auto& [partition, name] : learned) sessionizer.Acknowledge(name);
  FUSELINE_RETURN_IF_ERROR(sessionizer.Commit());
  for (const std::int32_t partition : parts_.partitions) {
    NotePartition(partition);
    const auto committable = sessionizer.Committable(partition);
    if (!committable || config_.kafka().group_id().empty()) continue;
    const Status told = parts_.source->Commit(partition, committable->offset, committable->metadata.SerializeAsString());
    // Local state is newer than the group's word, which only tells others; the next commit says it again.
    if (!told.ok()) instruments_.log.Warn("ingest.offset_not_committed", "partition", partition, "reason", told.message);
  }
  return OkStatus();
}

Status Pipeline::OfferTrajectories(std::stop_token stop) {
  for (const std::int32_t partition : parts_.partitions) FUSELINE_RETURN_IF_ERROR(OfferFrom(partition, stop));
  return OkStatus();
}

Status Pipeline::OfferFrom(std::int32_t partition, std::stop_token stop) {
  for (;;) {
    const auto last = offered_.find(partition);
    const auto after = last == offered_.end() ? std::nullopt : std::optional(last->second);
    FUSELINE_ASSIGN_OR_RETURN(std::vector<v1::Trajectory> page, parts_.sessionizer->Outbox(partition, after, kOutboxPage));
    if (page.empty()) break;
    for (v1::Trajectory& trajectory : page) {
      freshness_.Closed(trajectory, instruments_.clock.wall_ms());
      offered_[partition] = trajectory.name();
      v1::TrajectoryRecord record;
      *record.mutable_trajectory() = std::move(trajectory);
      if (!PushOrStop(queues_->trajectories, record, stop)) return OkStatus();  // It stays in the outbox.
    }
  }
  v1::TrajectoryRecord record;
  *record.mutable_progress() = parts_.sessionizer->ProgressMark(partition);
  PushOrStop(queues_->trajectories, record, stop);
  return OkStatus();
}

void Pipeline::NotePartition(std::int32_t partition) {
  status_.With([&, now = StatusOf(parts_.sessionizer->Position(partition))](PipelineStatus& status) {
    status.partitions[partition] = now;
  });
}

// --- learner's thread ---

Status Pipeline::Learn(std::stop_token stop) {
  Learner& learner = *parts_.learner;
  if (auto pending = learner.PendingVersion()) parts_.publication->Store(std::move(*pending));
  while (!stop.stop_requested()) {
    while (const auto stored = parts_.publication->TakeStored()) FUSELINE_RETURN_IF_ERROR(learner.MarkStored(*stored));
    if (auto failure = parts_.publication->failure()) return *std::move(failure);
    if (queues_->trajectories.exhausted() && learner.idle() && !learner.PendingVersion()) break;

    // A handful of records for each bout of training: neither starves the other.
    for (int i = 0; i < kRecordsPerAdvance; ++i) {
      auto record = queues_->trajectories.Pop(i == 0 && learner.idle() ? kQueueWaitMs : 0);
      if (!record) break;
      FUSELINE_RETURN_IF_ERROR(LearnFrom(std::move(*record)));
    }
    FUSELINE_RETURN_IF_ERROR(AdvanceLearner());
  }
  FUSELINE_RETURN_IF_ERROR(learner.Checkpoint());
  NoteLearner();
  return OkStatus();
}

Status Pipeline::LearnFrom(v1::TrajectoryRecord record) {
  for (;;) {
    Status offered = parts_.learner->Offer(record);
    if (offered.code != Code::kUnavailable) return offered;
    FUSELINE_RETURN_IF_ERROR(AdvanceLearner());  // It holds as many as it may; learning from them makes room.
  }
}

Status Pipeline::AdvanceLearner() {
  auto version = parts_.learner->Advance();
  if (!version) return std::move(version).error();
  NoteLearner();
  if (!version->has_value()) return OkStatus();
  if ((*version)->manifest.gate().passed()) {
    freshness_.Learned((*version)->manifest.version(), parts_.learner->DurableNames());
  }
  parts_.publication->Store(std::move(**version));
  return OkStatus();
}

void Pipeline::NoteLearner() {
  const bool idle = queues_->trajectories.size() == 0 && queues_->batches.size() == 0 && parts_.learner->idle();
  status_.With([&, progress = parts_.learner->progress(), names = parts_.learner->DurableNames()](PipelineStatus& status) {
    status.idle = idle;
    status.learner = progress;
    status.learned_names = names;
  });
}

}  // namespace fuseline
