#include "fuseline/sessionizer/sessionizer.h"

#include <deque>
#include <map>
#include <string>
#include <utility>

#include "fuseline/core/check.h"
#include "fuseline/proto/trajectory_name.h"
#include "fuseline/sessionizer/partition_sessions.h"
#include "session_store.h"

namespace fuseline {
namespace {

constexpr std::size_t kCommitPointsMax = 4096;

std::uint64_t Accounted(const v1::Accounting& a) {
  return a.used() + a.pending() + a.duplicate() + a.late() + a.orphan() + a.malformed() + a.quarantined() + a.control();
}

// Counters of this process over all partitions; each moves with the commit that makes it true.
class SessionizerMetrics {
 public:
  explicit SessionizerMetrics(Metrics& metrics)
      : metrics_(metrics),
        repeated_exposures(metrics.GetCounter("fuseline_sessionizer_repeated_exposures_total",
                                              "exposures of a request that its session already had")),
        unknown_kinds(metrics.GetCounter("fuseline_sessionizer_unknown_kinds_total",
                                         "feedback of a kind unknown here, which earned nothing")),
        stubs(metrics.GetCounter("fuseline_sessionizer_stubs_total", "trajectories over max_trajectory_bytes")),
        commits(metrics.GetCounter("fuseline_sessionizer_commits_total", "synced batches")),
        failed_commits(metrics.GetCounter("fuseline_sessionizer_failed_commits_total", "commits that must be repeated")) {}

  void CountClosing(const Closing& closing) {
    repeated_exposures.Increment(static_cast<double>(closing.repeated_exposures));
    unknown_kinds.Increment(static_cast<double>(closing.unknown_kinds));
    if (closing.trajectory && !closing.trajectory->stub_reason().empty()) stubs.Increment();
    Count("fuseline_sessionizer_sessions_total", "closed sessions", "end", v1::SessionEnd_Name(closing.end), 1);
  }

  void CountCommit(std::int32_t partition, const v1::Accounting& before, const v1::Accounting& now,
                   std::uint64_t open_sessions) {
    CountFate("read", before.read(), now.read());
    CountFate("used", before.used(), now.used());
    CountFate("duplicate", before.duplicate(), now.duplicate());
    CountFate("late", before.late(), now.late());
    CountFate("orphan", before.orphan(), now.orphan());
    CountFate("malformed", before.malformed(), now.malformed());
    CountFate("quarantined", before.quarantined(), now.quarantined());
    CountFate("control", before.control(), now.control());
    CountFate("used_over_max_events", before.used_over_max_events(), now.used_over_max_events());
    const MetricLabels labels{{"partition", std::to_string(partition)}};
    metrics_.GetGauge("fuseline_sessionizer_pending_records", "accepted, in open sessions", labels)
        .Set(static_cast<double>(now.pending()));
    metrics_.GetGauge("fuseline_sessionizer_open_sessions", "sessions that are open", labels)
        .Set(static_cast<double>(open_sessions));
    metrics_.GetGauge("fuseline_sessionizer_unaccounted_records", "read less all that became of it: always 0", labels)
        .Set(static_cast<double>(now.read()) - static_cast<double>(Accounted(now)));
  }

 private:
  void Count(const char* name, const char* help, const char* label, const std::string& value, double by) {
    metrics_.GetCounter(name, help, {{label, value}}).Increment(by);
  }
  void CountFate(const char* fate, std::uint64_t before, std::uint64_t now) {
    if (now > before) {
      Count("fuseline_sessionizer_records_total", "records by what became of them", "fate", fate,
            static_cast<double>(now - before));
    }
  }

  Metrics& metrics_;

 public:
  const Counter repeated_exposures, unknown_kinds, stubs, commits, failed_commits;
};

struct Partition {
  Partition(std::int32_t id, const SessionShape& shape, std::int64_t max_trajectory_bytes)
      : sessions(id, shape, max_trajectory_bytes) {}

