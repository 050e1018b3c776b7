#include "fuseline/sessionizer/sessionizer.h"

#include <algorithm>
#include <deque>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <utility>

#include "fuseline/core/check.h"
#include "fuseline/core/file.h"
#include "fuseline/proto/trajectory_name.h"
#include "fuseline/sessionizer/partition_sessions.h"
#include "outbox.h"
#include "session_store.h"
#include "sessionizer_metrics.h"

namespace fuseline {
namespace {

constexpr std::size_t kCommitPointsMax = 512;
constexpr std::size_t kUsersClosedAtOnce = 1024;
constexpr int kSegmentsRewrittenPerCommit = 4;
constexpr char kCorruptMark[] = "FOUND_CORRUPT";  // In a folder whose state cannot be used; says why.

struct Partition {
  Partition(std::int32_t id, const SessionShape& shape, std::int64_t max_trajectory_bytes, SessionStore* store)
      : sessions(id, shape, max_trajectory_bytes, store), outbox(id) {}

  PartitionSessions sessions;
  fuseline::Outbox outbox;
  PartitionPosition committed;
  std::deque<CommittableOffset> commit_points;
  bool changed = false;
};

PartitionPosition PositionOf(const v1::PartitionState& state) {
  PartitionPosition position{.next_offset = state.next_offset(),
                             .previous_offset = state.previous_offset(),
                             .stream_time_ms = state.stream_time_ms(),
                             .accounting = state.accounting(),
                             .last_name = std::nullopt,
                             .open_sessions = state.open_sessions(),
                             .finished = state.finished(),
                             .rebuilding = state.has_rebuilding(),
                             .rules = state.rules(state.rules_size() - 1)};
  if (state.has_last_name()) position.last_name = state.last_name();
  return position;
}

v1::OffsetMetadata MetadataOf(const PartitionSessions& sessions) {
  const v1::CommitPoint low = sessions.low_water();
  v1::OffsetMetadata metadata;
  metadata.set_low_water_offset(low.offset());
  metadata.set_stream_time_ms(low.stream_time_ms());
  metadata.set_previous_offset(low.previous_offset());
  metadata.set_late_floor_ms(low.late_floor_ms());
  metadata.set_rules_version(low.rules().version());
  *metadata.mutable_rules() = low.rules();
  if (sessions.state().has_last_name()) *metadata.mutable_last_name() = sessions.state().last_name();
  *metadata.mutable_accounting() = sessions.state().accounting();
  return metadata;
}

std::string InWords(const SessionShape& shape) {
  return "gap_ms " + std::to_string(shape.gap_ms) + ", lateness_ms " + std::to_string(shape.lateness_ms) + ", cut_every_ms " +
         std::to_string(shape.cut_every_ms) + ", max_events " + std::to_string(shape.max_events);
}

}  // namespace

struct Sessionizer::Impl {
  Impl(const v1::Sessionizer& from, const Clock& with_clock, Log& with_log, Metrics& with_metrics)
      : settings(from), shape(ShapeOf(from)), clock(with_clock), log(with_log), metrics(with_metrics),
        last_commit_us(with_clock.monotonic_us()) {}

  // Memory is shared out: three eighths for open sessions, a sixth for the store, the rest for the outbox, what a commit needs for a moment
  // (some eight times what it saves, since new sessions stay in memory until then), and what the allocator cannot use.
  std::size_t memory_max() const { return static_cast<std::size_t>(settings.max_memory_bytes()); }
  std::size_t store_memory_max() const { return memory_max() / 6; }
  std::size_t sessions_memory_max() const { return memory_max() / 8 * 3; }
  std::size_t outbox_memory_max() const { return memory_max() / 16; }
  std::size_t unsaved_memory_max() const { return memory_max() / 64; }

