#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/v1/config.pb.h"
#include "trajectory_search.h"

namespace fuseline {

// Everything that is known of one trajectory.
struct Explanation {
  FoundTrajectory found;
  Result<std::vector<LoggedEvent>> events;  // Or why the log does not say.
  std::optional<LearnedBy> learned;
  bool held_back = false;  // Of a user who never trains: it judges versions at the gate.
};

// For people, or one JSON object. Rewards are those of the specification in `config`.
std::string ExplanationText(const Explanation& explanation, const v1::Config& config);
std::string ExplanationJson(const Explanation& explanation, const v1::Config& config);

}  // namespace fuseline