  PartitionSessions sessions;
  PartitionPosition committed;
  std::deque<v1::TrajectoryName> outstanding;                          // Not acknowledged, in order.
  std::vector<std::pair<v1::TrajectoryName, std::string>> new_trajectories;  // Since the last commit.
  std::vector<v1::TrajectoryName> acknowledged;                        // Since the last commit.
  std::deque<CommittableOffset> commit_points;
  bool changed = false;
};

}  // namespace

struct Sessionizer::Impl {
  Impl(const v1::Sessionizer& from, const Clock& with_clock, Log& with_log, Metrics& with_metrics)
      : settings(from), shape(ShapeOf(from)), clock(with_clock), log(with_log), metrics(with_metrics),
        last_commit_us(with_clock.monotonic_us()) {}

  Partition& PartitionOf(std::int32_t id) {
    return partitions.try_emplace(id, id, shape, settings.max_trajectory_bytes()).first->second;
  }
  const Partition* FindPartition(std::int32_t id) const {
    const auto found = partitions.find(id);
    return found == partitions.end() ? nullptr : &found->second;
  }
  Status Load();
  Status LoadPartition(std::int32_t id, PartitionState state);
  void Keep(Partition& partition, std::vector<Closing> closings);
  void MarkCommitted(std::int32_t id, Partition& partition);

