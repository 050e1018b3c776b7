#include "session_stage.h"

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "fuseline/core/stage.h"
#include "fuseline/proto/offset_metadata.h"

namespace fuseline {
namespace {

constexpr std::int64_t kWaitMs = 20;  // How long a look at the source may take while something else may be due.
constexpr std::size_t kOutboxPage = 256;
constexpr std::int64_t kBackoffFirstMs = 10;
constexpr std::int64_t kBackoffLongestMs = 5'000;

}  // namespace

SessionStage::SessionStage(const v1::Config& config, std::unique_ptr<Sessionizer> sessionizer,
                           std::unique_ptr<TrajectorySink> sink, StatusBoard& status, Instruments instruments)
    : config_(config),
      sessionizer_(std::move(sessionizer)),
      sink_(std::move(sink)),
      status_(status),
      instruments_(instruments),
      commit_backoff_(kBackoffFirstMs, kBackoffLongestMs, config.fuseline().seed()),
      source_backoff_(kBackoffFirstMs, kBackoffLongestMs, config.fuseline().seed()) {}

SessionStage::~SessionStage() {
  owned_.clear();  // Without Leave, as after a failure, nothing more is committed or said to the group.
}

void SessionStage::Read(std::unique_ptr<EventSource> source, std::function<InputProgress()> progress) {
  source_ = std::move(source);
  progress_ = std::move(progress);
}

void SessionStage::Fail(Status status) {
  if (failure_.ok()) failure_ = std::move(status);
}

// --- partitions come and go ---

Result<std::optional<std::int64_t>> SessionStage::WhereToGoOn(std::int32_t partition,
                                                              const std::optional<kafka::CommittedOffset>& word,
                                                              std::int64_t log_start) {
  std::optional<CommittableOffset> committed;
  if (word) {
    auto metadata = DecodeOffsetMetadata(word->metadata);
    if (!metadata) {
      return Error(Code::kInvalidInput, "group", config_.kafka().group_id(), "committed offset", word->offset, "of partition", partition,
                   "without readable metadata:", metadata.error().message);
    }
    if (metadata->has_last_name()) FUSELINE_FAIL_IF_ERROR(sink_->CheckHolds(metadata->last_name()));
    committed = CommittableOffset{word->offset, *std::move(metadata)};
  }
  return sessionizer_->TakeOver(partition, committed, log_start);
}

Result<kafka::StartPosition> SessionStage::TakeOver(std::int32_t partition, const std::optional<kafka::CommittedOffset>& word,
                                                    std::int64_t log_start, const KafkaReading& reading) {
  auto begin = WhereToGoOn(partition, word, log_start);
  if (!begin && begin.error().code == Code::kInvalidInput) {
    if (!reading.cold_start) return Error(Code::kInvalidInput, begin.error().message, "(--cold-start begins such a partition anew)");
    instruments_.log.Warn("sessionizer.partition_begun_anew", "partition", partition, "reason", begin.error().message);
    FUSELINE_FAIL_IF_ERROR(sessionizer_->Drop(partition));
    begin = std::nullopt;
  }
  if (!begin) return tl::unexpected(std::move(begin).error());
  owned_.insert(partition);
  all_offered_ = false;  // What it has stored here may wait in the outbox, and its log be silent from now on.
  Note(partition);
  NoteOwned(partition, true);
  instruments_.log.Info("sessionizer.partition_taken", "partition", partition, "begin", begin->value_or(-1), "committed",
                        word ? word->offset : -1);
  return *begin ? kafka::StartPosition::Offset(**begin) : reading.from;
}

void SessionStage::GiveUp(std::span<const std::int32_t> partitions, bool lost) {
  std::vector<std::int32_t> leaving;
  std::ranges::copy_if(partitions, std::back_inserter(leaving), [&](std::int32_t p) { return owned_.contains(p); });
  if (leaving.empty()) return;
  if (lost) {
    instruments_.log.Warn("ingest.partitions_lost", "count", leaving.size());
  } else if (Status handed = HandOver(leaving, config_.kafka().connect_timeout_ms()); !handed.ok()) {
    // The next owner begins where the group's word stands, and says again what is missing behind it.
    instruments_.log.Warn("ingest.handover_incomplete", "partitions", leaving.size(), "reason", handed.message);
  }
  for (const std::int32_t partition : leaving) Release(partition);
}

Status SessionStage::HandOver(std::span<const std::int32_t> partitions, std::int64_t patience_ms) {
  const std::int64_t end_us = instruments_.clock.monotonic_us() + patience_ms * 1'000;
  FUSELINE_RETURN_IF_ERROR(Commit());
  const auto waiting = [&] {
    return std::ranges::any_of(partitions, [&](std::int32_t p) { return sessionizer_->outbox_size(p) > 0; });
  };
  do {
    for (const std::int32_t partition : partitions) {
      FUSELINE_ASSIGN_OR_RETURN([[maybe_unused]] const bool offered, Offer(partition));
    }
    TakeAcknowledgements(waiting() ? kWaitMs : 0);
  } while (waiting() && instruments_.clock.monotonic_us() < end_us);
  FUSELINE_RETURN_IF_ERROR(Commit());
  TellGroup();
  return OkStatus();
}

void SessionStage::Release(std::int32_t partition) {
  sessionizer_->Release(partition);
  sink_->Forget(partition);
  NoteOwned(partition, false);
  owned_.erase(partition);
  paused_.erase(partition);
  offered_.erase(partition);
  marked_ms_.erase(partition);
  std::erase_if(taken_, [&](const EventBatch& batch) { return batch.partition == partition; });
  status_.With([&](PipelineStatus& status) {
    status.partitions.erase(partition);
    status.full.erase(partition);
  });
}

Status SessionStage::AuthorTicks() {
  if (config_.sessionizer().idle_timeout_ms() == 0) return OkStatus();
  FUSELINE_ASSIGN_OR_RETURN(ticks_, TickAuthor::Open(config_, instruments_));
  return OkStatus();
}

// --- the loop ---

Status SessionStage::Run(std::stop_token stop) {
  FUSELINE_RETURN_IF_ERROR(OfferAll());  // What a former life left in the outbox.
  // An input that has ended may have left batches or a commit that wait for a disk with room.
  while (!stop.stop_requested() && !(source_->finished() && taken_.empty() && !commit_fails_)) {
    FUSELINE_RETURN_IF_ERROR(HoldBack());
    FUSELINE_RETURN_IF_ERROR(TakeBatch(stop));
    FUSELINE_RETURN_IF_ERROR(CommitAndOffer());
    AppendTicks();
  }
  FUSELINE_RETURN_IF_ERROR(Commit());
  do {
    TakeAcknowledgements(0);
    FUSELINE_RETURN_IF_ERROR(OfferAll());
  } while (!all_offered_ && SleepFor(stop, 1));
  sink_->Close();
  return OkStatus();
}

Status SessionStage::Leave(std::int64_t patience_ms) {
  const std::vector<std::int32_t> all(owned_.begin(), owned_.end());
  Status handed = HandOver(all, patience_ms);
  owned_.clear();  // Or closing the source would hand them over once more.
  source_.reset();
  return handed;
}

// A partition waits at its source while its outbox is full; the others go on, or the learner would wait for them for ever. All wait
// while nothing can be committed; the source is still asked, so that its group keeps this member.
Status SessionStage::HoldBack() {
  std::set<std::int32_t> full;
  std::ranges::copy_if(owned_, std::inserter(full, full.end()), [&](std::int32_t p) { return sessionizer_->outbox_full(p); });
  const std::set<std::int32_t>& wanted = commit_fails_ ? owned_ : full;
  if (wanted != paused_) {
    std::vector<std::int32_t> begin, end;
    std::ranges::set_difference(wanted, paused_, std::back_inserter(begin));
    std::ranges::set_difference(paused_, wanted, std::back_inserter(end));
    paused_ = wanted;
    FUSELINE_RETURN_IF_ERROR(source_->Pause(begin));
    FUSELINE_RETURN_IF_ERROR(source_->Resume(end));
  }
  status_.With([&](PipelineStatus& status) { status.full = std::move(full); });
  return OkStatus();
}

Status SessionStage::TakeBatch(std::stop_token stop) {
  if (source_->finished()) SleepFor(stop, kWaitMs);  // Only what is here already waits, for the disk.
  auto batch = source_->Next(std::min<std::int64_t>(config_.ingest().poll_timeout_ms(), kWaitMs));
  FUSELINE_RETURN_IF_ERROR(Status(failure_));
  if (!batch && batch.error().code == Code::kConflict) {
    // The group went on without this member; its client joins again, and partitions come back by TakeOver.
    instruments_.log.Warn("ingest.member_fenced", "reason", batch.error().message);
    return OkStatus();
  }
  if (!batch && batch.error().code == Code::kUnavailable) {
    instruments_.log.Warn("ingest.source_unavailable", "reason", batch.error().message);
    SleepFor(stop, source_backoff_.NextMs());
    return OkStatus();
  }
  if (!batch) return std::move(batch).error();
  source_backoff_.Reset();
  const std::size_t records = batch->has_value() ? (*batch)->records.size() : 0;
  if (batch->has_value()) taken_.push_back(std::move(**batch));
  FUSELINE_RETURN_IF_ERROR(ProcessTaken());
  const InputProgress progress = progress_ ? progress_() : InputProgress();
  status_.With([&](PipelineStatus& status) {
    status.ingested += records;
    status.input = progress;
  });
  return OkStatus();
}

Status SessionStage::ProcessTaken() {
  while (!taken_.empty() && !commit_fails_) {
    Status processed = sessionizer_->Process(std::move(taken_.front()));
    if (processed.code == Code::kUnavailable) PostponeCommit(processed);
    if (processed.code == Code::kUnavailable) return OkStatus();
    FUSELINE_RETURN_IF_ERROR(std::move(processed));
    taken_.pop_front();
  }
  return OkStatus();
}

Status SessionStage::CommitAndOffer() {
  TakeAcknowledgements(0);
  if (commit_fails_ ? instruments_.clock.monotonic_us() >= commit_again_us_ : sessionizer_->NeedsCommit()) {
    Status status = Commit();
    if (status.code == Code::kUnavailable) {
      PostponeCommit(status);
    } else {
      FUSELINE_RETURN_IF_ERROR(std::move(status));
      commit_fails_ = false;
      commit_backoff_.Reset();
      TellGroup();
    }
  }
  return all_offered_ ? OkStatus() : OfferAll();
}

void SessionStage::PostponeCommit(const Status& reason) {
  commit_fails_ = true;
  commit_again_us_ = instruments_.clock.monotonic_us() + commit_backoff_.NextMs() * 1'000;
  instruments_.log.Warn("sessionizer.commit_postponed", "reason", reason.message);
}

Status SessionStage::Commit() {
  FUSELINE_RETURN_IF_ERROR(sessionizer_->Commit());
  // Whoever asked for it: those that stay while others are handed over may read nothing more that would bring the next one.
  all_offered_ = false;
  for (const std::int32_t partition : owned_) Note(partition);
  return OkStatus();
}

void SessionStage::TellGroup() {
  std::map<std::int32_t, kafka::CommittedOffset> offsets;
  for (const std::int32_t partition : owned_) {
    if (auto word = sessionizer_->Committable(partition)) {
      offsets[partition] = {word->offset, EncodeOffsetMetadata(word->metadata)};
    }
  }
  if (offsets.empty() || config_.kafka().group_id().empty()) return;
  const Status told = source_->Commit(offsets);
  // Local state is newer than the group's word, which only tells others; the next commit says it again.
  if (!told.ok()) instruments_.log.Warn("ingest.offset_not_committed", "partitions", offsets.size(), "reason", told.message);
}

void SessionStage::TakeAcknowledgements(std::int64_t wait_ms) {
  for (const auto& [partition, name] : sink_->Durable(wait_ms)) {
    if (owned_.contains(partition)) sessionizer_->Acknowledge(name);
  }
  if (!sink_->TakeSetback()) return;
  offered_.clear();
  marked_ms_.clear();
  all_offered_ = false;
}

void SessionStage::AppendTicks() {
  if (!ticks_) return;
  std::map<std::int32_t, PartitionPulse> owned;
  for (const std::int32_t partition : owned_) {
    const bool caught_up = taken_.empty() && !paused_.contains(partition) && source_->caught_up(partition);
    owned[partition] = PulseOf(sessionizer_->Processed(partition), caught_up);
  }
  ticks_->Look(owned);
}

Status SessionStage::OfferAll() {
  all_offered_ = true;
  bool on_the_way = false;
  for (const std::int32_t partition : owned_) {
    FUSELINE_ASSIGN_OR_RETURN(const bool offered, Offer(partition));
    all_offered_ = all_offered_ && offered;
    on_the_way = on_the_way || (!offered && sink_->RoomFor(partition) != TrajectorySink::Room::kAfterOthers);
  }
  status_.With([&](PipelineStatus& status) { status.offering = on_the_way; });
  return OkStatus();
}

// Returns whether all was offered; what was not stays in the outbox.
Result<bool> SessionStage::Offer(std::int32_t partition) {
  for (;;) {
    if (sink_->RoomFor(partition) != TrajectorySink::Room::kNow) return false;
    const auto last = offered_.find(partition);
    const auto after = last == offered_.end() ? std::nullopt : std::optional(last->second);
    FUSELINE_ASSIGN_OR_FAIL(const std::vector<OutboxEntry> page, sessionizer_->Outbox(partition, after, kOutboxPage));
    if (page.empty()) break;
    for (const OutboxEntry& entry : page) {
      FUSELINE_ASSIGN_OR_FAIL(const bool taken, sink_->Offer(entry));
      if (!taken) return false;
      offered_[partition] = entry.name;
    }
  }
  const v1::ProgressMark mark = sessionizer_->ProgressMark(partition);
  const auto [marked, is_first] = marked_ms_.try_emplace(partition, kBeforeTimeMs);
  if (mark.stream_time_ms() <= marked->second) return true;
  FUSELINE_ASSIGN_OR_FAIL(const bool taken, sink_->Offer(mark));
  if (taken) marked->second = mark.stream_time_ms();
  return taken;
}

void SessionStage::Note(std::int32_t partition) {
  status_.With([&, now = StatusOf(sessionizer_->Position(partition))](PipelineStatus& status) {
    status.partitions[partition] = now;
    status.offering = true;
    status.idle = false;
  });
}

// Gauges of a partition stay after it has left: this one says whose are true.
void SessionStage::NoteOwned(std::int32_t partition, bool owned) {
  instruments_.metrics
      .GetGauge("fuseline_ingest_partition_owned", "1 while this process reads the partition", {{"partition", std::to_string(partition)}})
      .Set(owned ? 1 : 0);
}

}  // namespace fuseline
