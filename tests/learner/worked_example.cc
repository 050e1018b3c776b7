// Moves its one action towards the mean of those that earned more than the median of their batch.

#include <algorithm>

#include "algorithms/constant_actor.h"

namespace fuseline {
namespace {

constexpr double kRate = 0.05;

class BetterHalf final : public ConstantActor {
 public:
  BetterHalf(const v1::Config& config, const Problem& problem) : ConstantActor(config, problem) {}

 private:
  void Move(const TransitionBatch& batch, const std::vector<double>& returns, StepFigures& figures) override {
    std::vector<double> sorted = returns;
    std::ranges::nth_element(sorted, sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2));
    const double median = sorted[sorted.size() / 2];
    figures.actor_loss = -median;
    figures.actor_moved = true;

    double weights = 0;
    std::vector<double> mean(action_.size());
    for (std::size_t b = 0; b < batch.batch; ++b) {
      if (!(returns[b] > median)) continue;
      weights += batch.weight[b];
      for (std::size_t d = 0; d < mean.size(); ++d) mean[d] += batch.weight[b] * batch.action[b * mean.size() + d];
    }
    if (weights == 0) return;
    for (std::size_t d = 0; d < mean.size(); ++d) action_[d] += static_cast<float>(kRate * (mean[d] / weights - action_[d]));
  }
};

constexpr AlgorithmTraits kTraits{.per_request = true, .boxed = true};
FUSELINE_ALGORITHM("better_half", kTraits, MakeConstant<BetterHalf>);

}  // namespace
}  // namespace fuseline
