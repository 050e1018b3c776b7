#pragma once

// Sessions like those of a feed: users come back, some far more often than others; a session's reward is heavy-tailed, and a user who
// enjoys it more does so in every session.

#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "fuseline/core/random.h"
#include "fuseline/rollout/evaluation.h"
#include "fuseline/rollout/experiment.h"

namespace fuseline {

inline v1::Experiment TwoArms(const std::string& salt, std::uint32_t coverage = kWholeShare) {
  v1::Experiment experiment;
  experiment.set_name("experiment");
  experiment.set_salt(salt);
  experiment.set_coverage(coverage);
  experiment.set_revision(1);
  for (const char* const name : {"control", "treatment"}) {
    v1::Arm& arm = *experiment.add_arms();
    arm.set_name(name);
    arm.set_share(kWholeShare / 2);
    arm.set_alias("live");
  }
  experiment.add_guardrails();
  return experiment;
}

class SimulatedSessions {
 public:
  SimulatedSessions(std::uint64_t seed, std::uint32_t users) : random_(seed, "sessions", 0) {
    for (std::uint32_t user = 0; user < users; ++user) {
      ids_.push_back("u" + std::to_string(user));
      taste_.push_back(0.5 * random_.NextNormal());
    }
  }

  // One more session; the first arm's reward is lognormal with sigma 1, the second's `factor` of that.
  void Next(const ArmChooser& chooser, std::uint32_t coverage, double factor, ExperimentEvaluation& evaluation) {
    // A squared uniform: the most frequent tenth of the users has a third of the sessions.
    const double u = random_.NextUniform();
    const auto user = static_cast<std::size_t>(u * u * static_cast<double>(ids_.size()));
    const int arm = chooser.Choose(ids_[user]);
    if (arm == kNoArm) return;
    const double reward = (arm == 0 ? 1 : factor) * std::exp(0.5 + taste_[user] + random_.NextNormal());
    ObservedSession session{.experiment = "experiment", .arm = arm == 0 ? "control" : "treatment", .user_id = ids_[user], .coverage = coverage};
    session.metrics = {reward, std::floor(reward), 10 * reward};
    evaluation.Observe(session);
  }

 private:
  Random random_;
  std::vector<std::string> ids_;
  std::vector<double> taste_;
};

}  // namespace fuseline
