#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "fuseline/v1/config.pb.h"
#include "fuseline/v1/trajectory.pb.h"

namespace fuseline {

// What shapes sessions. REQUIRES, everywhere: 0 <= each <= kShapeMaxMs, max_events >= 1.
struct SessionShape {
  std::int64_t gap_ms = 0;        // A silence longer than this ends a session; one as long as this does not.
  std::int64_t lateness_ms = 0;   // An event older than stream time by more is late.
  std::int64_t cut_every_ms = 0;  // Distance of a user's cut lines; 0: none.
  std::int64_t max_events = 2000;
  bool operator==(const SessionShape&) const = default;
};
inline constexpr std::int64_t kShapeMaxMs = 1'000'000'000'000'000;  // Keeps every sum of times within 64 bits.
inline constexpr std::uint32_t kSessionRulesFormat = 1;  // Of the rules records that this program writes and knows.

SessionShape ShapeOf(const v1::Sessionizer& settings);

// Where the user's cut lines lie: at k * cut_every_ms + phase, for every k. Fnv1a64(user_id) % cut_every_ms; 0 without lines.
std::int64_t CutPhase(std::string_view user_id, std::int64_t cut_every_ms);

// One accepted event of a session that is open.
struct OpenEvent {
  std::int64_t time_ms = 0;           // Event time.
  std::int64_t offset = 0;            // Of its record.
  std::int64_t previous_offset = -1;  // Of the record just before it; -1: none.
  std::int64_t stream_before_ms = 0;  // Stream time just before it.
  bool is_exposure = false;
  std::uint32_t id_hash = 0;  // Of the id; SessionWindow sets it.
  std::string id;
  std::string payload;  // The v1::Event without id, user and time, serialised. Empty: left out by max_events.
};

// Events by (time, id), none twice, never empty. The first max_events of them have a payload.
using SessionEvents = std::vector<OpenEvent>;

struct ClosedSession {
  SessionEvents events;
  v1::SessionEnd end = v1::TERMINATED;
  // When truncated: the earliest exposures of the user's next session (several only at one instant), if not further
  // than the gap from this session's last event. Only up to there is the log final when the session closes, so that
  // they, too, do not depend on the order of arrival.
  SessionEvents next_requests;

  std::int64_t first_ms() const { return events.front().time_ms; }
  std::int64_t last_ms() const { return events.back().time_ms; }
};

// The open sessions of ONE user: events split at silences longer than the gap, never across a cut line. An event at a
// cut line's instant is the first of its cell.
//
// Where: between the judging of records (PartitionSessions), which is the only caller, and the rewards.
// Pure: no clock, I/O or threads. What it holds is a function of the set of events added, not of their order: so a
// store may keep the events alone. Thread-compatible.
// Cost: an event in order O(1), plus the search for its id: linear over hashes up to 64 open events, then a hash set.
class SessionWindow {
 public:
  explicit SessionWindow(std::int64_t cut_phase_ms) : cut_phase_ms_(cut_phase_ms) {}

  // Whether an open session has an event with this id. `time_ms` is where it is looked for first.
  bool Contains(std::int64_t time_ms, std::string_view id) const;

  // Joins what lies within the gap, at most two sessions. Past max_events, the last in event order lose their payload.
  // REQUIRES: the event is not late and its id not contained; the shape is the same in every call.
  void Add(const SessionShape& shape, OpenEvent event);

  // Takes out, oldest first, the sessions that end before `bound_ms` = stream time - lateness - gap. Truncated is one whose
  // user went on within the gap behind a cut line, terminated any other.
  std::vector<ClosedSession> CloseBefore(const SessionShape& shape, std::int64_t bound_ms);

  // Takes out all sessions, oldest first, as flushed.
  std::vector<ClosedSession> Flush();

  bool empty() const { return sessions_.empty(); }
  std::size_t session_count() const { return sessions_.size(); }
  std::int64_t earliest_end_ms() const { return sessions_.front().back().time_ms; }  // REQUIRES: not empty.
  const OpenEvent& oldest_record() const;  // The open event with the lowest offset. Linear. REQUIRES: not empty.
  const std::vector<SessionEvents>& sessions() const { return sessions_; }  // Oldest first.

 private:
  std::int64_t CellOf(const SessionShape& shape, std::int64_t time_ms) const;
  bool Joins(const SessionShape& shape, std::int64_t earlier_ms, std::int64_t later_ms) const;
  void HashIds();

  std::int64_t cut_phase_ms_;
  std::vector<SessionEvents> sessions_;
  std::size_t event_count_ = 0;
  // Hashes of the ids, once there are many; may hold more than is open, never less.
  std::unique_ptr<std::unordered_set<std::uint32_t>> id_hashes_;
};

}  // namespace fuseline
