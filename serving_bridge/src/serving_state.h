#pragma once

#include <memory>
#include <string>
#include <vector>

#include "fuseline/core/metrics.h"
#include "fuseline/rollout/experiment.h"

#include "live_version.h"

namespace fuseline {

// What an arm, or a shadow, decides with.
struct ServedArm {
  std::string name;
  bool follows_live = false;  // What serves everybody else.
  bool explore = false;
  std::shared_ptr<const LiveVersion> version;  // Null: what is live, or the static weights.
  Counter requests_total;
};

struct RunningExperiment {
  v1::Experiment definition;
  ArmChooser chooser;
  std::vector<ServedArm> arms, shadows;  // As the definition lists them.
};

// All that a ranker decides with at one moment. Immutable; replaced as a whole.
struct ServingState {
  std::shared_ptr<const LiveVersion> live;       // Null while there is none.
  std::vector<RunningExperiment> experiments;    // By name; a user is in the first that holds him.
};

}  // namespace fuseline
