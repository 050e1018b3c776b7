#include "fuseline/sessionizer/partition_sessions.h"

#include <algorithm>
#include <utility>

#include "fuseline/core/check.h"
#include "fuseline/sessionizer/reward.h"
#include "session_codec.h"

namespace fuseline {
namespace {

// A payload is the body behind its tag and length, as in the v1::Event itself.
void SetPayload(const EventView& event, std::string* payload) {
  payload->push_back(event.kind == EventView::Kind::kExposure ? '\x22' : '\x2A');
  std::size_t size = event.body.size();
  for (; size >= 0x80; size >>= 7) payload->push_back(static_cast<char>(size | 0x80));
  payload->push_back(static_cast<char>(size));
  payload->append(event.body);
}

}  // namespace

PartitionSessions::PartitionSessions(std::int32_t partition, const SessionShape& shape, std::int64_t max_trajectory_bytes)
    : partition_(partition), shape_(shape), max_trajectory_bytes_(max_trajectory_bytes) {
  FUSELINE_CHECK(shape.gap_ms >= 0 && shape.gap_ms <= kShapeMaxMs);
  FUSELINE_CHECK(shape.lateness_ms >= 0 && shape.lateness_ms <= kShapeMaxMs);
  FUSELINE_CHECK(shape.cut_every_ms >= 0 && shape.cut_every_ms <= kShapeMaxMs);
  FUSELINE_CHECK(shape.max_events >= 1);
}

PartitionSessions::Processed PartitionSessions::Process(Record& record) {
  FUSELINE_CHECK(record.offset >= state_.next_offset && !state_.finished);
  const std::int64_t time_before = state_.stream_time_ms;
  Processed processed;
  processed.verdict = Judge(record);
  state_.accounting.set_read(state_.accounting.read() + 1);
  state_.previous_offset = record.offset;
  state_.next_offset = record.offset + 1;
  if (state_.stream_time_ms != time_before) processed.closings = CloseDue(record.offset);
  return processed;
}

Verdict PartitionSessions::Judge(Record& record) {
  v1::Accounting& account = state_.accounting;
  const EventView& event = record.event;
  const bool is_event = record.fate == RecordFate::kEvent;
  if (record.fate == RecordFate::kVoidControl || (is_event && event.kind == EventView::Kind::kControl)) {
    v1::Event parsed;
    if (is_event) FUSELINE_CHECK(ParseEvent(event, &parsed).ok());
    const bool is_valid_tick = parsed.control().has_tick() && state_.previous_offset >= 0 &&
                               parsed.control().tick().predecessor_offset() == state_.previous_offset;
    if (is_valid_tick) state_.stream_time_ms = std::max(state_.stream_time_ms, event.event_time_ms);
    account.set_control(account.control() + 1);
    return Verdict::kControl;
  }
  if (record.fate == RecordFate::kQuarantined) {
    account.set_quarantined(account.quarantined() + 1);
    return Verdict::kQuarantined;
  }
  if (record.fate == RecordFate::kMalformed) {
    account.set_malformed(account.malformed() + 1);
    return Verdict::kMalformed;
  }
  if (event.event_time_ms < state_.stream_time_ms - shape_.lateness_ms) {
    account.set_late(account.late() + 1);
    return Verdict::kLate;
  }
  return Accept(record);
}

Verdict PartitionSessions::Accept(Record& record) {
  const EventView& event = record.event;
  const Slot slot = SlotOf(event.user_id);
  if (users_[slot]->window.Contains(event.event_time_ms, event.event_id)) {
    state_.accounting.set_duplicate(state_.accounting.duplicate() + 1);
    return Verdict::kDuplicate;
  }
  OpenEvent open{.time_ms = event.event_time_ms,
                 .offset = record.offset,
                 .previous_offset = state_.previous_offset,
                 .stream_before_ms = state_.stream_time_ms,
                 .is_exposure = event.kind == EventView::Kind::kExposure,
                 .id = std::string(event.event_id)};
  SetPayload(event, &open.payload);
  EncodeOpenEvent(open, &users_[slot]->unsaved);
  state_.stream_time_ms = std::max(state_.stream_time_ms, open.time_ms);
  state_.accounting.set_pending(state_.accounting.pending() + 1);
  AddOpen(slot, std::move(open));
  MarkDirty(slot);
  return Verdict::kAccepted;
}

void PartitionSessions::AddOpen(Slot slot, OpenEvent event) {
  User& user = *users_[slot];
  const std::size_t sessions_before = user.window.session_count();
  user.window.Add(shape_, std::move(event));
  open_sessions_ += user.window.session_count() - sessions_before;
  SetAgenda(slot);
}

// A timer may be too early: it is looked at again when it is due. It must not be too late.
void PartitionSessions::SetAgenda(Slot slot) {
  User& user = *users_[slot];
  if (user.window.empty()) return;
  if (user.window.earliest_end_ms() < user.timer_ms) {
    user.timer_ms = user.window.earliest_end_ms();
    timers_.emplace(user.timer_ms, slot);
  }
  if (user.low_offset == kNoOffset) {
    user.low_offset = user.window.oldest_record().offset;
    low_offsets_.emplace(user.low_offset, slot);
  }
}

std::vector<Closing> PartitionSessions::CloseDue(std::int64_t offset) {
  const std::int64_t bound_ms = state_.stream_time_ms - shape_.lateness_ms - shape_.gap_ms;
  std::vector<Slot> due;
  while (!timers_.empty() && timers_.top().first < bound_ms) {
    const auto [timer_ms, slot] = timers_.top();
    timers_.pop();
    if (!users_[slot] || users_[slot]->timer_ms != timer_ms) continue;
    User& user = *users_[slot];
    user.timer_ms = kNoTimer;
    if (user.window.earliest_end_ms() < bound_ms) {
      due.push_back(slot);
    } else {
      SetAgenda(slot);
    }
  }
  SortByUser(&due);
  std::vector<Closing> closings;
  for (const Slot slot : due) {
    CloseOf(slot, users_[slot]->window.CloseBefore(shape_, bound_ms), offset, &closings);
  }
  return closings;
}

std::vector<Closing> PartitionSessions::Flush() {
  std::vector<Closing> closings;
  if (state_.finished) return closings;
  std::vector<Slot> open;
  for (Slot slot = 0; slot < users_.size(); ++slot) {
    if (users_[slot] && !users_[slot]->window.empty()) open.push_back(slot);
  }
  SortByUser(&open);
  for (const Slot slot : open) CloseOf(slot, users_[slot]->window.Flush(), state_.next_offset, &closings);
  state_.finished = true;
  return closings;
}

void PartitionSessions::CloseOf(Slot slot, std::vector<ClosedSession> sessions, std::int64_t offset,
                                std::vector<Closing>* closings) {
  User& user = *users_[slot];
  v1::Accounting& account = state_.accounting;
  for (const ClosedSession& session : sessions) {
    BuiltTrajectory outcome = BuildTrajectory(user.id, session, max_trajectory_bytes_);
    if (outcome.trajectory) GiveName(offset, &*outcome.trajectory);
    account.set_pending(account.pending() - session.events.size());
    account.set_used(account.used() + session.events.size() - outcome.orphans);
    account.set_orphan(account.orphan() + outcome.orphans);
    account.set_used_over_max_events(account.used_over_max_events() + outcome.left_out);
    account.set_sessions(account.sessions() + 1);
    account.set_trajectories(account.trajectories() + (outcome.trajectory ? 1 : 0));
    closings->push_back({.user_id = user.id,
                         .first_ms = session.first_ms(),
                         .last_ms = session.last_ms(),
                         .events = session.events.size(),
                         .end = session.end,
                         .trajectory = std::move(outcome.trajectory),
                         .repeated_exposures = outcome.repeated_exposures,
                         .unknown_kinds = outcome.unknown_kinds});
  }
  open_sessions_ -= sessions.size();
  user.chunks_stale = true;
  user.unsaved.clear();
  user.timer_ms = kNoTimer;
  user.low_offset = kNoOffset;
  SetAgenda(slot);
  MarkDirty(slot);
}

void PartitionSessions::GiveName(std::int64_t offset, v1::Trajectory* trajectory) {
  v1::TrajectoryName name;
  name.set_partition(partition_);
  name.set_offset(offset);
  if (state_.last_name) {
    *trajectory->mutable_predecessor() = *state_.last_name;
    if (state_.last_name->offset() == offset) name.set_ordinal(state_.last_name->ordinal() + 1);
  }
  *trajectory->mutable_name() = name;
  trajectory->set_stream_time_ms(state_.stream_time_ms);
  state_.last_name = std::move(name);
}

void PartitionSessions::AdvanceTo(std::int64_t offset) { state_.next_offset = std::max(state_.next_offset, offset); }

std::optional<PartitionSessions::LowWater> PartitionSessions::low_water() {
  while (!low_offsets_.empty()) {
    const auto [offset, slot] = low_offsets_.top();
    if (users_[slot] && users_[slot]->low_offset == offset) {
      const OpenEvent& event = users_[slot]->window.oldest_record();
      return LowWater{event.offset, event.previous_offset, event.stream_before_ms};
    }
    low_offsets_.pop();
  }
  return std::nullopt;
}

PartitionSessions::Slot PartitionSessions::SlotOf(std::string_view user_id) {
  if (const auto found = slot_of_user_.find(user_id); found != slot_of_user_.end()) return found->second;
  Slot slot = 0;
  if (free_slots_.empty()) {
    slot = static_cast<Slot>(users_.size());
    users_.emplace_back();
  } else {
    slot = free_slots_.back();
    free_slots_.pop_back();
  }
  users_[slot].emplace(user_id, CutPhase(user_id, shape_.cut_every_ms));
  slot_of_user_.emplace(user_id, slot);
  return slot;
}

void PartitionSessions::MarkDirty(Slot slot) {
  if (users_[slot]->dirty) return;
  users_[slot]->dirty = true;
  dirty_.push_back(slot);
}

void PartitionSessions::SortByUser(std::vector<Slot>* slots) const {
  std::sort(slots->begin(), slots->end(), [this](Slot a, Slot b) { return users_[a]->id < users_[b]->id; });
}

std::vector<UserChange> PartitionSessions::Changes() {
  SortByUser(&dirty_);
  rewritten_.clear();
  rewritten_.reserve(dirty_.size());  // Views into it must stay.
  std::vector<UserChange> changes;
  changes.reserve(dirty_.size());
  for (const Slot slot : dirty_) {
    const User& user = *users_[slot];
    UserChange change{.user_id = user.id, .chunk = user.chunk_end, .bytes = user.unsaved};
    if (user.chunks_stale) {
      change.drop_begin = user.chunk_begin;
      change.drop_end = user.chunk_end;
      std::string& bytes = rewritten_.emplace_back();
      for (const SessionEvents& session : user.window.sessions()) {
        for (const OpenEvent& event : session) EncodeOpenEvent(event, &bytes);
      }
      change.bytes = bytes;
    }
    changes.push_back(change);
  }
  return changes;
}

void PartitionSessions::ChangesSaved() {
  for (const Slot slot : dirty_) {
    User& user = *users_[slot];
    if (user.window.empty()) {
      slot_of_user_.erase(user.id);
      users_[slot].reset();
      free_slots_.push_back(slot);
      continue;
    }
    if (user.chunks_stale) user.chunk_begin = user.chunk_end;
    ++user.chunk_end;
    user.chunks_stale = false;
    user.dirty = false;
    std::string().swap(user.unsaved);
  }
  dirty_.clear();
  rewritten_.clear();
}

void PartitionSessions::RestoreChunk(std::string_view user_id, std::uint32_t chunk, std::vector<OpenEvent> events) {
  const Slot slot = SlotOf(user_id);
  User& user = *users_[slot];
  user.chunk_begin = user.chunk_end == 0 ? chunk : std::min(user.chunk_begin, chunk);
  user.chunk_end = std::max(user.chunk_end, chunk + 1);
  std::int64_t low_offset = user.low_offset;
  for (OpenEvent& event : events) {
    if (low_offset == kNoOffset || event.offset < low_offset) low_offset = event.offset;
    AddOpen(slot, std::move(event));
  }
  if (low_offset < user.low_offset) {
    user.low_offset = low_offset;
    low_offsets_.emplace(low_offset, slot);
  }
}

}  // namespace fuseline
