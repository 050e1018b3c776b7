#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "fuseline/sessionizer/session_window.h"
#include "fuseline/v1/trajectory.pb.h"

namespace fuseline {

// What a closed session amounts to.
struct SessionOutcome {
  // Absent when the session has no exposure. Without name, predecessor and stream time: those are the log's to give.
  std::optional<v1::Trajectory> trajectory;
  std::uint64_t orphans = 0;             // Feedback of a (request, item) that no exposure of the session has.
  std::uint64_t left_out = 0;            // Events past max_events.
  std::uint64_t repeated_exposures = 0;  // Exposures of a request that the session already had.
  std::uint64_t unknown_kinds = 0;       // Feedback that counts as presence only.
};

// Joins a closed session's feedback to its exposures: one step per request, by (event time, request id), with the reward
// components of each item. Pure; any thread. Cost: one parse of each event.
//
// - Feedback finds its item by (request id, item id), before or after it in time, inside this session and nowhere
//   else. Where one exposure lists an item twice, the first in order takes it.
// - An exposure whose request the session already has under another event id adds the items that the request had not
//   (a page shown in parts); all else is the earliest one's. It is counted.
// - watch_ms is the largest that a WATCH or COMPLETE reported; item_duration_ms the largest of any feedback.
// - Events past max_events are unknown here: feedback whose exposure is among them is an orphan.
// - A trajectory of more than `max_bytes` keeps its times, counts and versions, but neither steps nor next step,
//   and says why in stub_reason.
SessionOutcome BuildTrajectory(std::string_view user_id, const ClosedSession& session, std::int64_t max_bytes);

}  // namespace fuseline
