#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "fuseline/core/digest.h"
#include "fuseline/proto/event_batch.h"
#include "fuseline/v1/event.pb.h"
#include "fuseline/v1/trajectory.pb.h"

namespace fuseline::test {

// One record of a partition's log, as it was sent.
struct LoggedRecord {
  std::int64_t offset = 0;
  RecordFate fate = RecordFate::kEvent;
  v1::Event event;
};

// What the rules say, as slowly and plainly as they are said: one partition, every accepted event kept for ever, every
// session looked at again after each record. Shares nothing with the room under test but the messages.
class SessionOracle {
 public:
  struct Closed {
    std::string user_id;
    std::int64_t first_ms = 0, last_ms = 0;
    std::uint64_t events = 0;
    v1::SessionEnd end = v1::TERMINATED;
    std::optional<v1::Trajectory> trajectory;  // Absent without an exposure.
  };
  // What a record is judged by, and what is known of the past; everything but the events.
  struct State {
    std::int64_t stream_time_ms = kBeforeTimeMs;
    std::int64_t previous_offset = -1;  // Of the record just before; -1: none.
    std::int64_t late_floor_ms = kBeforeTimeMs;
    v1::SessionRules rules;
    v1::Accounting account;
    std::optional<v1::TrajectoryName> last_name;
  };
  struct Accepted {
    v1::Event event;
    std::int64_t offset = 0;
    bool left_out = false;  // Was once beyond max_events.
  };
  struct Session {
    std::vector<Accepted> events;  // By (time, id).
    bool closed = false;

    std::int64_t first_ms() const { return events.front().event.event_time_ms(); }
    std::int64_t last_ms() const { return events.back().event.event_time_ms(); }
  };

  SessionOracle(std::int32_t partition, State at_the_beginning, std::int64_t max_trajectory_bytes)
      : partition_(partition), max_trajectory_bytes_(max_trajectory_bytes), state_(std::move(at_the_beginning)) {}

  // Returns the sessions that the record closes, by user id, then first event.
  std::vector<Closed> Process(const LoggedRecord& record) {
    Count(&v1::Accounting::read, &v1::Accounting::set_read);
    Judge(record);
    state_.previous_offset = record.offset;
    return CloseDue(record.offset, /*flush=*/false);
  }
  // The end of a finite input.
  std::vector<Closed> Flush(std::int64_t next_offset) { return CloseDue(next_offset, /*flush=*/true); }

  const State& state() const { return state_; }
  // By user, then first event; the closed ones too.
  const std::map<std::string, std::vector<Session>>& sessions() const { return sessions_; }

  // The lowest offset of an event of a session that is open.
  std::optional<std::int64_t> low_water() const {
    std::optional<std::int64_t> low;
    for (const auto& [user, sessions] : sessions_) {
      for (const Session& session : sessions) {
        if (session.closed) continue;
        for (const Accepted& each : session.events) low = std::min(low.value_or(each.offset), each.offset);
      }
    }
    return low;
  }

 private:
  using Get = std::uint64_t (v1::Accounting::*)() const;
  using Set = void (v1::Accounting::*)(std::uint64_t);
  void Count(Get get, Set set, std::uint64_t by = 1) { (state_.account.*set)((state_.account.*get)() + by); }

  // The first that applies: control, malformed, quarantined, late, duplicate, then used.
  void Judge(const LoggedRecord& record) {
    const v1::Event& event = record.event;
    if (record.fate == RecordFate::kVoidControl || (record.fate == RecordFate::kEvent && event.has_control())) {
      Count(&v1::Accounting::control, &v1::Accounting::set_control);
      if (record.fate == RecordFate::kEvent) Obey(event);
    } else if (record.fate == RecordFate::kMalformed) {
      Count(&v1::Accounting::malformed, &v1::Accounting::set_malformed);
    } else if (record.fate == RecordFate::kQuarantined) {
      Count(&v1::Accounting::quarantined, &v1::Accounting::set_quarantined);
    } else if (event.event_time_ms() <
               std::max(state_.stream_time_ms - state_.rules.lateness_ms(), state_.late_floor_ms)) {
      Count(&v1::Accounting::late, &v1::Accounting::set_late);
    } else if (IsInOpenSession(event)) {
      Count(&v1::Accounting::duplicate, &v1::Accounting::set_duplicate);
    } else {
      Count(&v1::Accounting::pending, &v1::Accounting::set_pending);
      state_.stream_time_ms = std::max(state_.stream_time_ms, event.event_time_ms());
      Place(record);
    }
  }