  Status OpenStore(rocksdb::Env* env);
  Status SetAside(const Status& reason);
  Status Remember(Status status);
  Status LoadStates();
  Result<Partition*> Use(std::int32_t id);
  Status LoadPartition(std::int32_t id, v1::PartitionState state, Partition& partition);
  void WarnOfRules(std::int32_t id, const Partition& partition);
  const Partition* FindUsed(std::int32_t id) const {
    const auto found = used.find(id);
    return found == used.end() ? nullptr : &found->second;
  }
  Status Process(EventBatch&& batch);
  Status Flush(std::int32_t id);
  Status CloseAll(Partition& partition);
  Status GoOn(Partition& partition);
  Status RewriteSegments(std::int32_t id, Partition& partition);
  void Keep(Partition& partition, const std::vector<Closing>& closings);
  std::size_t MemoryFor(const Partition& partition) const;
  Status Commit();
  void MarkCommitted(std::int32_t id, Partition& partition);

  const v1::Sessionizer settings;
  const SessionShape shape;
  const Clock& clock;
  Log& log;
  SessionizerMetrics metrics;
  std::filesystem::path folder;  // Empty: only to look at.
  std::unique_ptr<SessionStore> store;
  StoreBatch to_commit;
  std::map<std::int32_t, v1::PartitionState> stored;  // Not used yet.
  std::map<std::int32_t, Partition> used;
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
  impl->folder = folder;
  Status opened = impl->OpenStore(env);
  if (opened.code == Code::kCorrupt) {
    FUSELINE_FAIL_IF_ERROR(impl->SetAside(opened));
    opened = impl->OpenStore(env);
  }
  FUSELINE_FAIL_IF_ERROR(std::move(opened));
  return std::unique_ptr<Sessionizer>(new Sessionizer(std::move(impl)));
}

bool Sessionizer::FoundCorrupt(const std::filesystem::path& folder) { return ReadFile(folder / kCorruptMark).has_value(); }

Status Sessionizer::Impl::OpenStore(rocksdb::Env* env) {
  if (const auto reason = ReadFile(folder / kCorruptMark)) return ErrorStatus(Code::kCorrupt, *reason);
  FUSELINE_ASSIGN_OR_RETURN(store, SessionStore::Open(folder, store_memory_max(), env));
  return LoadStates();
}

Status Sessionizer::Impl::SetAside(const Status& reason) {
  store.reset();
  stored.clear();
  std::filesystem::path aside;
  for (int number = 1; aside.empty() || std::filesystem::exists(aside); ++number) {
    aside = folder;
    aside += ".corrupt-" + std::to_string(number);
  }
  std::error_code error;
  std::filesystem::rename(folder, aside, error);
  if (error) return ErrorStatus(Code::kUnavailable, "corrupt state cannot be set aside:", folder.string(), error.message(), reason.message);
  log.Error("sessionizer.state_set_aside", "folder", aside.string(), "reason", reason.message);
  metrics.states_set_aside.Increment();
  return SyncFolder(folder.parent_path());
}

// Who opens the folder next must know what was found in it, though perhaps it would not find it so soon, or this process is killed.
Status Sessionizer::Impl::Remember(Status status) {
  if (status.code != Code::kCorrupt || folder.empty()) return status;
  if (Status marked = WriteFileAtomically(folder / kCorruptMark, status.message); !marked.ok()) {
    log.Error("sessionizer.state_unreadable", "reason", status.message, "not_marked", marked.message);
  }
  return status;
}

Result<std::unique_ptr<Sessionizer>> Sessionizer::OpenReadOnly(const std::filesystem::path& folder,
                                                               const v1::Sessionizer& settings, const Clock& clock,
                                                               Log& log, Metrics& metrics) {
  auto impl = std::make_unique<Impl>(settings, clock, log, metrics);
  FUSELINE_ASSIGN_OR_FAIL(impl->store, SessionStore::OpenReadOnly(folder, impl->store_memory_max()));
  FUSELINE_FAIL_IF_ERROR(impl->LoadStates());
  return std::unique_ptr<Sessionizer>(new Sessionizer(std::move(impl)));
}

Status Sessionizer::Impl::LoadStates() {
  FUSELINE_ASSIGN_OR_RETURN(auto states, store->LoadStates());
  for (auto& [id, state] : states) {
    if (!used.contains(id)) stored[id] = std::move(state);
  }
  return OkStatus();
}

Result<Partition*> Sessionizer::Impl::Use(std::int32_t id) {
  if (const auto found = used.find(id); found != used.end()) return &found->second;
  Partition& partition = used.try_emplace(id, id, shape, settings.max_trajectory_bytes(), store.get()).first->second;
  if (const auto state = stored.find(id); state != stored.end()) {
    if (Status loaded = Remember(LoadPartition(id, state->second, partition)); !loaded.ok()) {
      used.erase(id);
      return tl::unexpected(std::move(loaded));
    }
    stored.erase(state);
  }
  return &partition;
}

Status Sessionizer::Impl::LoadPartition(std::int32_t id, v1::PartitionState state, Partition& partition) {
  PartitionSessions& sessions = partition.sessions;
  sessions.RestoreState(std::move(state));
  FUSELINE_RETURN_IF_ERROR(store->LoadPoints(id, [&](const v1::CommitPoint& point) {
    sessions.RestorePoint(point);
    return OkStatus();
  }));
  FUSELINE_RETURN_IF_ERROR(store->LoadColdUsers(id, [&](const v1::ColdUser& user) { return sessions.RestoreCold(user); }));
  FUSELINE_RETURN_IF_ERROR(store->LoadSegments(
      id, [&](std::uint32_t number, std::string_view bytes) { return sessions.RestoreSegment(number, bytes); }));
  FUSELINE_RETURN_IF_ERROR(sessions.RestoreDone());
  FUSELINE_RETURN_IF_ERROR(store->LoadPages(
      id, [&](std::uint64_t number, std::string_view bytes) { return partition.outbox.Restore(number, bytes); }));
  partition.committed.accounting = sessions.state().accounting();  // Counted by the process that read them.
  MarkCommitted(id, partition);
  log.Info("sessionizer.partition_loaded", "partition", id, "next_offset", sessions.state().next_offset(), "open_sessions",
           sessions.state().open_sessions(), "events", sessions.state().accounting().pending(), "outbox", partition.outbox.size());
  WarnOfRules(id, partition);
  return OkStatus();
}

void Sessionizer::Impl::WarnOfRules(std::int32_t id, const Partition& partition) {
  const v1::SessionRules& rules = partition.sessions.rules();
  if (ShapeOf(rules) == shape) return;
  log.Warn("sessionizer.rules_differ", "partition", id, "version", rules.version(), "in_force", InWords(ShapeOf(rules)), "in_settings",
           InWords(shape));
}

Result<std::optional<std::int64_t>> Sessionizer::TakeOver(std::int32_t id, const std::optional<CommittableOffset>& committed,
                                                          std::int64_t log_start) {
  const auto lost = [&](const char* what, std::int64_t needed) {
    return Error(Code::kInvalidInput, what, "is before the log's start: retention has passed it; begin again with --cold-start;"
                 " partition, needed, log start:", id, needed, log_start);
  };
  const PartitionPosition local = Position(id);
  const bool is_known = local.rules.format() != 0;
  if (!committed) {
    if (!is_known) return std::nullopt;
    if (local.next_offset < log_start) return lost("the stored position", local.next_offset);
    FUSELINE_ASSIGN_OR_FAIL(Partition* const partition, impl_->Use(id));
    FUSELINE_FAIL_IF_ERROR(impl_->GoOn(*partition));
    return local.next_offset;
  }
  const v1::OffsetMetadata& metadata = committed->metadata;
  const bool goes_on = is_known && local.next_offset >= std::max(metadata.low_water_offset(), log_start);
  if (!goes_on) {
    if (metadata.low_water_offset() < log_start) return lost("the low water of the group's committed offset", metadata.low_water_offset());
    if (is_known) FUSELINE_FAIL_IF_ERROR(Drop(id));
  }
  FUSELINE_ASSIGN_OR_FAIL(Partition* const partition, impl_->Use(id));
  // What was stored here before the partition went to others would set the group's word back.
  std::erase_if(partition->commit_points, [&](const CommittableOffset& point) { return point.offset <= committed->offset; });
  // A rebuild that was cut off is complete from its own end on, not before: it is led there, whatever is asked for now.
  const v1::PartitionState& state = partition->sessions.state();
  const bool leads_further = state.has_rebuilding() && state.rebuilding().until_offset() >= committed->offset;
  if (!leads_further && (!goes_on || state.next_offset() < committed->offset)) {
    FUSELINE_FAIL_IF_ERROR(partition->sessions.BeginRebuild(committed->offset, metadata));
    partition->changed = true;
    impl_->log.Info("sessionizer.partition_rebuilding", "partition", id, "from", state.next_offset(), "until",
                    committed->offset);
    impl_->WarnOfRules(id, *partition);
  }
  FUSELINE_FAIL_IF_ERROR(impl_->GoOn(*partition));
  return state.next_offset();
}

void Sessionizer::Release(std::int32_t id) {
  impl_->used.erase(id);
  if (const Status loaded = impl_->Remember(impl_->LoadStates()); !loaded.ok()) {
    impl_->log.Error("sessionizer.state_unreadable", "partition", id, "reason", loaded.message);
  }
}

Status Sessionizer::Drop(std::int32_t id) {
  FUSELINE_RETURN_IF_ERROR(impl_->Remember(impl_->store->DropPartition(id)));
  impl_->used.erase(id);
  impl_->stored.erase(id);
  return OkStatus();
}

Status Sessionizer::Process(EventBatch&& batch) { return impl_->Remember(impl_->Process(std::move(batch))); }

Status Sessionizer::Flush(std::int32_t id) { return impl_->Remember(impl_->Flush(id)); }

Status Sessionizer::Impl::Process(EventBatch&& batch) {
  FUSELINE_ASSIGN_OR_RETURN(Partition* const partition, Use(batch.partition));
  PartitionSessions& sessions = partition->sessions;
  FUSELINE_RETURN_IF_ERROR(CloseAll(*partition));
  const std::span<const Record> records = batch.records;
  for (std::size_t i = 0; i < records.size(); ++i) {
    if (i % PartitionSessions::kPrefetchMax == 0) sessions.Prefetch(records.subspan(i));
    const Record& record = records[i];
    if (record.offset < sessions.state().next_offset()) continue;
    if (sessions.state().finished()) {
      return ErrorStatus(Code::kInvalidInput, "the input of this partition has ended before this record; partition, offset:",
                         batch.partition, record.offset);
    }
    const std::uint64_t rules_version = sessions.rules().version();
    FUSELINE_ASSIGN_OR_RETURN(const Verdict verdict, sessions.Judge(record));
    partition->changed = true;
    ++records_since_commit;
    if (verdict == Verdict::kControl && sessions.rules().version() != rules_version) {
      log.Info("sessionizer.rules_changed", "partition", batch.partition, "offset", record.offset, "version",
               sessions.rules().version(), "in_force", InWords(ShapeOf(sessions.rules())));
      WarnOfRules(batch.partition, *partition);
    }
    if (sessions.closing()) FUSELINE_RETURN_IF_ERROR(CloseAll(*partition));
  }
  if (!sessions.state().finished()) {
    if (batch.next_offset > sessions.state().next_offset() || sessions.rebuilding()) partition->changed = true;
    FUSELINE_RETURN_IF_ERROR(sessions.AdvanceTo(batch.next_offset));
  }
  return batch.end_of_input ? Flush(batch.partition) : OkStatus();
}

Status Sessionizer::Impl::Flush(std::int32_t id) {
  FUSELINE_ASSIGN_OR_RETURN(Partition* const partition, Use(id));
  FUSELINE_RETURN_IF_ERROR(CloseAll(*partition));
  if (partition->sessions.state().finished()) return OkStatus();
  partition->sessions.BeginFlush();
  partition->changed = true;
  FUSELINE_RETURN_IF_ERROR(CloseAll(*partition));
  flushed_since_commit = true;
  return OkStatus();
}

// What was committed in the middle of closings, or just at the end of a rebuild, is finished without waiting for another record: on a silent
// partition none may come.
Status Sessionizer::Impl::GoOn(Partition& partition) {
  const bool unfinished = partition.sessions.closing() || partition.sessions.rebuilding();
  if (!unfinished || partition.sessions.state().finished()) return OkStatus();
  FUSELINE_RETURN_IF_ERROR(CloseAll(partition));
  partition.changed = true;
  return partition.sessions.state().finished() ? OkStatus() : partition.sessions.AdvanceTo(partition.sessions.state().next_offset());
}

// Everything that the last record closes; in several commits where that is more than memory should hold.
Status Sessionizer::Impl::CloseAll(Partition& partition) {
  while (partition.sessions.closing()) {
    FUSELINE_ASSIGN_OR_RETURN(const std::vector<Closing> closings, partition.sessions.Close(kUsersClosedAtOnce));
    partition.changed = true;
    Keep(partition, closings);
    if (partition.outbox.filling_bytes() > unsaved_memory_max()) FUSELINE_RETURN_IF_ERROR(Commit());
  }
  return OkStatus();
}

void Sessionizer::Impl::Keep(Partition& partition, const std::vector<Closing>& closings) {
  for (const Closing& closing : closings) {
    metrics.CountClosing(closing);
    if (closing.name) partition.outbox.Add(*closing.name, closing.trajectory);
  }
}

bool Sessionizer::NeedsCommit() const {
  if (impl_->flushed_since_commit || impl_->records_since_commit >= impl_->settings.commit_records()) return true;
  std::size_t unsaved = 0;
  bool changed = false;
  for (const auto& [id, partition] : impl_->used) {
    unsaved += partition.sessions.unsaved_bytes() + partition.outbox.filling_bytes();
    changed = changed || partition.changed || partition.outbox.changed();
  }
  if (unsaved > impl_->unsaved_memory_max()) return true;
  return changed && impl_->clock.monotonic_us() - impl_->last_commit_us >= impl_->settings.commit_interval_ms() * 1000;
}

Status Sessionizer::Commit() { return impl_->Remember(impl_->Commit()); }

// When all together hold too much, each gives up its part of that.
std::size_t Sessionizer::Impl::MemoryFor(const Partition& partition) const {
  std::size_t all = 0;
  for (const auto& [id, each] : used) all += each.sessions.memory_bytes();
  if (all <= sessions_memory_max()) return std::numeric_limits<std::size_t>::max();
  const double share = 0.9 * static_cast<double>(sessions_memory_max()) / static_cast<double>(all);
  return static_cast<std::size_t>(share * static_cast<double>(partition.sessions.memory_bytes()));
}

Status Sessionizer::Impl::RewriteSegments(std::int32_t id, Partition& partition) {
  for (int i = 0; i < kSegmentsRewrittenPerCommit; ++i) {
    const auto number = partition.sessions.worth_rewriting();
    if (!number) break;
    FUSELINE_ASSIGN_OR_RETURN(const std::string bytes, store->ReadSegment(id, *number));
    FUSELINE_RETURN_IF_ERROR(partition.sessions.Rewrite(*number, bytes));
  }
  return OkStatus();
}

Status Sessionizer::Impl::Commit() {
  to_commit.Clear(2 * unsaved_memory_max());
  bool is_empty = true;
  for (auto& [id, partition] : used) {
    if (!partition.changed && !partition.outbox.changed()) continue;
    is_empty = false;
    if (partition.changed) {
      FUSELINE_RETURN_IF_ERROR(RewriteSegments(id, partition));
      to_commit.PutChanges(id, partition.sessions.Changes(MemoryFor(partition)));
      to_commit.PutState(id, partition.sessions.state());
    }
    if (const auto page = partition.outbox.unsaved()) to_commit.PutPage(id, page->number, page->bytes);
    for (const std::uint64_t number : partition.outbox.dropped()) to_commit.DropPage(id, number);
  }
  last_commit_us = clock.monotonic_us();
  if (is_empty) return OkStatus();
  if (Status written = store->Write(to_commit); !written.ok()) {
    metrics.failed_commits.Increment();
    return written;
  }
  for (auto& [id, partition] : used) {
    partition.outbox.Saved(outbox_memory_max() / used.size());
    if (!partition.changed) continue;
    partition.sessions.ChangesSaved();
    MarkCommitted(id, partition);
  }
  records_since_commit = 0;
  flushed_since_commit = false;
  metrics.CountClosings();
  metrics.commits.Increment();
  return OkStatus();
}

void Sessionizer::Impl::MarkCommitted(std::int32_t id, Partition& partition) {
  const v1::PartitionState& state = partition.sessions.state();
  partition.changed = false;
  metrics.CountCommit(id, partition.committed.accounting, state.accounting(), state.open_sessions(), partition.sessions.memory_bytes());
  partition.committed = PositionOf(state);
  if (partition.sessions.rebuilding() || partition.sessions.closing()) return;
  // When a receiver is silent for long, the middle of the list is what can be spared.
  if (partition.commit_points.size() == kCommitPointsMax) partition.commit_points.pop_back();
  partition.commit_points.push_back({.offset = state.next_offset(), .metadata = MetadataOf(partition.sessions)});
}

Result<std::vector<OutboxEntry>> Sessionizer::Outbox(std::int32_t id, const std::optional<v1::TrajectoryName>& after, std::size_t max) {
  FUSELINE_ASSIGN_OR_FAIL(Partition* const partition, impl_->Use(id));
  auto taken = partition->outbox.Take(after, max, [&](std::uint64_t number) { return impl_->store->ReadPage(id, number); });
  if (!taken) return tl::unexpected(impl_->Remember(std::move(taken).error()));
  return taken;
}

void Sessionizer::Acknowledge(const v1::TrajectoryName& name) {
  if (const auto found = impl_->used.find(name.partition()); found != impl_->used.end()) found->second.outbox.Acknowledge(name);
}

std::uint64_t Sessionizer::outbox_size(std::int32_t id) const {
  const Partition* partition = impl_->FindUsed(id);
  return partition == nullptr ? 0 : partition->outbox.size();
}

bool Sessionizer::outbox_full(std::int32_t id) const {
  return outbox_size(id) >= static_cast<std::uint64_t>(impl_->settings.max_outbox());
}

std::vector<std::int32_t> Sessionizer::partitions() const {
  std::vector<std::int32_t> ids;
  for (const auto& [id, partition] : impl_->used) ids.push_back(id);
  for (const auto& [id, state] : impl_->stored) ids.push_back(id);
  std::sort(ids.begin(), ids.end());
  return ids;
}

PartitionPosition Sessionizer::Position(std::int32_t id) const {
  if (const Partition* partition = impl_->FindUsed(id)) return partition->committed;
  const auto state = impl_->stored.find(id);
  return state == impl_->stored.end() ? PartitionPosition{} : PositionOf(state->second);
}

PartitionPosition Sessionizer::Processed(std::int32_t id) const {
  const Partition* partition = impl_->FindUsed(id);
  return partition == nullptr ? Position(id) : PositionOf(partition->sessions.state());
}

std::size_t Sessionizer::memory_bytes() const {
  std::size_t bytes = 0;
  for (const auto& [id, partition] : impl_->used) {
    bytes += partition.sessions.memory_bytes() + partition.outbox.filling_bytes() + partition.outbox.kept_bytes();
  }
  return bytes;
}

Result<std::vector<ShownSession>> Sessionizer::Show(std::string_view user_id) {
  std::vector<ShownSession> shown;
  for (const std::int32_t id : partitions()) {
    FUSELINE_ASSIGN_OR_FAIL(Partition* const partition, impl_->Use(id));
    FUSELINE_ASSIGN_OR_FAIL(const SessionWindow window, partition->sessions.Look(user_id));
    for (const OpenEvent& event : window.events()) {
      if (event.starts_session) shown.push_back({.partition = id, .first_ms = event.time_ms, .last_ms = 0, .events = {}});
      shown.back().last_ms = event.time_ms;
      shown.back().events.push_back({.time_ms = event.time_ms,
                                     .offset = event.offset,
                                     .is_exposure = event.is_exposure,
                                     .left_out = event.body_bytes == 0,
                                     .id = std::string(window.id(event)),
                                     .body = std::string(window.body(event))});
    }
  }
  return shown;
}

std::optional<CommittableOffset> Sessionizer::Committable(std::int32_t id) {
  const auto found = impl_->used.find(id);
  if (found == impl_->used.end()) return std::nullopt;
  Partition& partition = found->second;
  const auto first = partition.outbox.first();
  std::optional<CommittableOffset> best;
  while (!partition.commit_points.empty()) {
    CommittableOffset& point = partition.commit_points.front();
    const bool waits = point.metadata.has_last_name() && first && CompareNames(*first, point.metadata.last_name()) <= 0;
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
  mark.set_stream_time_ms(position.finished ? kEndOfTimeMs : position.rebuilding ? kBeforeTimeMs : position.stream_time_ms);
  return mark;
}

}  // namespace fuseline
