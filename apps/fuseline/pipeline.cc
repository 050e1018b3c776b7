#include "pipeline.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "fuseline/core/backoff.h"
#include "fuseline/core/bounded_queue.h"
#include "fuseline/core/stage.h"
#include "fuseline/ingest/accounting.h"
#include "fuseline/proto/offset_metadata.h"
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

std::map<std::int32_t, std::optional<std::int64_t>> PipelineStatus::stream_time_lags_ms() const {
  std::int64_t latest_ms = kBeforeTimeMs;
  for (const auto& [number, partition] : partitions) latest_ms = std::max(latest_ms, partition.stream_time_ms);
  std::map<std::int32_t, std::optional<std::int64_t>> lags;
  for (const auto& [number, partition] : partitions) {
    const bool has_time = partition.stream_time_ms != kBeforeTimeMs;
    lags[number] = has_time ? std::optional(latest_ms - partition.stream_time_ms) : std::nullopt;
  }
  return lags;
}

std::optional<std::int32_t> PipelineStatus::waits_for_partition() const {
  if (accounting().trajectories() <= learner.trajectories) return std::nullopt;
  const auto earlier = [](const auto& a, const auto& b) { return a.second.stream_time_ms < b.second.stream_time_ms; };
  const auto [first, last] = std::ranges::minmax_element(partitions, earlier);
  if (first == last || !earlier(*first, *last)) return std::nullopt;
  return first->first;
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
  std::set<std::int32_t> paused;
  while (!stop.stop_requested() && !parts_.source->finished()) {
    FUSELINE_RETURN_IF_ERROR(HoldBack(paused));
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

// A partition waits at its source while its outbox is full; the others go on, or the learner would wait for them for ever.
Status Pipeline::HoldBack(std::set<std::int32_t>& paused) {
  const auto full = status_.With([](const PipelineStatus& status) { return status.full; });
  if (full == paused) return OkStatus();
  std::vector<std::int32_t> begin, end;
  std::ranges::set_difference(full, paused, std::back_inserter(begin));
  std::ranges::set_difference(paused, full, std::back_inserter(end));
  paused = full;
  FUSELINE_RETURN_IF_ERROR(parts_.source->Pause(begin));
  return parts_.source->Resume(end);
}

// --- sessionizer's thread ---

Status Pipeline::MakeSessions(std::stop_token stop) {
  FUSELINE_RETURN_IF_ERROR(OfferTrajectories(stop));  // What a former life left in the outbox.
  while (!stop.stop_requested() && !queues_->batches.exhausted()) {
    auto batch = queues_->batches.Pop(kQueueWaitMs);
    if (batch) FUSELINE_RETURN_IF_ERROR(parts_.sessionizer->Process(std::move(*batch)));
    // A full outbox is emptied by a commit, whether or not there is anything new to commit.
    const bool commits = parts_.sessionizer->NeedsCommit() || IsHeldBack();
    if (commits) FUSELINE_RETURN_IF_ERROR(CommitSessions());
    if (commits || !all_offered_) FUSELINE_RETURN_IF_ERROR(OfferTrajectories(stop));
  }
  FUSELINE_RETURN_IF_ERROR(CommitSessions());
  do {
    FUSELINE_RETURN_IF_ERROR(OfferTrajectories(stop));
  } while (!all_offered_ && SleepFor(stop, 1));
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
    const Status told = parts_.source->Commit({{partition, {committable->offset, EncodeOffsetMetadata(committable->metadata)}}});
    // Local state is newer than the group's word, which only tells others; the next commit says it again.
    if (!told.ok()) instruments_.log.Warn("ingest.offset_not_committed", "partition", partition, "reason", told.message);
  }
  return OkStatus();
}

Status Pipeline::OfferTrajectories(std::stop_token stop) {
  all_offered_ = true;
  for (const std::int32_t partition : parts_.partitions) {
    FUSELINE_ASSIGN_OR_RETURN(const bool offered, OfferFrom(partition, stop));
    all_offered_ = all_offered_ && offered;
  }
  status_.With([](PipelineStatus& status) { status.offering = false; });
  return OkStatus();
}

bool Pipeline::IsHeldBack() const {
  return status_.With([](const PipelineStatus& status) { return !status.full.empty(); });
}

bool Pipeline::IsAhead(std::int32_t partition) const {
  return status_.With([&](const PipelineStatus& status) { return status.ahead.contains(partition); });
}

// Returns whether all was offered; what was not stays in the outbox.
Result<bool> Pipeline::OfferFrom(std::int32_t partition, std::stop_token stop) {
  for (;;) {
    if (IsAhead(partition)) return false;
    const auto last = offered_.find(partition);
    const auto after = last == offered_.end() ? std::nullopt : std::optional(last->second);
    FUSELINE_ASSIGN_OR_FAIL(const std::vector<OutboxEntry> page, parts_.sessionizer->Outbox(partition, after, kOutboxPage));
    if (page.empty()) break;
    for (const auto& [name, bytes] : page) {
      v1::TrajectoryRecord record;
      if (!record.mutable_trajectory()->ParseFromString(bytes)) {
        return Error(Code::kCorrupt, "saved trajectory is not readable:", NameText(name));
      }
      freshness_.Closed(record.trajectory(), instruments_.clock.wall_ms());
      if (!PushOrStop(queues_->trajectories, record, stop)) return false;
      offered_[partition] = name;
    }
  }
  v1::TrajectoryRecord record;
  *record.mutable_progress() = parts_.sessionizer->ProgressMark(partition);
  return PushOrStop(queues_->trajectories, record, stop);
}

void Pipeline::NotePartition(std::int32_t partition) {
  status_.With([&, now = StatusOf(parts_.sessionizer->Position(partition)),
                is_full = parts_.sessionizer->outbox_full(partition)](PipelineStatus& status) {
    status.partitions[partition] = now;
    if (is_full) status.full.insert(partition);
    if (!is_full) status.full.erase(partition);
    status.offering = true;
    status.idle = false;
  });
}

// --- learner's thread ---

Status Pipeline::Learn(std::stop_token stop) {
  Learner& learner = *parts_.learner;
  std::uint64_t checkpointed = 0;  // Trajectories covered by the last checkpoint that was made early.
  if (auto pending = learner.PendingVersion()) parts_.publication->Store(std::move(*pending));
  while (!stop.stop_requested()) {
    while (const auto stored = parts_.publication->TakeStored()) FUSELINE_RETURN_IF_ERROR(learner.MarkStored(*stored));
    if (auto failure = parts_.publication->failure()) return *std::move(failure);
    FUSELINE_RETURN_IF_ERROR(LearnFromParked());
    if (queues_->trajectories.exhausted() && parked_.empty() && learner.idle() && !learner.PendingVersion()) break;

    // A handful of records for each bout of training: neither starves the other.
    for (int i = 0; i < kRecordsPerAdvance; ++i) {
      auto record = queues_->trajectories.Pop(i == 0 && learner.idle() ? kQueueWaitMs : 0);
      if (!record) break;
      FUSELINE_RETURN_IF_ERROR(LearnFrom(std::move(*record)));
    }
    FUSELINE_RETURN_IF_ERROR(AdvanceLearner());

    // A full outbox waits for a checkpoint, which may wait for sessions that are still held back: then it is made early.
    if (!learner.idle() || learner.progress().trajectories == checkpointed || !IsHeldBack()) continue;
    FUSELINE_RETURN_IF_ERROR(learner.Checkpoint());
    checkpointed = learner.progress().trajectories;
    NoteLearner();
  }
  FUSELINE_RETURN_IF_ERROR(learner.Checkpoint());
  NoteLearner();
  return OkStatus();
}

// The learner holds so many trajectories of a partition and no more. Learning makes room; where it cannot, because the merge order
// waits for a partition that is behind, the record steps aside for the others.
Status Pipeline::LearnFrom(v1::TrajectoryRecord record) {
  const std::int32_t partition = record.has_trajectory() ? record.trajectory().name().partition() : record.progress().partition();
  if (const auto parked = parked_.find(partition); parked != parked_.end()) {
    parked->second.push_back(std::move(record));
    return OkStatus();
  }
  for (;;) {
    Status offered = parts_.learner->Offer(record);
    if (offered.code != Code::kUnavailable) return offered;
    if (parts_.learner->idle()) break;
    FUSELINE_RETURN_IF_ERROR(AdvanceLearner());
  }
  parked_[partition].push_back(std::move(record));
  status_.With([&](PipelineStatus& status) { status.ahead.insert(partition); });
  return OkStatus();
}

Status Pipeline::LearnFromParked() {
  for (auto partition = parked_.begin(); partition != parked_.end();) {
    std::deque<v1::TrajectoryRecord>& records = partition->second;
    while (!records.empty()) {
      Status offered = parts_.learner->Offer(records.front());
      if (offered.code == Code::kUnavailable) break;
      FUSELINE_RETURN_IF_ERROR(std::move(offered));
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
  const bool idle = parts_.learner->idle() && !parts_.learner->PendingVersion();
  status_.With([&, progress = parts_.learner->progress(), names = parts_.learner->DurableNames()](PipelineStatus& status) {
    // Looked at under this lock: what is no longer being offered is in the queue, or was taken by this thread.
    status.idle = idle && !status.offering && queues_->trajectories.size() == 0 && queues_->batches.size() == 0;
    status.learner = progress;
    status.learned_names = names;
  });
}

}  // namespace fuseline
