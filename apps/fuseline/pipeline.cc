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
  FUSELINE_RETURN_IF_ERROR(AcknowledgeLearned());
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
    if (batch->has_value() && !PushOrStop(queues_->batches, **batch, stop)) break;
  }
  queues_->batches.Close();
  return OkStatus();
}

// --- sessionizer's thread ---

Status Pipeline::MakeSessions(std::stop_token stop) {
  Sessionizer& sessionizer = *parts_.sessionizer;
  const std::int64_t interval_us = config_.sessionizer().commit_interval_ms() * 1'000;
  std::int64_t committed_us = instruments_.clock.monotonic_us();
  FUSELINE_RETURN_IF_ERROR(OfferTrajectories(stop));  // What a former life left in the outbox.

  while (!stop.stop_requested() && !queues_->batches.exhausted()) {
    auto batch = queues_->batches.Pop(kQueueWaitMs);
    if (batch) FUSELINE_RETURN_IF_ERROR(sessionizer.Process(std::move(*batch)));
    const std::int64_t now_us = instruments_.clock.monotonic_us();
    if (!sessionizer.NeedsCommit() && now_us - committed_us < interval_us) continue;
    committed_us = now_us;
    FUSELINE_RETURN_IF_ERROR(AcknowledgeLearned());
    FUSELINE_RETURN_IF_ERROR(CommitSessions());
    FUSELINE_RETURN_IF_ERROR(OfferTrajectories(stop));
  }
  FUSELINE_RETURN_IF_ERROR(CommitSessions());
  FUSELINE_RETURN_IF_ERROR(OfferTrajectories(stop));
  queues_->trajectories.Close();
  return OkStatus();
}

}  // namespace fuseline
