#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "fuseline/core/random.h"
#include "fuseline/fusion/action_space.h"
#include "fuseline/v1/config.pb.h"

namespace fuseline {

// How the learning arm's noise is drawn: one vector a request, added to the baseline action of every candidate.
//   box       uniform in the version's box (UnifiedRL; DrawRequestNoise)
//   gaussian  normal, the same deviation in every dimension
//   batch_rl  BatchRL-MTF's mix: half of the users normal around the static action, the others normal around the policy
// Normal noise ends at three deviations, and where a candidate would leave [-1, 1]: what is drawn is the truncated normal, whose exact
// density is logged; nothing is cut afterwards. The box that is logged with it is +-3 deviations.
enum class ExplorationForm { kBox, kGaussian, kBatchRl };

struct Exploration {
  ExplorationForm form = ExplorationForm::kBox;
  double gaussian_std = 0.2;
  double batch_rl_random_std = 0.2;
  double batch_rl_policy_std = 0.1;
};
// As ranker.exploration_form and its deviations say; auto: the form of learner.algorithm.
Exploration ExplorationOf(const v1::Config& config);

// Whether this user's baseline is the static action, whatever version serves: batch_rl's first half. A function of (seed, user).
bool ExploresAroundStatic(const Exploration& exploration, std::uint64_t seed, std::string_view user_id);

struct DrawnNoise {
  double log_density = 0;
  ExplorationBox box;
};
// Fills noise [D] for a request with these baseline actions [n, D], row-major; `box` is the version's, for the form box.
// A dimension beyond the first `explored` gets no noise and no density.
// REQUIRES: n >= 1, D = noise.size(), baseline actions inside [-1, 1].
DrawnNoise DrawNoise(const Exploration& exploration, bool around_static, std::span<const float> baseline_actions,
                     const ExplorationBox& box, Random& random, std::span<float> noise,
                     std::size_t explored = kAllDimensions);

}  // namespace fuseline