  void Obey(const v1::Event& event) {
    if (event.control().has_tick()) {
      if (event.control().tick().predecessor_offset() != state_.previous_offset) return;
      state_.stream_time_ms = std::max(state_.stream_time_ms, event.event_time_ms());
      return;
    }
    const v1::SessionRules& rules = event.control().rules();
    if (rules.version() <= state_.rules.version()) return;
    if (state_.stream_time_ms != kBeforeTimeMs) state_.late_floor_ms = std::max(state_.late_floor_ms, Bound());
    state_.rules = rules;
    for (auto& [user, sessions] : sessions_) {
      for (std::size_t i = 1; i < sessions.size();) {
        const bool joins = !sessions[i - 1].closed && Joins(user, sessions[i - 1].last_ms(), sessions[i].first_ms());
        joins ? Merge(&sessions, i - 1) : void(++i);
      }
      LeaveOutWhatIsBeyond(&sessions);
    }
  }

  std::int64_t Bound() const { return state_.stream_time_ms - state_.rules.lateness_ms() - state_.rules.gap_ms(); }

  // k such that the instants [k * cut_every + phase, (k + 1) * cut_every + phase) hold the time.
  std::int64_t Cell(const std::string& user, std::int64_t time_ms) const {
    const std::int64_t cut_every_ms = state_.rules.cut_every_ms();
    if (cut_every_ms == 0) return 0;
    const auto phase = static_cast<std::int64_t>(Fnv1a64(user) % static_cast<std::uint64_t>(cut_every_ms));
    std::int64_t k = -2;
    while ((k + 1) * cut_every_ms + phase <= time_ms) ++k;
    return k;
  }
  bool Joins(const std::string& user, std::int64_t earlier_ms, std::int64_t later_ms) const {
    return later_ms - earlier_ms <= state_.rules.gap_ms() && Cell(user, earlier_ms) == Cell(user, later_ms);
  }

  bool IsInOpenSession(const v1::Event& event) const {
    const auto user = sessions_.find(event.user_id());
    if (user == sessions_.end()) return false;
    for (const Session& session : user->second) {
      for (const Accepted& each : session.events) {
        if (!session.closed && each.event.event_id() == event.event_id()) return true;
      }
    }
    return false;
  }

  static void SortEvents(Session* session) {
    std::ranges::sort(session->events, {}, [](const Accepted& each) {
      return std::pair(each.event.event_time_ms(), each.event.event_id());
    });
  }
  static void Merge(std::vector<Session>* sessions, std::size_t i) {
    auto& from = (*sessions)[i + 1].events;
    auto& into = (*sessions)[i].events;
    into.insert(into.end(), from.begin(), from.end());
    SortEvents(&(*sessions)[i]);
    sessions->erase(sessions->begin() + static_cast<std::ptrdiff_t>(i) + 1);
  }

  // Alone at first; then it joins what its time lies in, or else the session before it and the one after it.
  void Place(const LoggedRecord& record) {
    const std::string& user = record.event.user_id();
    const std::int64_t time_ms = record.event.event_time_ms();
    std::vector<Session>& sessions = sessions_[user];
    const auto around = std::ranges::find_if(
        sessions, [&](const Session& s) { return !s.closed && s.first_ms() <= time_ms && time_ms <= s.last_ms(); });
    if (around != sessions.end()) {
      around->events.push_back({record.event, record.offset});
      SortEvents(&*around);
    } else {
      std::size_t i = 0;
      while (i < sessions.size() && sessions[i].last_ms() < time_ms) ++i;
      sessions.insert(sessions.begin() + static_cast<std::ptrdiff_t>(i), Session{{{record.event, record.offset}}});
      if (i + 1 < sessions.size() && Joins(user, time_ms, sessions[i + 1].first_ms())) Merge(&sessions, i);
      if (i > 0 && !sessions[i - 1].closed && Joins(user, sessions[i - 1].last_ms(), time_ms)) Merge(&sessions, i - 1);
    }
    LeaveOutWhatIsBeyond(&sessions);
  }

