// Evolution strategy on one action for all requests (Wierstra et al. 2014; Salimans et al., arXiv 1703.03864), the production baseline of
// the papers. The population is what was served: each explored request is one perturbation e of its baseline with a return R, what
// its list earned. The gradient of the smoothed objective E[R(theta + e)], per dimension:
//   g_d = sum_b w_b (e_bd - mean e_d) (R_b - m) / s  /  sum_b w_b (e_bd - mean e_d)^2
// with the running mean m and deviation s of the return. theta moves along g, and stays in the box around the baseline that was explored,
// since nothing is known outside. (Centred and divided by the noise that was seen: at the edge of the range the box is lopsided.)

#include <algorithm>
#include <cmath>

#include "algorithms/constant_actor.h"

namespace fuseline {
namespace {

constexpr double kNoiseMin = 1e-8;  // Variance of a dimension's noise below which it says nothing.

class EvolutionStrategy final : public ConstantActor {
 public:
  EvolutionStrategy(const v1::Config& config, const Problem& problem) : ConstantActor(config, problem) {
    Keep("baseline", baseline_);
  }

 private:
  void Move(const TransitionBatch& batch, const std::vector<double>& returns, StepFigures& figures) override {
    figures.actor_loss = -TrackReturns(returns, batch.weight);
    figures.actor_moved = true;
    const double deviation = std::sqrt(static_cast<double>(baseline_[1])) + 1e-8;
    for (std::size_t d = 0; d < action_.size(); ++d) {
      const double moved = static_cast<double>(action_[d]) + config_.es().rate() * Gradient(batch, d, returns) / deviation;
      action_[d] = static_cast<float>(Bounded(batch, d, moved));
    }
  }

  // Moves mean and variance of the return towards those of the batch, whose mean it returns. The first batches count evenly.
  double TrackReturns(const std::vector<double>& returns, const std::vector<float>& weight) {
    double sum = 0, mean = 0, variance = 0;
    for (std::size_t b = 0; b < returns.size(); ++b) {
      sum += weight[b];
      mean += weight[b] * returns[b];
    }
    if (sum == 0) return 0;
    mean /= sum;
    baseline_[2] += 1;
    const double rate = std::max(config_.es().baseline_rate(), 1.0 / baseline_[2]);
    baseline_[0] += static_cast<float>(rate * (mean - baseline_[0]));
    for (std::size_t b = 0; b < returns.size(); ++b) variance += weight[b] * std::pow(returns[b] - baseline_[0], 2) / sum;
    baseline_[1] += static_cast<float>(rate * (variance - baseline_[1]));
    return mean;
  }

  double Gradient(const TransitionBatch& batch, std::size_t d, const std::vector<double>& returns) const {
    const std::size_t stride = batch.items * action_.size();
    const auto noise = [&](std::size_t b) { return static_cast<double>(batch.action[b * stride + d]) - batch.baseline[b * stride + d]; };
    double weights = 0, mean = 0, covariance = 0, variance = 0;
    for (std::size_t b = 0; b < batch.batch; ++b) {
      weights += batch.weight[b];
      mean += batch.weight[b] * noise(b);
    }
    if (weights == 0) return 0;
    mean /= weights;
    for (std::size_t b = 0; b < batch.batch; ++b) {
      covariance += batch.weight[b] * (noise(b) - mean) * (returns[b] - baseline_[0]);
      variance += batch.weight[b] * std::pow(noise(b) - mean, 2);
    }
    return variance < kNoiseMin * weights ? 0 : covariance / variance;
  }

  // Inside the batch's mean box, and the range.
  double Bounded(const TransitionBatch& batch, std::size_t d, double value) const {
    double lower = 0, upper = 0;
    for (std::size_t b = 0; b < batch.batch; ++b) {
      const double at = batch.baseline[b * batch.items * action_.size() + d];
      lower += (at + batch.box[2 * b]) / static_cast<double>(batch.batch);
      upper += (at + batch.box[2 * b + 1]) / static_cast<double>(batch.batch);
    }
    return std::clamp(value, std::max(-1.0, lower), std::min(1.0, upper));
  }

  std::vector<float> baseline_{0, 0, 0};  // Running mean and variance of the return; batches seen.
};

constexpr AlgorithmTraits kTraits{.per_request = true, .boxed = true};
FUSELINE_ALGORITHM("es", kTraits, MakeConstant<EvolutionStrategy>);

}  // namespace
}  // namespace fuseline