  const v1::Sessionizer settings;
  const SessionShape shape;
  const Clock& clock;
  Log& log;
  SessionizerMetrics metrics;
  std::unique_ptr<SessionStore> store;
  std::map<std::int32_t, Partition> partitions;
  std::int64_t records_since_commit = 0;
  std::int64_t last_commit_us = 0;
  bool flushed_since_commit = false;
};

Sessionizer::Sessionizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Sessionizer::~Sessionizer() = default;

Result<std::unique_ptr<Sessionizer>> Sessionizer::Open(const std::filesystem::path& folder,
                                                       const v1::Sessionizer& settings, const Clock& clock, Log& log,
                                                       Metrics& metrics, rocksdb::Env* env) {
  auto impl = std::make_unique<Impl>(settings, clock, log, metrics);
  FUSELINE_ASSIGN_OR_FAIL(impl->store, SessionStore::Open(folder, impl->shape, env));
  FUSELINE_FAIL_IF_ERROR(impl->Load());
  return std::unique_ptr<Sessionizer>(new Sessionizer(std::move(impl)));
}

Result<std::unique_ptr<Sessionizer>> Sessionizer::OpenReadOnly(const std::filesystem::path& folder,
                                                               const v1::Sessionizer& settings, const Clock& clock,
                                                               Log& log, Metrics& metrics) {
  auto impl = std::make_unique<Impl>(settings, clock, log, metrics);
  FUSELINE_ASSIGN_OR_FAIL(impl->store, SessionStore::OpenReadOnly(folder, impl->shape));
  FUSELINE_FAIL_IF_ERROR(impl->Load());
  return std::unique_ptr<Sessionizer>(new Sessionizer(std::move(impl)));
}

Status Sessionizer::Impl::Load() {
  FUSELINE_ASSIGN_OR_RETURN(auto states, store->LoadStates());
  for (auto& [id, state] : states) FUSELINE_RETURN_IF_ERROR(LoadPartition(id, std::move(state)));
  return OkStatus();
}

Status Sessionizer::Impl::LoadPartition(std::int32_t id, PartitionState state) {
  Partition& partition = PartitionOf(id);
  partition.sessions.RestoreState(std::move(state));
  std::uint64_t events_loaded = 0;
  FUSELINE_RETURN_IF_ERROR(store->LoadChunks(
      id, [&](std::string_view user_id, std::uint32_t chunk, std::vector<OpenEvent> events) {
        events_loaded += events.size();
        partition.sessions.RestoreChunk(user_id, chunk, std::move(events));
      }));
  const PartitionState& loaded = partition.sessions.state();
  if (events_loaded != loaded.accounting.pending()) {
    return ErrorStatus(Code::kCorrupt, "saved events are not those pending; partition, events, pending:", id,
                       events_loaded, loaded.accounting.pending());
  }
  FUSELINE_ASSIGN_OR_RETURN(auto names, store->LoadOutboxNames(id));
  partition.outstanding.assign(names.begin(), names.end());
  partition.committed.accounting = loaded.accounting;  // Counted by the process that read them.
  MarkCommitted(id, partition);
  log.Info("sessionizer.partition_loaded", "partition", id, "next_offset", loaded.next_offset, "open_sessions",
           partition.sessions.open_sessions(), "events", events_loaded, "outbox", names.size());
  return OkStatus();
}

Status Sessionizer::Process(EventBatch&& batch) {
  Partition& partition = impl_->PartitionOf(batch.partition);
  const PartitionState& state = partition.sessions.state();
  for (Record& record : batch.records) {
    if (record.offset < state.next_offset) continue;
    if (state.finished) {
      return ErrorStatus(Code::kInvalidInput, "the input of this partition has ended before this record; partition, offset:",
                         batch.partition, record.offset);
    }
    impl_->Keep(partition, partition.sessions.Process(record).closings);
    partition.changed = true;
    ++impl_->records_since_commit;
  }
  if (batch.next_offset > state.next_offset && !state.finished) {
    partition.sessions.AdvanceTo(batch.next_offset);
    partition.changed = true;
  }
  if (batch.end_of_input) Flush(batch.partition);
  return OkStatus();
}

void Sessionizer::Flush(std::int32_t id) {
  Partition& partition = impl_->PartitionOf(id);
  if (partition.sessions.state().finished) return;
  impl_->Keep(partition, partition.sessions.Flush());
  partition.changed = true;
  impl_->flushed_since_commit = true;
}

void Sessionizer::Impl::Keep(Partition& partition, std::vector<Closing> closings) {
  for (Closing& closing : closings) {
    metrics.CountClosing(closing);
    if (!closing.trajectory) continue;
    partition.outstanding.push_back(closing.trajectory->name());
    partition.new_trajectories.emplace_back(closing.trajectory->name(), closing.trajectory->SerializeAsString());
  }
}

bool Sessionizer::NeedsCommit() const {
  if (impl_->flushed_since_commit || impl_->records_since_commit >= impl_->settings.commit_records()) return true;
  if (impl_->clock.monotonic_us() - impl_->last_commit_us < impl_->settings.commit_interval_ms() * 1000) return false;
  for (const auto& [id, partition] : impl_->partitions) {
    if (partition.changed || !partition.acknowledged.empty()) return true;
  }
  return false;
}

Status Sessionizer::Commit() {
  StoreBatch batch;
  bool is_empty = true;
  for (auto& [id, partition] : impl_->partitions) {
    if (partition.changed) {
      for (const UserChange& change : partition.sessions.Changes()) batch.PutChange(id, change);
      for (const auto& [name, bytes] : partition.new_trajectories) batch.PutTrajectory(name, bytes);
      batch.PutState(id, partition.sessions.state());
    }
    for (const v1::TrajectoryName& name : partition.acknowledged) batch.DropTrajectory(name);
    if (partition.changed || !partition.acknowledged.empty()) is_empty = false;
  }
  impl_->last_commit_us = impl_->clock.monotonic_us();
  if (is_empty) return OkStatus();
  if (Status written = impl_->store->Write(batch); !written.ok()) {
    impl_->metrics.failed_commits.Increment();
    return written;
  }
  for (auto& [id, partition] : impl_->partitions) {
    if (partition.changed) impl_->MarkCommitted(id, partition);
    partition.acknowledged.clear();
  }
  impl_->records_since_commit = 0;
  impl_->flushed_since_commit = false;
  impl_->metrics.commits.Increment();
  return OkStatus();
}

void Sessionizer::Impl::MarkCommitted(std::int32_t id, Partition& partition) {
  PartitionSessions& sessions = partition.sessions;
  const PartitionState& state = sessions.state();
  sessions.ChangesSaved();
  partition.new_trajectories.clear();
  partition.changed = false;
  metrics.CountCommit(id, partition.committed.accounting, state.accounting, sessions.open_sessions());
  partition.committed = {.next_offset = state.next_offset,
                         .stream_time_ms = state.stream_time_ms,
                         .accounting = state.accounting,
                         .last_name = state.last_name,
                         .open_sessions = sessions.open_sessions(),
                         .finished = state.finished};

  CommittableOffset point{.offset = state.next_offset};
  const PartitionSessions::LowWater low = sessions.low_water().value_or(
      PartitionSessions::LowWater{state.next_offset, state.previous_offset, state.stream_time_ms});
  point.metadata.set_low_water_offset(low.offset);
  point.metadata.set_stream_time_ms(low.stream_before_ms);
  point.metadata.set_previous_offset(low.previous_offset);
  if (state.last_name) *point.metadata.mutable_last_name() = *state.last_name;
  *point.metadata.mutable_accounting() = state.accounting;
  // When a receiver is silent for long, the middle of the list is what can be spared.
  if (partition.commit_points.size() == kCommitPointsMax) partition.commit_points.pop_back();
  partition.commit_points.push_back(std::move(point));
}

Result<std::vector<v1::Trajectory>> Sessionizer::Outbox(std::int32_t id, const std::optional<v1::TrajectoryName>& after,
                                                        std::size_t max) const {
  const Partition* partition = impl_->FindPartition(id);
  if (partition == nullptr || partition->outstanding.empty()) return std::vector<v1::Trajectory>();
  v1::TrajectoryName from = partition->outstanding.front();
  if (after && CompareNames(*after, from) >= 0) {
    from = *after;
    from.set_ordinal(from.ordinal() + 1);
  }
  return impl_->store->LoadOutbox(id, from, max);
}

void Sessionizer::Acknowledge(const v1::TrajectoryName& name) {
  Partition& partition = impl_->PartitionOf(name.partition());
  while (!partition.outstanding.empty() && CompareNames(partition.outstanding.front(), name) <= 0) {
    partition.acknowledged.push_back(std::move(partition.outstanding.front()));
    partition.outstanding.pop_front();
  }
}

std::uint64_t Sessionizer::outbox_size(std::int32_t id) const {
  const Partition* partition = impl_->FindPartition(id);
  return partition == nullptr ? 0 : partition->outstanding.size();
}

bool Sessionizer::outbox_full(std::int32_t id) const {
  return outbox_size(id) >= static_cast<std::uint64_t>(impl_->settings.max_outbox());
}

std::vector<std::int32_t> Sessionizer::partitions() const {
  std::vector<std::int32_t> ids;
  for (const auto& [id, partition] : impl_->partitions) ids.push_back(id);
  return ids;
}

PartitionPosition Sessionizer::Position(std::int32_t id) const {
  const Partition* partition = impl_->FindPartition(id);
  return partition == nullptr ? PartitionPosition{} : partition->committed;
}

std::optional<CommittableOffset> Sessionizer::Committable(std::int32_t id) {
  const auto found = impl_->partitions.find(id);
  if (found == impl_->partitions.end()) return std::nullopt;
  Partition& partition = found->second;
  std::optional<CommittableOffset> best;
  while (!partition.commit_points.empty()) {
    CommittableOffset& point = partition.commit_points.front();
    const bool waits = point.metadata.has_last_name() && !partition.outstanding.empty() &&
                       CompareNames(partition.outstanding.front(), point.metadata.last_name()) <= 0;
    if (waits) break;
    best = std::move(point);
    partition.commit_points.pop_front();
  }
  return best;
}

v1::ProgressMark Sessionizer::ProgressMark(std::int32_t id) const {
  const PartitionPosition position = Position(id);
  v1::ProgressMark mark;
  mark.set_partition(id);
  mark.set_stream_time_ms(position.finished ? kEndOfTimeMs : position.stream_time_ms);
  return mark;
}

}  // namespace fuseline
