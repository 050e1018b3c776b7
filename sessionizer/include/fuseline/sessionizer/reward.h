#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "fuseline/v1/trajectory.pb.h"

namespace fuseline {

// One accepted event of a session that closes: views into bytes of the caller's.
struct JoinedEvent {
  std::int64_t time_ms = 0;
  bool is_exposure = false;
  std::string_view id;
  std::string_view body;  // The serialised v1::Exposure or v1::Feedback, checked by ingest. Empty: left out by max_events.
};

// What the log gives a trajectory.
struct TrajectoryHead {
  v1::TrajectoryName name;
  std::optional<v1::TrajectoryName> predecessor;
  std::int64_t stream_time_ms = 0;
};

struct SessionToJoin {
  std::string_view user_id;
  std::span<const JoinedEvent> events;  // By (time, id), none twice, never empty; what was left out is here without body.
  v1::SessionEnd end = v1::TERMINATED;
  // When truncated: the earliest exposures of the user's next session (several only at one instant).
  std::span<const JoinedEvent> next_requests;
  std::size_t events_total = 0;  // At least events.size(): those that are not even listed were left out, too.
};

// What a closed session amounts to.
struct SessionOutcome {
  std::uint64_t orphans = 0;             // Feedback of a (request, item) that no exposure of the session has.
  std::uint64_t left_out = 0;            // Events past max_events.
  std::uint64_t repeated_exposures = 0;  // Exposures of a request that the session already had.
  std::uint64_t unknown_kinds = 0;       // Feedback that counts as presence only.
  bool is_stub = false;                  // The trajectory was too large.
};

// Whether the session makes a trajectory: it has an exposure that was not left out.
bool HasTrajectory(std::span<const JoinedEvent> events);

// Joins a closed session's feedback to its exposures, and counts. When the session has a trajectory, appends its serialised
// v1::Trajectory to `*bytes`, by ascending field numbers: one step per request, by (event time, request id), with the reward
// components of each item. An exposure goes into its step as it is, unknown fields included.
// REQUIRES: `head` is not null when HasTrajectory. Pure; any thread.
//
// - Feedback finds its item by (request id, item id), before or after it in time, inside this session and nowhere
//   else. Where one exposure lists an item twice, the first in order takes it.
// - An exposure whose request the session already has under another event id adds the items that the request had not
//   (a page shown in parts); all else is the earliest one's. It is counted.
// - watch_ms is the largest that a WATCH or COMPLETE reported; item_duration_ms the largest of any feedback.
// - Events past max_events are unknown here: feedback whose exposure is among them is an orphan.
// - A trajectory of more than `max_bytes` keeps its names, times, counts and versions, but neither steps nor next step,
//   and says why in stub_reason.
SessionOutcome JoinRewards(const SessionToJoin& session, const TrajectoryHead* head, std::int64_t max_bytes,
                           std::string* bytes);

}  // namespace fuseline
