#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fuseline/fusion/action_space.h"
#include "fuseline/fusion/feature_encoding.h"
#include "fuseline/v1/event.pb.h"

namespace fuseline {

// One request to fuse. Everything is borrowed for the call.
struct RankingRequest {
  std::string_view request_id;  // Unique; also what the request's noise is drawn from.
  std::string_view user_id;
  std::string_view surface;
  std::int64_t event_time_ms = 0;
  FeatureView user;
  FeatureView context;
  std::span<const std::string_view> item_ids;  // [n]
  std::span<const CandidateView> candidates;   // [n], parallel to item_ids. All with task scores; with a scorer, all may be without.
  std::size_t expose_count = 0;                // How many will be shown; 0: all.
};

// An item that is to be shown.
struct RankedItem {
  std::size_t candidate = 0;  // Index into the request's candidates.
  double fused_score = 0;
};

// What to show, best first, and how that was chosen. Equal scores keep the order of the candidates.
// Filled anew by each ranking; one that is kept from request to request keeps its memory, so that ranking into it allocates nothing.
struct Decision {
  std::vector<RankedItem> order;        // [m], m = min(expose_count, n).
  std::size_t action_width = 0;         // D
  std::vector<float> baseline_actions;  // [m, D], normalised, in the order shown.
  std::vector<float> executed_actions;  // [m, D]: baseline plus the request's noise.
  std::optional<double> log_density;    // Of the noise; none when nothing was explored.
  std::optional<ExplorationBox> box;    // The same.
  std::uint64_t policy_version = 0;     // 0: the static weights.
  std::uint64_t scorer_version = 0;     // Whose task scores were fused; 0: no scorer's.
  std::vector<float> task_scores;       // [m, k], in the order shown, if the request brought none; else empty.
  std::string experiment;               // Empty: the user is in none,
  std::string arm = "learning";         // and his arm is this.
  std::uint32_t experiment_coverage = 0;  // In 1/10,000.
  std::vector<v1::ShadowScore> shadows;   // Of policies that were scored beside, and changed nothing.
  bool fell_back = false;               // Input or action was not finite: the static weights without noise.

  std::span<const float> baseline_action(std::size_t position) const {
    return std::span(baseline_actions).subspan(position * action_width, action_width);
  }
  std::span<const float> task_scores_of(std::size_t position) const {  // REQUIRES: there are some.
    const std::size_t tasks = task_scores.size() / order.size();
    return std::span(task_scores).subspan(position * tasks, tasks);
  }
  std::span<const float> executed_action(std::size_t position) const {
    return std::span(executed_actions).subspan(position * action_width, action_width);
  }
};

}  // namespace fuseline
