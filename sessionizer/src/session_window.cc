#include "fuseline/sessionizer/session_window.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <tuple>
#include <utility>

#include "fuseline/core/digest.h"

namespace fuseline {
namespace {

constexpr std::size_t kManyIds = 64;

std::uint32_t HashOf(std::string_view id) { return static_cast<std::uint32_t>(std::hash<std::string_view>()(id)); }

bool Before(const OpenEvent& a, const OpenEvent& b) {
  return std::tie(a.time_ms, a.id) < std::tie(b.time_ms, b.id);
}

bool HasEvent(const SessionEvents& session, std::int64_t time_ms, std::string_view id) {
  const auto place = std::lower_bound(session.begin(), session.end(), std::pair(time_ms, id),
                                      [](const OpenEvent& event, const auto& key) {
                                        return std::pair(event.time_ms, std::string_view(event.id)) < key;
                                      });
  return place != session.end() && place->time_ms == time_ms && place->id == id;
}

// Releases the memory too: what is left out must not keep costing.
void LeaveOut(OpenEvent& event) { std::string().swap(event.payload); }

SessionEvents NextRequests(const SessionShape& shape, std::int64_t end_ms, const SessionEvents& next) {
  SessionEvents requests;
  for (const OpenEvent& event : next) {
    if (event.time_ms - end_ms > shape.gap_ms) break;
    if (!requests.empty() && event.time_ms > requests.front().time_ms) break;
    if (event.is_exposure && !event.payload.empty()) requests.push_back(event);
  }
  return requests;
}

}  // namespace

SessionShape ShapeOf(const v1::Sessionizer& settings) {
  return {.gap_ms = settings.gap_ms(),
          .lateness_ms = settings.lateness_ms(),
          .cut_every_ms = settings.cut_every_ms(),
          .max_events = settings.max_events()};
}

std::int64_t CutPhase(std::string_view user_id, std::int64_t cut_every_ms) {
  if (cut_every_ms == 0) return 0;
  return static_cast<std::int64_t>(Fnv1a64(user_id) % static_cast<std::uint64_t>(cut_every_ms));
}

std::int64_t SessionWindow::CellOf(const SessionShape& shape, std::int64_t time_ms) const {
  if (shape.cut_every_ms == 0) return 0;
  const std::int64_t since_phase = time_ms - cut_phase_ms_;
  const std::int64_t cell = since_phase / shape.cut_every_ms;
  return since_phase % shape.cut_every_ms < 0 ? cell - 1 : cell;  // Floor, also before the first line.
}

bool SessionWindow::Joins(const SessionShape& shape, std::int64_t earlier_ms, std::int64_t later_ms) const {
  return later_ms - earlier_ms <= shape.gap_ms && CellOf(shape, earlier_ms) == CellOf(shape, later_ms);
}

bool SessionWindow::Contains(std::int64_t time_ms, std::string_view id) const {
  const std::uint32_t id_hash = HashOf(id);
  if (id_hashes_ && !id_hashes_->contains(id_hash)) return false;
  // A resend carries the same time as well, so that in a long session this finds it at once.
  for (const SessionEvents& session : sessions_) {
    if (HasEvent(session, time_ms, id)) return true;
  }
  for (const SessionEvents& session : sessions_) {
    for (const OpenEvent& event : session) {
      if (event.id_hash == id_hash && event.id == id) return true;
    }
  }
  return false;
}

void SessionWindow::Add(const SessionShape& shape, OpenEvent event) {
  const std::int64_t time_ms = event.time_ms;
  ++event_count_;
  event.id_hash = HashOf(event.id);
  if (id_hashes_) id_hashes_->insert(event.id_hash);

  const auto next = std::upper_bound(sessions_.begin(), sessions_.end(), time_ms,
                                     [](std::int64_t t, const SessionEvents& s) { return t < s.front().time_ms; });
  const bool joins_next = next != sessions_.end() && Joins(shape, time_ms, next->front().time_ms);
  // Within [first, last] of the one before, the distance to its end is negative, and the cell its own.
  const bool joins_previous = next != sessions_.begin() && Joins(shape, std::prev(next)->back().time_ms, time_ms);

  auto home = next;
  if (joins_previous) {
    home = std::prev(next);
  } else if (!joins_next) {
    home = sessions_.emplace(next);
  }
  const auto limit = static_cast<std::size_t>(shape.max_events);
  const auto place = home->insert(std::upper_bound(home->begin(), home->end(), event, Before), std::move(event));
  if (home->size() > limit) {  // The new one is beyond the limit, or pushes one over it.
    LeaveOut((*home)[std::max(static_cast<std::size_t>(place - home->begin()), limit)]);
  }
  if (joins_previous && joins_next) {
    home->insert(home->end(), std::make_move_iterator(next->begin()), std::make_move_iterator(next->end()));
    for (std::size_t i = limit; i < home->size(); ++i) LeaveOut((*home)[i]);
    sessions_.erase(next);
  }
  if (!id_hashes_) HashIds();
}

std::vector<ClosedSession> SessionWindow::CloseBefore(const SessionShape& shape, std::int64_t bound_ms) {
  std::vector<ClosedSession> closed;
  auto session = sessions_.begin();
  for (; session != sessions_.end() && session->back().time_ms < bound_ms; ++session) {
    ClosedSession& out = closed.emplace_back();
    const std::int64_t end_ms = session->back().time_ms;
    const auto next = std::next(session);
    if (next != sessions_.end() && next->front().time_ms - end_ms <= shape.gap_ms) {
      out.end = v1::TRUNCATED;
      out.next_requests = NextRequests(shape, end_ms, *next);
    }
    event_count_ -= session->size();
    out.events = std::move(*session);
  }
  sessions_.erase(sessions_.begin(), session);
  if (!closed.empty()) HashIds();
  return closed;
}

std::vector<ClosedSession> SessionWindow::Flush() {
  std::vector<ClosedSession> closed;
  closed.reserve(sessions_.size());
  for (SessionEvents& session : sessions_) {
    closed.push_back({.events = std::move(session), .end = v1::FLUSHED});
  }
  sessions_.clear();
  event_count_ = 0;
  HashIds();
  return closed;
}

const OpenEvent& SessionWindow::oldest_record() const {
  const OpenEvent* oldest = &sessions_.front().front();
  for (const SessionEvents& session : sessions_) {
    for (const OpenEvent& event : session) {
      if (event.offset < oldest->offset) oldest = &event;
    }
  }
  return *oldest;
}

void SessionWindow::HashIds() {
  id_hashes_.reset();
  if (event_count_ <= kManyIds) return;
  id_hashes_ = std::make_unique<std::unordered_set<std::uint32_t>>();
  for (const SessionEvents& session : sessions_) {
    for (const OpenEvent& event : session) id_hashes_->insert(event.id_hash);
  }
}

}  // namespace fuseline