  void LeaveOutWhatIsBeyond(std::vector<Session>* sessions) const {
    for (Session& session : *sessions) {
      for (std::size_t i = state_.rules.max_events(); i < session.events.size() && !session.closed; ++i) {
        session.events[i].left_out = true;
      }
    }
  }

  std::vector<Closed> CloseDue(std::int64_t offset, bool flush) {
    std::vector<Closed> all;
    std::uint32_t ordinal = 0;
    for (auto& [user, sessions] : sessions_) {
      for (std::size_t i = 0; i < sessions.size(); ++i) {
        Session& session = sessions[i];
        if (session.closed || !(flush || session.last_ms() < Bound())) continue;
        const Session* next = i + 1 < sessions.size() && !flush ? &sessions[i + 1] : nullptr;
        const bool goes_on = next != nullptr && next->first_ms() - session.last_ms() <= state_.rules.gap_ms();
        Closed closed{.user_id = user,
                      .first_ms = session.first_ms(),
                      .last_ms = session.last_ms(),
                      .events = session.events.size(),
                      .end = flush     ? v1::FLUSHED
                             : goes_on ? v1::TRUNCATED
                                       : v1::TERMINATED,
                      .trajectory = Learn(user, session)};
        session.closed = true;
        if (closed.trajectory) {
          closed.trajectory->set_end(closed.end);
          if (goes_on) SetNextStep(session.last_ms() + state_.rules.gap_ms(), *next, &*closed.trajectory);
          GiveName(offset, ordinal++, &*closed.trajectory);
          MakeStubIfTooLarge(&*closed.trajectory);
        }
        all.push_back(std::move(closed));
      }
    }
    return all;
  }

  void GiveName(std::int64_t offset, std::uint32_t ordinal, v1::Trajectory* trajectory) {
    if (state_.last_name) *trajectory->mutable_predecessor() = *state_.last_name;
    trajectory->mutable_name()->set_partition(partition_);
    trajectory->mutable_name()->set_offset(offset);
    trajectory->mutable_name()->set_ordinal(ordinal);
    trajectory->set_stream_time_ms(state_.stream_time_ms);
    state_.last_name = trajectory->name();
  }

  // Accounts for a session that closes, and joins its feedback to its exposures.
  std::optional<v1::Trajectory> Learn(const std::string& user, const Session& session) {
    v1::Trajectory trajectory;
    trajectory.set_user_id(user);
    trajectory.set_first_ms(session.first_ms());
    trajectory.set_last_ms(session.last_ms());
    trajectory.set_events(static_cast<std::uint32_t>(session.events.size()));
    for (const Accepted& each : session.events) {
      if (each.event.has_exposure() && !each.left_out) AddExposure(each.event, &trajectory);
    }
    std::uint64_t orphans = 0, over = 0;
    for (const Accepted& each : session.events) {
      if (each.left_out) {
        ++over;
      } else if (each.event.has_feedback() && !AddFeedback(each.event.feedback(), &trajectory)) {
        ++orphans;
      }
    }
    const std::uint64_t events = session.events.size();
    state_.account.set_pending(state_.account.pending() - events);
    Count(&v1::Accounting::used, &v1::Accounting::set_used, events - orphans);
    Count(&v1::Accounting::orphan, &v1::Accounting::set_orphan, orphans);
    Count(&v1::Accounting::used_over_max_events, &v1::Accounting::set_used_over_max_events, over);
    Count(&v1::Accounting::sessions, &v1::Accounting::set_sessions);
    if (trajectory.steps().empty()) return std::nullopt;
    Count(&v1::Accounting::trajectories, &v1::Accounting::set_trajectories);
    std::sort(trajectory.mutable_steps()->begin(), trajectory.mutable_steps()->end(),
              [](const v1::Step& a, const v1::Step& b) {
                return std::pair(a.event_time_ms(), a.exposure().request_id()) <
                       std::pair(b.event_time_ms(), b.exposure().request_id());
              });
    trajectory.set_oldest_policy_version(~0ull);
    for (const v1::Step& step : trajectory.steps()) {
      const std::uint64_t version = step.exposure().policy_version();
      trajectory.set_oldest_policy_version(std::min(trajectory.oldest_policy_version(), version));
      trajectory.set_newest_policy_version(std::max(trajectory.newest_policy_version(), version));
    }
    return trajectory;
  }

