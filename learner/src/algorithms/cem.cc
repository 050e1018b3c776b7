// Cross-entropy method on one action for all requests (de Boer et al. 2005), from what was served. Mean m and spread s of a normal
// distribution move towards the elite of a batch: the actions whose lists earned most. What was drawn around older means counts less,
//   k_b = w_b exp(-1/2 mean_d ((a_bd - m_d) / s_d)^2)
// (the mean over dimensions, not their sum: in ten dimensions hardly anything would count [ours]).
//   m <- (1 - rate) m + rate mean_k(elite),  s^2 <- (1 - rate) s^2 + rate var_k(elite),  s >= min_spread

#include <algorithm>
#include <cmath>
#include <numeric>

#include "algorithms/constant_actor.h"

namespace fuseline {
namespace {

class CrossEntropy final : public ConstantActor {
 public:
  CrossEntropy(const v1::Config& config, const Problem& problem)
      : ConstantActor(config, problem),
        spread_(problem.static_action.size(),
                static_cast<float>((config.policy().box_upper() - config.policy().box_lower()) / std::sqrt(12.0))) {
    Keep("spread", spread_);
  }

 private:
  void Move(const TransitionBatch& batch, const std::vector<double>& returns, StepFigures& figures) override {
    figures.actor_loss = -std::accumulate(returns.begin(), returns.end(), 0.0) / static_cast<double>(returns.size());
    const std::vector<std::size_t> elite = Elite(returns);
    std::vector<double> nearness;
    for (const std::size_t b : elite) nearness.push_back(Nearness(batch, b));
    const double sum = std::accumulate(nearness.begin(), nearness.end(), 0.0);
    if (sum == 0) return;
    figures.actor_moved = true;
    for (std::size_t d = 0; d < action_.size(); ++d) {
      double mean = 0, variance = 0;
      for (std::size_t i = 0; i < elite.size(); ++i) mean += nearness[i] / sum * Action(batch, elite[i], d);
      for (std::size_t i = 0; i < elite.size(); ++i) variance += nearness[i] / sum * std::pow(Action(batch, elite[i], d) - mean, 2);
      const double rate = config_.cem().rate();
      action_[d] = static_cast<float>(std::clamp((1 - rate) * action_[d] + rate * mean, -1.0, 1.0));
      const double moved = std::sqrt((1 - rate) * spread_[d] * spread_[d] + rate * variance);
      spread_[d] = static_cast<float>(std::max(moved, config_.cem().min_spread()));
    }
  }

  // The best by return, ties by place; at least two.
  std::vector<std::size_t> Elite(const std::vector<double>& returns) const {
    std::vector<std::size_t> order(returns.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return returns[a] > returns[b]; });
    const auto wanted = static_cast<std::size_t>(std::ceil(config_.cem().elite_share() * static_cast<double>(order.size())));
    order.resize(std::min(order.size(), std::max<std::size_t>(2, wanted)));
    return order;
  }

  double Action(const TransitionBatch& batch, std::size_t b, std::size_t d) const {
    return batch.action[b * batch.items * action_.size() + d];
  }

  double Nearness(const TransitionBatch& batch, std::size_t b) const {
    double distance = 0;
    for (std::size_t d = 0; d < action_.size(); ++d)
      distance += std::pow((Action(batch, b, d) - action_[d]) / spread_[d], 2) / static_cast<double>(action_.size());
    return batch.weight[b] * std::exp(-0.5 * distance);
  }

  std::vector<float> spread_;
};

constexpr AlgorithmTraits kTraits{.per_request = true, .boxed = true};
FUSELINE_ALGORITHM("cem", kTraits, MakeConstant<CrossEntropy>);

}  // namespace
}  // namespace fuseline
