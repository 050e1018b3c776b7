#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string_view>

#include "fuseline/sessionizer/session_window.h"
#include "fuseline/v1/event.pb.h"

namespace fuseline {

// What both halves of PartitionSessions go by: judging and closing, and what is saved and restored.
inline constexpr std::int64_t kNoTimer = std::numeric_limits<std::int64_t>::max();

inline std::uint64_t HashOf(std::string_view user_id) { return std::hash<std::string_view>()(user_id); }

inline bool IsPossible(const v1::SessionRules& rules) {
  const auto fits = [](std::int64_t ms) { return ms >= 0 && ms <= kShapeMaxMs; };
  return fits(rules.gap_ms()) && fits(rules.lateness_ms()) && fits(rules.cut_every_ms()) && rules.max_events() >= 1;
}

}  // namespace fuseline