  static bool HasItem(const v1::Step& step, const std::string& item_id) {
    return std::ranges::any_of(step.exposure().items(),
                               [&](const v1::ExposedItem& item) { return item.item_id() == item_id; });
  }

  // One step a request: the earliest exposure's, with the items that only later ones have.
  static void AddExposure(const v1::Event& event, v1::Trajectory* trajectory) {
    for (v1::Step& step : *trajectory->mutable_steps()) {
      if (step.exposure().request_id() != event.exposure().request_id()) continue;
      for (const v1::ExposedItem& item : event.exposure().items()) {
        if (HasItem(step, item.item_id())) continue;
        *step.mutable_exposure()->add_items() = item;
        step.add_rewards();
      }
      return;
    }
    v1::Step* step = trajectory->add_steps();
    step->set_event_time_ms(event.event_time_ms());
    *step->mutable_exposure() = event.exposure();
    for (int i = 0; i < event.exposure().items_size(); ++i) step->add_rewards();
  }

  // Returns whether its item was exposed.
  static bool AddFeedback(const v1::Feedback& feedback, v1::Trajectory* trajectory) {
    for (v1::Step& step : *trajectory->mutable_steps()) {
      if (step.exposure().request_id() != feedback.request_id()) continue;
      for (int i = 0; i < step.exposure().items_size(); ++i) {
        if (step.exposure().items(i).item_id() != feedback.item_id()) continue;
        Reward(feedback, step.mutable_rewards(i));
        return true;
      }
    }
    return false;
  }

  static void Reward(const v1::Feedback& feedback, v1::RewardComponents* reward) {
    using F = v1::Feedback;
    const auto is = [&](F::Kind kind) { return feedback.kind() == kind ? 1u : 0u; };
    if (is(F::WATCH) || is(F::COMPLETE)) reward->set_watch_ms(std::max(reward->watch_ms(), feedback.watch_ms()));
    reward->set_item_duration_ms(std::max(reward->item_duration_ms(), feedback.item_duration_ms()));
    reward->set_clicks(reward->clicks() + is(F::CLICK));
    reward->set_completes(reward->completes() + is(F::COMPLETE));
    reward->set_likes(reward->likes() + is(F::LIKE));
    reward->set_shares(reward->shares() + is(F::SHARE));
    reward->set_comments(reward->comments() + is(F::COMMENT));
    reward->set_collects(reward->collects() + is(F::COLLECT));
    reward->set_follows(reward->follows() + is(F::FOLLOW));
    reward->set_profiles(reward->profiles() + is(F::PROFILE));
    reward->set_dislikes(reward->dislikes() + is(F::DISLIKE));
  }

  // The earliest request of the session that the user went on with, if not later than `until_ms`.
  static void SetNextStep(std::int64_t until_ms, const Session& next, v1::Trajectory* trajectory) {
    std::optional<std::pair<std::int64_t, std::string>> earliest;
    for (const Accepted& each : next.events) {
      if (!each.event.has_exposure() || each.left_out || each.event.event_time_ms() > until_ms) continue;
      const std::pair key(each.event.event_time_ms(), each.event.exposure().request_id());
      if (earliest && *earliest <= key) continue;
      earliest = key;
      trajectory->mutable_next_step()->set_event_time_ms(key.first);
      *trajectory->mutable_next_step()->mutable_exposure() = each.event.exposure();
    }
  }

  void MakeStubIfTooLarge(v1::Trajectory* trajectory) const {
    const auto bytes = static_cast<std::int64_t>(trajectory->ByteSizeLong());
    if (bytes <= max_trajectory_bytes_) return;
    trajectory->clear_steps();
    trajectory->clear_next_step();
    trajectory->set_stub_reason("trajectory of " + std::to_string(bytes) + " bytes exceeds max_trajectory_bytes " +
                                std::to_string(max_trajectory_bytes_));
  }

  std::int32_t partition_;
  std::int64_t max_trajectory_bytes_;
  State state_;
  std::map<std::string, std::vector<Session>> sessions_;
};

}  // namespace fuseline::test
