#include "fuseline/sessionizer/partition_sessions.h"

#include <algorithm>
#include <array>
#include <utility>

#include "fuseline/core/check.h"
#include "fuseline/core/digest.h"
#include "fuseline/proto/event_time.h"
#include "fuseline/sessionizer/reward.h"
#include "journal.h"
#include "partition_values.h"
#include "session_codec.h"
#include "user_table.h"

namespace fuseline {
namespace {

JoinedEvent JoinedOf(const SessionWindow& window, const OpenEvent& event) {
  return {.time_ms = event.time_ms, .is_exposure = event.is_exposure, .id = window.id(event), .body = window.body(event)};
}

template <typename Object>
void Fetch(const Object* object) {
  for (std::size_t byte = 0; byte < sizeof(Object); byte += 64) __builtin_prefetch(reinterpret_cast<const char*>(object) + byte);
}

}  // namespace

PartitionSessions::User::User(std::string_view user_id, std::uint64_t id_hash)
    : id(user_id), hash(id_hash), window(Fnv1a64(user_id)), timer_ms(kNoTimer) {}

PartitionSessions::PartitionSessions(std::int32_t partition, const SessionShape& shape, std::int64_t max_trajectory_bytes,
                                     ColdSessions* cold)
    : partition_(partition),
      max_trajectory_bytes_(max_trajectory_bytes),
      cold_(cold),
      shape_(shape),
      slot_of_user_(std::make_unique<UserTable>()),
      journal_(std::make_unique<Journal>()) {
  *state_.add_rules() = RulesOf(0, shape);
  FUSELINE_CHECK(IsPossible(rules()));
  state_.set_previous_offset(-1);
  state_.set_stream_time_ms(kBeforeTimeMs);
  state_.set_late_floor_ms(kBeforeTimeMs);
  state_.set_closed_before_ms(kBeforeTimeMs);
}

PartitionSessions::~PartitionSessions() = default;

// --- judging ---

Result<Verdict> PartitionSessions::Judge(const Record& record) {
  FUSELINE_CHECK(record.offset >= state_.next_offset() && !state_.finished() && !closing());
  FUSELINE_FAIL_IF_ERROR(FinishRebuildBefore(record.offset));
  const bool is_event = record.fate == RecordFate::kEvent;
  if (is_event && record.event.kind == EventView::Kind::kControl) return JudgeControl(record);
  Slot slot = UserTable::kNone;
  if (is_event && record.event.event_time_ms >= late_before_ms()) {
    const std::uint64_t hash = HashOf(record.event.user_id);
    slot = FindSlot(record.event.user_id, hash);
    if (slot == UserTable::kNone && cold_users_ > 0) {
      FUSELINE_ASSIGN_OR_FAIL(slot, Warm(record.event.user_id));
    }
    if (slot == UserTable::kNone) slot = NewUser(record.event.user_id, hash);
  }
  BeginRecord(record.offset);
  const std::int64_t bound_before_ms = closing_bound_ms();
  v1::Accounting& account = *state_.mutable_accounting();
  Verdict verdict = Verdict::kAccepted;
  if (record.fate == RecordFate::kVoidControl) {
    verdict = Verdict::kControl;
    account.set_control(account.control() + 1);
  } else if (record.fate == RecordFate::kMalformed) {
    verdict = Verdict::kMalformed;
    account.set_malformed(account.malformed() + 1);
  } else if (record.fate == RecordFate::kQuarantined) {
    verdict = Verdict::kQuarantined;
    account.set_quarantined(account.quarantined() + 1);
  } else if (slot == UserTable::kNone) {
    verdict = Verdict::kLate;
    account.set_late(account.late() + 1);
  } else {
    verdict = Accept(record, slot);
  }
  EndRecord(record.offset, bound_before_ms);
  return verdict;
}

Result<Verdict> PartitionSessions::JudgeControl(const Record& record) {
  v1::Control control;
  if (!control.ParseFromArray(record.event.body.data(), static_cast<int>(record.event.body.size()))) {
    return Error(Code::kInternal, "control record was not checked; partition, offset:", partition_, record.offset);
  }
  const bool has_news = control.has_rules() && control.rules().version() > rules().version();
  if (has_news && control.rules().format() != kSessionRulesFormat) {
    return Error(Code::kInvalidInput, "session rules of a format that this program does not know; partition, offset, format, known:",
                 partition_, record.offset, control.rules().format(), kSessionRulesFormat);
  }
  BeginRecord(record.offset);
  const std::int64_t bound_before_ms = closing_bound_ms();
  const bool is_valid_tick = control.has_tick() && control.tick().predecessor_offset() == state_.previous_offset();
  if (is_valid_tick) state_.set_stream_time_ms(std::max(state_.stream_time_ms(), record.event.event_time_ms));
  if (has_news && IsPossible(control.rules())) Obey(control.rules());
  state_.mutable_accounting()->set_control(state_.accounting().control() + 1);
  EndRecord(record.offset, bound_before_ms);
  return Verdict::kControl;
}

std::int64_t PartitionSessions::late_before_ms() const {
  return std::max(state_.stream_time_ms() - shape_.lateness_ms, state_.late_floor_ms());
}

std::int64_t PartitionSessions::closing_bound_ms() const {
  return state_.stream_time_ms() - shape_.lateness_ms - shape_.gap_ms;
}

void PartitionSessions::BeginRecord(std::int64_t offset) {
  if (points_.empty()) AddPoint(offset);
  state_.mutable_accounting()->set_read(state_.accounting().read() + 1);
}

void PartitionSessions::EndRecord(std::int64_t offset, std::int64_t bound_before_ms) {
  state_.set_previous_offset(offset);
  state_.set_next_offset(offset + 1);
  const std::int64_t bound_ms = closing_bound_ms();
  if (bound_ms <= bound_before_ms && !rules_changed_) return;
  rules_changed_ = false;
  GatherDue(bound_ms);
  if (due_.empty() && cold_end_ms_ >= bound_ms) return;
  state_.set_closed_before_ms(bound_before_ms);
  state_.mutable_closing()->set_offset(offset);
}

Verdict PartitionSessions::Accept(const Record& record, Slot slot) {
  const EventView& event = record.event;
  User& user = *users_[slot];
  v1::Accounting& account = *state_.mutable_accounting();
  if (const OpenEvent* known = user.window.FindId(event.event_time_ms, event.event_id)) {
    if (known->time_ms != event.event_time_ms) BarPointsAfter(user.low_point);
    account.set_duplicate(account.duplicate() + 1);
    return Verdict::kDuplicate;
  }
  SessionWindow::NewEvent open{.time_ms = event.event_time_ms,
                               .offset = record.offset,
                               .segment = journal_->current(),
                               .is_exposure = event.kind == EventView::Kind::kExposure,
                               .id = event.event_id,
                               .body = event.body};
  if (user.window.empty()) user.low_point = TakePointFor(record.offset);
  if (!AddOpen(slot, open)) open.body = {};
  journal_->Append(user.id, open);
  state_.set_stream_time_ms(std::max(state_.stream_time_ms(), open.time_ms));
  account.set_pending(account.pending() + 1);
  return Verdict::kAccepted;
}

bool PartitionSessions::AddOpen(Slot slot, const SessionWindow::NewEvent& event) {
  User& user = *users_[slot];
  const std::size_t memory_before = user.window.memory_bytes();
  const std::size_t sessions_before = user.window.session_count();
  const bool kept = user.window.Add(shape_, event);
  users_memory_ += user.window.memory_bytes() - memory_before;
  state_.set_open_sessions(state_.open_sessions() + user.window.session_count() - sessions_before);
  user.touched = true;
  SetTimer(slot);
  return kept;
}

// In force at once: what is open joins under the new rules, and the journal is written anew, so that nothing in it was closed
// under another bound than the present one.
void PartitionSessions::Obey(const v1::SessionRules& rules) {
  if (state_.stream_time_ms() > kBeforeTimeMs) state_.set_late_floor_ms(std::max(state_.late_floor_ms(), closing_bound_ms()));
  if (cold_users_ == 0) state_.clear_rules();
  *state_.add_rules() = rules;
  shape_ = ShapeOf(rules);
  rules_changed_ = true;
  journal_->Seal();  // What was closed under the old bound is in what is being filled, too.
  for (Slot slot = 0; slot < users_.size(); ++slot) {
    if (!users_[slot]) continue;
    User& user = *users_[slot];
    const std::size_t memory_before = user.window.memory_bytes();
    const std::size_t sessions_before = user.window.session_count();
    user.window.Reshape(shape_);
    users_memory_ += user.window.memory_bytes() - memory_before;
    state_.set_open_sessions(state_.open_sessions() + user.window.session_count() - sessions_before);
    WriteAgain(user);
  }
}

void PartitionSessions::WriteAgain(User& user) {
  const std::span<OpenEvent> events = user.window.mutable_events();
  for (std::size_t i = 0; i < events.size(); ++i) {
    const std::uint32_t segment = journal_->current();
    journal_->Append(user.id, user.window.Told(shape_, i));
    journal_->Died(std::exchange(events[i].segment, segment));
  }
}

Status PartitionSessions::AdvanceTo(std::int64_t offset) {
  FUSELINE_RETURN_IF_ERROR(FinishRebuildBefore(std::max(offset, state_.next_offset())));
  state_.set_next_offset(std::max(offset, state_.next_offset()));
  return OkStatus();
}

// --- closing ---

// A timer may be too early: it is looked at again when it is due. It must not be too late.
void PartitionSessions::SetTimer(Slot slot) {
  User& user = *users_[slot];
  if (user.window.earliest_end_ms() >= user.timer_ms) return;
  user.timer_ms = user.window.earliest_end_ms();
  timers_.emplace(user.timer_ms, slot);
}

void PartitionSessions::GatherDue(std::int64_t bound_ms) {
  while (!timers_.empty() && timers_.top().first < bound_ms) {
    const auto [timer_ms, slot] = timers_.top();
    timers_.pop();
    if (!users_[slot] || users_[slot]->timer_ms != timer_ms || users_[slot]->due) continue;
    User& user = *users_[slot];
    user.timer_ms = kNoTimer;
    if (user.window.earliest_end_ms() >= bound_ms) {
      SetTimer(slot);
      continue;
    }
    user.due = true;
    due_.push_back(slot);
  }
  SortDue();
  all_due_ = cold_end_ms_ >= bound_ms;
  due_through_.clear();
  PrefetchNextDue();
}

// A timer is due some records after it has become the first: by then its user should be at hand, and, another record later, the events.
void PartitionSessions::PrefetchNextDue() {
  if (timers_.empty()) return;
  const Slot next = timers_.top().second;
  if (std::exchange(fetched_due_, next) != next) {
    Fetch(&users_[next]);
  } else if (users_[next]) {
    users_[next]->window.PrefetchFirst();
  }
}

void PartitionSessions::SortDue() {
  std::sort(due_.begin(), due_.end(), [this](Slot a, Slot b) { return users_[a]->id > users_[b]->id; });
}

// Cold users who are due become warm: all of them, or the next by user id when they are very many.
Status PartitionSessions::WarmDue(std::int64_t bound_ms, std::size_t users_max) {
  const std::string after = due_through_.empty() ? state_.closing().after_user_id() : due_through_;
  FUSELINE_ASSIGN_OR_RETURN(ColdSessions::DueUsers found, cold_->Due(partition_, cold_end_ms_, bound_ms, after, users_max));
  for (const v1::ColdUser& cold : found.users) {
    if (warmed_.contains(cold.user_id())) continue;
    FUSELINE_ASSIGN_OR_RETURN(const Slot slot, WarmUser(cold));
    users_[slot]->due = true;
    due_.push_back(slot);
  }
  SortDue();
  all_due_ = found.all;
  if (all_due_) cold_end_ms_ = found.next_end_ms;
  if (!all_due_) due_through_ = found.users.back().user_id();
  return OkStatus();
}

Result<std::vector<Closing>> PartitionSessions::Close(std::size_t users_max) {
  FUSELINE_CHECK(closing());
  const std::int64_t bound_ms = state_.closing().flush() ? kNoTimer : closing_bound_ms();
  std::vector<Closing> closings;
  for (std::size_t users = 0; users < users_max;) {
    const bool knows_next = !due_.empty() && (all_due_ || users_[due_.back()]->id <= due_through_);
    if (!knows_next && all_due_) {
      EndClosing();
      break;
    }
    if (!knows_next) {
      FUSELINE_FAIL_IF_ERROR(WarmDue(bound_ms, users_max));
      continue;
    }
    const Slot slot = due_.back();
    due_.pop_back();
    *state_.mutable_closing()->mutable_after_user_id() = users_[slot]->id;
    CloseUser(slot, bound_ms, &closings);
    ++users;
  }
  return closings;
}

void PartitionSessions::CloseUser(Slot slot, std::int64_t bound_ms, std::vector<Closing>* closings) {
  User& user = *users_[slot];
  user.due = false;
  user.timer_ms = kNoTimer;
  while (!user.window.empty() && user.window.earliest_end_ms() < bound_ms) {
    const v1::SessionEnd end = state_.closing().flush() ? v1::FLUSHED : user.window.EndOfFirst(shape_);
    Closing closing = CloseFirst(user, end);
    if (!rebuilding()) closings->push_back(std::move(closing));
  }
  if (user.window.empty()) {
    ReleasePoint(user.low_point);
    RemoveUser(slot);
    return;
  }
  SetTimer(slot);
  ReleasePoint(std::exchange(user.low_point, TakePointFor(user.window.lowest_offset())));
}

Closing PartitionSessions::CloseFirst(User& user, v1::SessionEnd end) {
  SessionWindow& window = user.window;
  const std::span<const OpenEvent> events = window.first();
  Closing closing{.user_id = user.id,
                  .first_ms = events.front().time_ms,
                  .last_ms = events.back().time_ms,
                  .events = events.size(),
                  .end = end};
  std::vector<JoinedEvent>& joined = joined_;
  joined.clear();
  for (const OpenEvent& event : events) joined.push_back(JoinedOf(window, event));
  if (!rebuilding()) JoinClosing(window, joined, &closing);
  v1::Accounting& account = *state_.mutable_accounting();
  account.set_pending(account.pending() - events.size());
  if (rebuilding()) account.set_used(account.used() + events.size());  // Until the account of the former owner takes over.

  const std::size_t memory_before = window.memory_bytes();
  for (const OpenEvent& event : events) journal_->Died(event.segment);
  window.DropFirst();
  users_memory_ += window.memory_bytes() - memory_before;
  state_.set_open_sessions(state_.open_sessions() - 1);
  return closing;
}

void PartitionSessions::JoinClosing(const SessionWindow& window, std::span<const JoinedEvent> events, Closing* closing) {
  std::vector<JoinedEvent> next;
  if (closing->end == v1::TRUNCATED) {
    for (const OpenEvent& event : window.NextRequests(shape_)) next.push_back(JoinedOf(window, event));
  }
  std::optional<TrajectoryHead> head;
  if (HasTrajectory(events)) {
    head.emplace();
    head->name.set_partition(partition_);
    head->name.set_offset(state_.closing().offset());
    if (state_.has_last_name()) {
      head->predecessor = state_.last_name();
      if (state_.last_name().offset() == head->name.offset()) head->name.set_ordinal(state_.last_name().ordinal() + 1);
    }
    head->stream_time_ms = state_.stream_time_ms();
    *state_.mutable_last_name() = head->name;
    closing->name = head->name;
  }
  const SessionOutcome outcome = JoinRewards({.user_id = closing->user_id,
                                              .events = events,
                                              .end = closing->end,
                                              .next_requests = next,
                                              .events_total = events.size()},
                                             head ? &*head : nullptr, max_trajectory_bytes_, &closing->trajectory);
  closing->repeated_exposures = outcome.repeated_exposures;
  closing->unknown_kinds = outcome.unknown_kinds;
  closing->is_stub = outcome.is_stub;
  v1::Accounting& account = *state_.mutable_accounting();
  account.set_used(account.used() + events.size() - outcome.orphans);
  account.set_orphan(account.orphan() + outcome.orphans);
  account.set_used_over_max_events(account.used_over_max_events() + outcome.left_out);
  account.set_sessions(account.sessions() + 1);
  account.set_trajectories(account.trajectories() + (head ? 1 : 0));
}

void PartitionSessions::EndClosing() {
  if (state_.closing().flush()) state_.set_finished(true);
  state_.clear_closing();
}

void PartitionSessions::BeginFlush() {
  FUSELINE_CHECK(!closing());
  if (state_.finished()) return;
  state_.set_closed_before_ms(closing_bound_ms());
  GatherDue(kNoTimer);
  state_.mutable_closing()->set_offset(state_.next_offset());
  state_.mutable_closing()->set_flush(true);
}

Result<std::vector<Closing>> PartitionSessions::Flush() {
  BeginFlush();
  std::vector<Closing> closings;
  while (closing()) {
    FUSELINE_ASSIGN_OR_FAIL(std::vector<Closing> some, Close(std::numeric_limits<std::size_t>::max()));
    std::move(some.begin(), some.end(), std::back_inserter(closings));
  }
  return closings;
}

Result<PartitionSessions::Processed> PartitionSessions::Process(const Record& record) {
  Processed processed;
  FUSELINE_ASSIGN_OR_FAIL(processed.verdict, Judge(record));
  while (closing()) {
    FUSELINE_ASSIGN_OR_FAIL(std::vector<Closing> some, Close(std::numeric_limits<std::size_t>::max()));
    std::move(some.begin(), some.end(), std::back_inserter(processed.closings));
  }
  return processed;
}

// --- users ---

// Each look needs what the one before has fetched.
void PartitionSessions::Prefetch(std::span<const Record> next) const {
  std::array<std::uint64_t, kPrefetchMax> hashes;
  std::array<const User*, kPrefetchMax> users;
  next = next.first(std::min(next.size(), kPrefetchMax));
  for (std::size_t i = 0; i < next.size(); ++i) {
    hashes[i] = HashOf(next[i].event.user_id);
    slot_of_user_->Prefetch(hashes[i]);
  }
  for (std::size_t i = 0; i < next.size(); ++i) {
    const Slot slot = slot_of_user_->Find(hashes[i], [](Slot) { return true; });
    users[i] = slot == UserTable::kNone ? nullptr : &*users_[slot];
    if (users[i] == nullptr) continue;
    Fetch(users[i]);
  }
  for (std::size_t i = 0; i < next.size(); ++i) {
    if (users[i] == nullptr) continue;
    __builtin_prefetch(users[i]->id.data());
    users[i]->window.Prefetch(next[i].event.event_id);
  }
}

PartitionSessions::Slot PartitionSessions::FindSlot(std::string_view user_id, std::uint64_t hash) const {
  return slot_of_user_->Find(hash, [&](Slot slot) { return users_[slot]->hash == hash && users_[slot]->id == user_id; });
}

PartitionSessions::Slot PartitionSessions::NewUser(std::string_view user_id, std::uint64_t hash) {
  Slot slot = static_cast<Slot>(users_.size());
  if (free_slots_.empty()) {
    users_.emplace_back();
  } else {
    slot = free_slots_.back();
    free_slots_.pop_back();
  }
  users_[slot].emplace(user_id, hash);
  users_memory_ += user_id.size() + users_[slot]->window.memory_bytes();  // An empty window's string has room.
  slot_of_user_->Insert(hash, slot);
  return slot;
}

void PartitionSessions::RemoveUser(Slot slot) {
  const User& user = *users_[slot];
  users_memory_ -= user.id.size() + user.window.memory_bytes();
  slot_of_user_->Erase(user.hash, slot);
  users_[slot].reset();
  free_slots_.push_back(slot);
}

Result<PartitionSessions::Slot> PartitionSessions::Warm(std::string_view user_id) {
  if (warmed_.contains(user_id)) return UserTable::kNone;
  FUSELINE_ASSIGN_OR_FAIL(const std::optional<v1::ColdUser> cold, cold_->Find(partition_, user_id));
  if (!cold) return UserTable::kNone;
  return WarmUser(*cold);
}

// From now on the journal has the user's events; the store's record goes with the next commit.
Result<PartitionSessions::Slot> PartitionSessions::WarmUser(const v1::ColdUser& cold) {
  FUSELINE_ASSIGN_OR_FAIL(SessionWindow window, WindowOf(cold));
  const Slot slot = NewUser(cold.user_id(), HashOf(cold.user_id()));
  User& user = *users_[slot];
  users_memory_ -= user.window.memory_bytes();
  user.window = std::move(window);
  users_memory_ += user.window.memory_bytes();
  user.low_point = PointNumberFor(cold.lowest_offset());  // The count stays as it was.
  state_.set_open_sessions(state_.open_sessions() + user.window.session_count() - cold.sessions());
  const std::span<OpenEvent> events = user.window.mutable_events();
  for (std::size_t i = 0; i < events.size(); ++i) {
    events[i].segment = journal_->current();
    journal_->Append(user.id, user.window.Told(shape_, i));
  }
  SetTimer(slot);
  warmed_[cold.user_id()] = cold.earliest_end_ms();
  --cold_users_;
  return slot;
}

// Shaped by the rules that were in force when it went cold, then by each that came later: what they joined stays joined.
Result<SessionWindow> PartitionSessions::WindowOf(const v1::ColdUser& cold) const {
  SessionWindow window(Fnv1a64(cold.user_id()));
  auto rules = std::find_if(state_.rules().begin(), state_.rules().end(),
                            [&](const v1::SessionRules& each) { return each.version() == cold.rules_version(); });
  if (rules == state_.rules().end()) return Error(Code::kCorrupt, "cold sessions of unknown rules; user, version:", cold.user_id(), cold.rules_version());
  const SessionShape shape = ShapeOf(*rules);
  FUSELINE_FAIL_IF_ERROR(DecodeUserEvents(cold.events(), [&](std::string_view, const SessionWindow::NewEvent& event) { window.Add(shape, event); }));
  if (window.empty()) return Error(Code::kCorrupt, "cold sessions without events; user:", cold.user_id());
  while (++rules != state_.rules().end()) window.Reshape(ShapeOf(*rules));
  return window;
}

Result<SessionWindow> PartitionSessions::Look(std::string_view user_id) {
  const Slot slot = FindSlot(user_id, HashOf(user_id));
  if (slot != UserTable::kNone) return users_[slot]->window;
  if (cold_users_ == 0 || warmed_.contains(user_id)) return SessionWindow(0);
  FUSELINE_ASSIGN_OR_FAIL(const std::optional<v1::ColdUser> cold, cold_->Find(partition_, user_id));
  return cold ? WindowOf(*cold) : SessionWindow(0);
}

v1::ColdUser PartitionSessions::Cooled(const User& user) const {
  v1::ColdUser cold;
  cold.set_user_id(user.id);
  cold.set_earliest_end_ms(user.window.earliest_end_ms());
  cold.set_rules_version(rules().version());
  cold.set_lowest_offset(user.window.lowest_offset());
  cold.set_sessions(user.window.session_count());
  cold.set_event_count(user.window.events().size());
  EventEncoder encoder;
  for (std::size_t i = 0; i < user.window.events().size(); ++i) {
    encoder.Put(user.window.Told(shape_, i), cold.mutable_events());
  }
  return cold;
}

// The hand goes round over the users, as a clock's: who was touched since it passed last is spared once.
void PartitionSessions::CoolUntil(std::size_t memory_max, std::vector<v1::ColdUser>* cooled) {
  std::size_t memory = memory_bytes();
  for (std::size_t looked = 0; memory > memory_max && looked < 2 * users_.size(); ++looked) {
    if (hand_ >= users_.size()) hand_ = 0;
    const auto slot = static_cast<Slot>(hand_++);
    if (!users_[slot] || users_[slot]->due || std::exchange(users_[slot]->touched, false)) continue;
    User& user = *users_[slot];
    user.touched = true;  // The hand may come round once more before it has left.
    cooled->push_back(Cooled(user));
    cooling_.push_back(slot);
    memory -= std::min(memory, sizeof(User) + user.id.size() + user.window.memory_bytes());
  }
}

}  // namespace fuseline
