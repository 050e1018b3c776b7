// The half of PartitionSessions that a commit writes and a start reads: changes, points to rebuild from, restoring.
#include <algorithm>
#include <unordered_set>
#include <utility>

#include "fuseline/core/check.h"
#include "fuseline/sessionizer/partition_sessions.h"
#include "journal.h"
#include "partition_values.h"
#include "session_codec.h"
#include "user_table.h"

namespace fuseline {
namespace {

constexpr std::size_t kPointsMax = 1024;

}  // namespace

// --- commits ---

std::size_t PartitionSessions::memory_bytes() const {
  return users_memory_ + (users_.size() - free_slots_.size()) * sizeof(User) + slot_of_user_->memory_bytes() +
         timers_.size() * sizeof(Agenda::value_type) + points_.size() * sizeof(Point) + journal_->memory_bytes();
}

std::size_t PartitionSessions::unsaved_bytes() const { return journal_->unsaved_bytes(); }

std::optional<std::uint32_t> PartitionSessions::worth_rewriting() const { return journal_->worth_rewriting(); }

// Whole users are written again: events that a former shape has glued together must stay in order.
Status PartitionSessions::Rewrite(std::uint32_t number, std::string_view bytes) {
  std::unordered_set<Slot> done;
  return DecodeSegment(bytes, [&](std::string_view user_id, const SessionWindow::NewEvent&) {
    const Slot slot = FindSlot(user_id, HashOf(user_id));
    if (slot == UserTable::kNone || !done.insert(slot).second) return;
    const auto events = users_[slot]->window.events();
    const bool concerned = std::any_of(events.begin(), events.end(), [&](const OpenEvent& event) { return event.segment == number; });
    if (concerned) WriteAgain(*users_[slot]);
  });
}

SessionChanges PartitionSessions::Changes(std::size_t memory_max) {
  SessionChanges changes;
  journal_->Seal();
  cooling_.clear();
  if (cold_ != nullptr) CoolUntil(memory_max, &changes.cooled);
  for (const Journal::Segment& segment : journal_->unsaved()) changes.segments.push_back({segment.number, segment.bytes});
  changes.dead_segments = journal_->dead();
  changes.warmed.assign(warmed_.begin(), warmed_.end());
  MaybeAddPoint();
  for (Point& point : points_) {
    if (!point.saved) changes.points.push_back(point.point);
  }
  changes.dead_points = dead_points_;
  if (!closing()) state_.set_closed_before_ms(state_.finished() ? kNoTimer : closing_bound_ms());
  return changes;
}

void PartitionSessions::ChangesSaved() {
  journal_->Saved();
  warmed_.clear();
  for (const Slot slot : cooling_) {
    const User& user = *users_[slot];
    for (const OpenEvent& event : user.window.events()) journal_->Died(event.segment);
    cold_end_ms_ = std::min(cold_end_ms_, user.window.earliest_end_ms());
    ++cold_users_;
    RemoveUser(slot);
  }
  cooling_.clear();
  for (Point& point : points_) point.saved = true;
  dead_points_.clear();
}

void PartitionSessions::Forget() {
  Changes(std::numeric_limits<std::size_t>::max());
  ChangesSaved();
}

// --- points to rebuild from ---

v1::CommitPoint PartitionSessions::low_water() const {
  const std::size_t lowest = LowestPoint();
  return lowest == points_.size() ? PointAt(state_.next_offset()) : points_[lowest].point;
}

// The index of the newest point not above any open event that one may begin from; points_.size() when nothing is open.
std::size_t PartitionSessions::LowestPoint() const {
  std::size_t lowest = 0;
  while (lowest < points_.size() && points_[lowest].users == 0) ++lowest;
  if (lowest == points_.size()) return lowest;
  while (points_[lowest].point.barred()) --lowest;  // The first never is.
  return lowest;
}

// A record has the id of an event of some session that is open, but not its time. Whoever begins between that session's first
// record and this one does not know the event. That is no harm where the times are the same: this one then is part of that
// session, and goes with it. Another time could move the clock, or be in a session that stays.
void PartitionSessions::BarPointsAfter(std::uint64_t number) {
  for (std::size_t i = number - first_point_ + 1; i < points_.size(); ++i) {
    if (points_[i].point.barred()) continue;
    points_[i].point.set_barred(true);
    points_[i].saved = false;
  }
}

v1::CommitPoint PartitionSessions::PointAt(std::int64_t offset) const {
  v1::CommitPoint point;
  point.set_offset(offset);
  point.set_previous_offset(state_.previous_offset());
  point.set_stream_time_ms(state_.stream_time_ms());
  point.set_late_floor_ms(state_.late_floor_ms());
  *point.mutable_rules() = rules();
  return point;
}

void PartitionSessions::AddPoint(std::int64_t offset) { points_.push_back({.point = PointAt(offset)}); }

// Where points are many they stand apart in proportion to all that they span: a low water is then off by a thousandth.
void PartitionSessions::MaybeAddPoint() {
  if (points_.empty() || closing()) return;
  const std::int64_t distance = state_.next_offset() - points_.back().point.offset();
  const std::int64_t span = state_.next_offset() - points_.front().point.offset();
  if (distance == 0 || (points_.size() >= kPointsMax && distance < span / static_cast<std::int64_t>(kPointsMax))) return;
  AddPoint(state_.next_offset());
  DropPoints();
}

std::uint64_t PartitionSessions::PointNumberFor(std::int64_t offset) const {
  const auto above = std::upper_bound(points_.begin(), points_.end(), offset,
                                      [](std::int64_t at, const Point& point) { return at < point.point.offset(); });
  FUSELINE_CHECK(above != points_.begin());
  return first_point_ + static_cast<std::uint64_t>(above - points_.begin()) - 1;
}

std::uint64_t PartitionSessions::TakePointFor(std::int64_t offset) {
  const std::uint64_t number = PointNumberFor(offset);
  ++points_[number - first_point_].users;
  return number;
}

void PartitionSessions::ReleasePoint(std::uint64_t number) {
  --points_[number - first_point_].users;
  DropPoints();
}

void PartitionSessions::DropPoints() {
  std::size_t unneeded = LowestPoint();
  if (unneeded == points_.size() && unneeded > 0) --unneeded;  // One stays, as long as the next may be begun from.
  while (unneeded > 0 && points_[unneeded].point.barred()) --unneeded;
  for (; unneeded > 0; --unneeded) {
    const bool may_be_stored = points_.front().saved || points_.front().point.barred();
    if (may_be_stored) dead_points_.push_back(points_.front().point.offset());
    points_.pop_front();
    ++first_point_;
  }
}

// --- beginning elsewhere ---

void PartitionSessions::RestoreState(v1::PartitionState state) {
  state_ = std::move(state);
  state_.set_open_sessions(0);
  shape_ = ShapeOf(rules());
}

void PartitionSessions::RestorePoint(const v1::CommitPoint& point) { points_.push_back({.point = point, .saved = true}); }

Status PartitionSessions::RestoreCold(const v1::ColdUser& user) {
  if (points_.empty() || points_.front().point.offset() > user.lowest_offset()) {
    return ErrorStatus(Code::kCorrupt, "cold sessions begin before every commit point; user:", user.user_id());
  }
  ++cold_users_;
  restored_events_ += user.event_count();
  cold_end_ms_ = std::min(cold_end_ms_, user.earliest_end_ms());
  state_.set_open_sessions(state_.open_sessions() + user.sessions());
  TakePointFor(user.lowest_offset());
  return OkStatus();
}

Status PartitionSessions::RestoreSegment(std::uint32_t number, std::string_view bytes) {
  std::uint32_t count = 0;
  FUSELINE_RETURN_IF_ERROR(DecodeSegment(bytes, [&](std::string_view, const SessionWindow::NewEvent&) { ++count; }));
  journal_->Restore(number, bytes.size(), count);
  Status failed = OkStatus();
  FUSELINE_RETURN_IF_ERROR(DecodeSegment(bytes, [&](std::string_view user_id, SessionWindow::NewEvent event) {
    if (failed.ok()) failed = RestoreEvent(number, user_id, event);
  }));
  return failed;
}

Status PartitionSessions::RestoreEvent(std::uint32_t number, std::string_view user_id, SessionWindow::NewEvent event) {
  const std::uint64_t hash = HashOf(user_id);
  Slot slot = FindSlot(user_id, hash);
  if (slot == UserTable::kNone && cold_users_ > 0) {
    FUSELINE_ASSIGN_OR_RETURN(const std::optional<v1::ColdUser> cold, cold_->Find(partition_, user_id));
    if (cold) return OkStatus();  // What the journal still has of a cold user is dead.
  }
  if (slot == UserTable::kNone) slot = NewUser(user_id, hash);
  event.segment = number;
  if (OpenEvent* known = users_[slot]->window.Find(event.offset, event.time_ms, event.id)) {  // It was written again later.
    journal_->Moved(std::exchange(known->segment, number));
    if (event.glued) users_[slot]->window.Glue(known);
  } else {
    AddOpen(slot, event);
  }
  journal_->Revive(number);
  return OkStatus();
}

Status PartitionSessions::RestoreDone() {
  for (Slot slot = 0; slot < users_.size(); ++slot) {
    if (!users_[slot]) continue;
    User& user = *users_[slot];
    DropClosed(user);
    user.timer_ms = kNoTimer;
    if (user.window.empty()) {
      RemoveUser(slot);
      continue;
    }
    if (points_.empty() || points_.front().point.offset() > user.window.lowest_offset()) {
      return ErrorStatus(Code::kCorrupt, "open sessions begin before every commit point; user:", user.id);
    }
    restored_events_ += user.window.events().size();
    user.low_point = TakePointFor(user.window.lowest_offset());
    SetTimer(slot);
  }
  if (restored_events_ != state_.accounting().pending()) {
    return ErrorStatus(Code::kCorrupt, "saved events are not those pending; partition, events, pending:", partition_,
                       restored_events_, state_.accounting().pending());
  }
  journal_->Restored();
  DropPoints();
  if (closing()) GatherDue(state_.closing().flush() ? kNoTimer : closing_bound_ms());
  return OkStatus();
}

// What the journal still has of sessions that were closed before it was saved.
void PartitionSessions::DropClosed(User& user) {
  std::int64_t bound_ms = state_.closed_before_ms();
  if (closing() && user.id <= state_.closing().after_user_id()) bound_ms = state_.closing().flush() ? kNoTimer : closing_bound_ms();
  const std::size_t memory_before = user.window.memory_bytes();
  while (!user.window.empty() && user.window.earliest_end_ms() < bound_ms) {
    for (const OpenEvent& event : user.window.first()) journal_->Moved(event.segment);
    user.window.DropFirst();
    state_.set_open_sessions(state_.open_sessions() - 1);
  }
  users_memory_ += user.window.memory_bytes() - memory_before;
}

Status PartitionSessions::BeginRebuild(std::int64_t until_offset, const v1::OffsetMetadata& metadata) {
  // The low water may be where a state that has read nothing stands: at the log's very start.
  const bool is_new = state_.accounting().read() == 0 && points_.empty();
  if (is_new || state_.next_offset() < metadata.low_water_offset()) {
    state_.set_next_offset(metadata.low_water_offset());
    state_.set_previous_offset(metadata.previous_offset());
    state_.set_stream_time_ms(metadata.stream_time_ms());
    state_.set_late_floor_ms(metadata.late_floor_ms());
    state_.clear_rules();
    *state_.add_rules() = metadata.rules();
    if (!IsPossible(rules())) return ErrorStatus(Code::kInvalidInput, "the committed offset's metadata carries impossible rules; partition:", partition_);
    shape_ = ShapeOf(rules());
    AddPoint(metadata.low_water_offset());
  }
  state_.mutable_rebuilding()->set_until_offset(until_offset);
  *state_.mutable_rebuilding()->mutable_metadata() = metadata;
  return FinishRebuildBefore(state_.next_offset());
}

Status PartitionSessions::FinishRebuildBefore(std::int64_t offset) {
  if (!rebuilding() || offset < state_.rebuilding().until_offset()) return OkStatus();
  const v1::OffsetMetadata& metadata = state_.rebuilding().metadata();
  if (state_.accounting().pending() != metadata.accounting().pending()) {
    return ErrorStatus(Code::kInvalidInput,
                       "rebuilt sessions are not those of the committed offset: the log has changed; begin again with --cold-start;"
                       " partition, offset, open events, committed:",
                       partition_, state_.rebuilding().until_offset(), state_.accounting().pending(), metadata.accounting().pending());
  }
  *state_.mutable_accounting() = metadata.accounting();
  state_.clear_last_name();
  if (metadata.has_last_name()) *state_.mutable_last_name() = metadata.last_name();
  state_.clear_rebuilding();
  return OkStatus();
}

}  // namespace fuseline
