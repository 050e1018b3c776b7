#include "algorithm.h"

namespace fuseline {

NetworkSizes SizesOf(const v1::Learner& settings) {
  const bool paper = settings.preset() == "paper";
  NetworkSizes sizes = paper ? NetworkSizes{{256, 128, 64}, 10, 256} : NetworkSizes{{64, 64}, 4, 128};
  sizes.replay_transitions = paper && settings.algorithm() == "batch_rl" ? 100'000 : 200'000;
  if (settings.algorithm() == "integrated_rl") {
    if (paper) sizes.critics_per_group = 24;
    else if (settings.integrated_form() == "single") sizes.critics_per_group *= 2;  // One group has them all.
  }
  if (!settings.hidden().empty()) sizes.hidden.assign(settings.hidden().begin(), settings.hidden().end());
  if (settings.critics_per_group() > 0) sizes.critics_per_group = settings.critics_per_group();
  if (settings.batch() > 0) sizes.batch = settings.batch();
  if (settings.replay_transitions() > 0) sizes.replay_transitions = settings.replay_transitions();
  return sizes;
}

Problem ProblemOf(const FeatureEncoder& encoder, const ActionSpace& space) {
  const auto learned = space.static_action().first(space.learned_width());
  Problem problem{encoder.shared_width(), encoder.item_width(), {learned.begin(), learned.end()}, space.task_count()};
  for (std::size_t d = 0; d < space.width(); ++d) {
    const bool fixed = d >= space.learned_width();
    problem.lower.push_back(space.ToBusiness(d, fixed ? space.static_action()[d] : -1));
    problem.upper.push_back(space.ToBusiness(d, fixed ? space.static_action()[d] : 1));
  }
  return problem;
}

}  // namespace fuseline
