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
#include "fuseline/sessionizer/session_window.h"
#include "session_events.h"

namespace fuseline::test {

// What the rules say, as slowly and plainly as they are said: keeps every accepted event for ever and splits all of
// them anew at each record. Shares no code with the room but the shape.
class SessionOracle {
 public:
  explicit SessionOracle(const SessionShape& shape) : shape_(shape) {}

  // Returns Print() of the sessions that the record closes.
  std::string Process(std::int64_t offset, RecordFate fate, const v1::Event& event) {
    account_.set_read(account_.read() + 1);
    Judge(offset, fate, event);
    previous_offset_ = offset;
    return CloseDue(offset, /*flush=*/false);
  }
  std::string Flush(std::int64_t next_offset) { return CloseDue(next_offset, /*flush=*/true); }

  const v1::Accounting& account() const { return account_; }
  std::int64_t stream_time_ms() const { return stream_time_ms_; }
  const std::vector<std::string>& names() const { return names_; }  // Of the trajectories so far.

  // The lowest offset of an event of a session that is open.
  std::optional<std::int64_t> low_water() const {
    std::optional<std::int64_t> low;
    for (const auto& [user, events] : accepted_) {
      for (const auto& session : Split(user, events)) {
        if (IsClosed(user, session)) continue;
        for (const auto& each : session) low = std::min(low.value_or(each.offset), each.offset);
      }
    }
    return low;
  }

 private:
  struct Accepted {
    v1::Event event;
    std::int64_t offset;
  };
  using Events = std::vector<Accepted>;  // By (time, id).

  void Judge(std::int64_t offset, RecordFate fate, const v1::Event& event) {
    if (fate == RecordFate::kEvent && event.has_control()) {
      account_.set_control(account_.control() + 1);
      const bool follows = event.control().tick().predecessor_offset() == previous_offset_;
      if (event.control().has_tick() && follows) stream_time_ms_ = std::max(stream_time_ms_, event.event_time_ms());
    } else if (fate == RecordFate::kMalformed) {
      account_.set_malformed(account_.malformed() + 1);
    } else if (fate == RecordFate::kQuarantined) {
      account_.set_quarantined(account_.quarantined() + 1);
    } else if (event.event_time_ms() < stream_time_ms_ - shape_.lateness_ms) {
      account_.set_late(account_.late() + 1);
    } else if (IsInOpenSession(event)) {
      account_.set_duplicate(account_.duplicate() + 1);
    } else {
      Events& events = accepted_[event.user_id()];
      events.push_back({event, offset});
      std::sort(events.begin(), events.end(), [](const Accepted& a, const Accepted& b) {
        return std::pair(a.event.event_time_ms(), a.event.event_id()) < std::pair(b.event.event_time_ms(), b.event.event_id());
      });
      account_.set_pending(account_.pending() + 1);
      stream_time_ms_ = std::max(stream_time_ms_, event.event_time_ms());
    }
  }

  // k such that the instants [k * cut_every + phase, (k + 1) * cut_every + phase) hold the time.
  std::int64_t Cell(const std::string& user, std::int64_t time_ms) const {
    if (shape_.cut_every_ms == 0) return 0;
    const auto phase = static_cast<std::int64_t>(Fnv1a64(user) % static_cast<std::uint64_t>(shape_.cut_every_ms));
    std::int64_t k = -2;
    while ((k + 1) * shape_.cut_every_ms + phase <= time_ms) ++k;
    return k;
  }

  std::vector<Events> Split(const std::string& user, const Events& events) const {
    std::vector<Events> sessions;
    for (const Accepted& each : events) {
      const std::int64_t time_ms = each.event.event_time_ms();
      const bool goes_on = !sessions.empty() && time_ms - sessions.back().back().event.event_time_ms() <= shape_.gap_ms &&
                           Cell(user, sessions.back().back().event.event_time_ms()) == Cell(user, time_ms);
      if (!goes_on) sessions.emplace_back();
      sessions.back().push_back(each);
    }
    return sessions;
  }

  bool IsClosed(const std::string& user, const Events& session) const {
    return closed_.contains({user, session.front().event.event_time_ms()});
  }

  bool IsInOpenSession(const v1::Event& event) const {
    const auto user = accepted_.find(event.user_id());
    if (user == accepted_.end()) return false;
    for (const Events& session : Split(user->first, user->second)) {
      for (const Accepted& each : session) {
        if (!IsClosed(user->first, session) && each.event.event_id() == event.event_id()) return true;
      }
    }
    return false;
  }

  std::string CloseDue(std::int64_t offset, bool flush) {
    std::string printed;
    std::uint32_t ordinal = 0;
    for (const auto& [user, events] : accepted_) {
      const std::vector<Events> sessions = Split(user, events);
      for (std::size_t i = 0; i < sessions.size(); ++i) {
        const std::int64_t end_ms = sessions[i].back().event.event_time_ms();
        const bool due = end_ms < stream_time_ms_ - shape_.lateness_ms - shape_.gap_ms;
        if (IsClosed(user, sessions[i]) || !(due || flush)) continue;
        const bool goes_on =
            i + 1 < sessions.size() && sessions[i + 1].front().event.event_time_ms() - end_ms <= shape_.gap_ms;
        Closing closing{.user_id = user,
                        .first_ms = sessions[i].front().event.event_time_ms(),
                        .last_ms = end_ms,
                        .events = sessions[i].size(),
                        .end = flush ? v1::FLUSHED : goes_on ? v1::TRUNCATED : v1::TERMINATED};
        closed_.insert({user, closing.first_ms});
        printed += (printed.empty() ? "" : " | ") + Print(closing);
        if (Account(sessions[i])) {
          names_.push_back(std::to_string(offset) + '-' + std::to_string(ordinal++));
        }
      }
    }
    return printed;
  }

  // Returns whether the session has an exposure.
  bool Account(const Events& session) {
    std::set<std::pair<std::string, std::string>> exposed;
    std::uint64_t used = 0;
    std::uint64_t orphans = 0;
    const auto kept = std::min(session.size(), static_cast<std::size_t>(shape_.max_events));
    bool has_exposure = false;
    for (std::size_t i = 0; i < kept; ++i) {
      if (!session[i].event.has_exposure()) continue;
      has_exposure = true;
      for (const auto& item : session[i].event.exposure().items()) {
        exposed.emplace(session[i].event.exposure().request_id(), item.item_id());
      }
    }
    for (std::size_t i = 0; i < session.size(); ++i) {
      const auto& feedback = session[i].event.feedback();
      const bool is_orphan = i < kept && session[i].event.has_feedback() &&
                             !exposed.contains({feedback.request_id(), feedback.item_id()});
      ++(is_orphan ? orphans : used);
    }
    account_.set_used(account_.used() + used);
    account_.set_orphan(account_.orphan() + orphans);
    account_.set_pending(account_.pending() - session.size());
    account_.set_used_over_max_events(account_.used_over_max_events() + session.size() - kept);
    return has_exposure;
  }

  SessionShape shape_;
  v1::Accounting account_;
  std::int64_t stream_time_ms_ = kBeforeTimeMs;
  std::int64_t previous_offset_ = -1;
  std::map<std::string, Events> accepted_;
  std::set<std::pair<std::string, std::int64_t>> closed_;  // User, first event's time.
  std::vector<std::string> names_;
};

}  // namespace fuseline::test
