// EnhancedRL (arXiv 2409.11678), and UnifiedRL (arXiv 2404.17589): the same with one action for each request, from the shared
// columns alone. There the networks keep their shape; the weights of the item columns are zero and stay so, because what is learned from
// is zero there. UnifiedRL's earlier version has one group of critics, on the rewards' weighted sum.

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <numeric>
#include <span>

#include "torch/losses.h"
#include "torch/torch_algorithm.h"

namespace fuseline {
namespace {

constexpr double kLeastWeight = 1e-6;  // Of a batch in which nothing counts.

double MeanOf(std::span<const float> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

class EnhancedRl final : public TorchAlgorithm {
 public:
  EnhancedRl(const v1::Config& config, const Problem& problem, Compute compute)
      : TorchAlgorithm(config, problem, std::move(compute)),
        form_{.gamma = settings_.gamma(),
              .alpha_d = settings_.alpha_d(),
              .phi = settings_.target_form() == "phi",
              .literal = settings_.box_penalty() == "literal",
              .per_item = settings_.td() == "item"},
        single_(settings_.algorithm() == "integrated_rl" && settings_.integrated_form() == "single"),
        selects_(settings_.algorithm() == "enhanced_rl" && settings_.actor_aim() == "selection"),
        omega_of_groups_(single_ ? at::ones({1}, omega_.options()) : omega_),
        actor_(AddActor(action_, Target::kKept)),
        actor_columns_(ColumnsSeen(settings_.actor_state())),
        critic_columns_(ColumnsSeen(selects_ ? "full" : settings_.critic_state())),
        items_of_q_(traits_.per_request ? static_cast<double>(settings_.max_items()) : 1),
        static_power_mean_(MeanOf(std::span(problem.static_action).first(problem.tasks))),
        lower_(FromHost(problem.lower, {Size(problem.lower.size())}, compute_.device)),
        upper_(FromHost(problem.upper, {Size(problem.upper.size())}, compute_.device)),
        critic_(AddCritics("critic", groups() * SizesOf(settings_).critics_per_group, action_, Target::kKept)) {
    // What an actor does not look at has no weight, and gets none: a ranker serves it as any other.
    for (const at::Tensor& parameters : {actor_.flat, actor_.target}) actor_.net.Layer(parameters, 0).first.mul_(actor_columns_);
  }

 private:
  std::int64_t groups() const override { return single_ ? 1 : static_cast<std::int64_t>(kRewardGroups); }

  at::Tensor CriticsOf(const at::Tensor& states, const at::Tensor& actions) const override {
    return Pairs(critic_, critic_.flat, states * critic_columns_, actions);
  }

  // [W]: 1 where a network looks. The task scores are the last columns of a state.
  at::Tensor ColumnsSeen(const std::string& state) const {
    at::Tensor columns = at::ones({width_}, omega_.options());
    if (state == "without_scores") columns.narrow(0, width_ - tasks_, tasks_).zero_();
    return columns;
  }
  at::Tensor QSeen(const at::Tensor& parameters, const at::Tensor& states, const at::Tensor& actions, std::int64_t batch) const {
    return Q(critic_, parameters, states * critic_columns_, actions, batch);
  }

  bool Update(const TransitionBatch& critics, const TransitionBatch& actor, std::uint64_t step, StepFigures& figures) override {
    if (!UpdateCritics(OnDevice(critics), figures)) return false;
    if (AnyTrains(actor) && !UpdateActor(OnDevice(actor), figures)) return false;
    if ((step + 1) % static_cast<std::uint64_t>(settings_.soft_update_every()) == 0) {
      for (Trained* part : {&actor_, &critic_}) Follow(*part, settings_.soft_update());
    }
    return true;
  }

  std::optional<std::uint64_t> StepKind(const TransitionBatch& actor, std::uint64_t step) const override {
    return (AnyTrains(actor) ? 1U : 0U) + ((step + 1) % static_cast<std::uint64_t>(settings_.soft_update_every()) == 0 ? 2U : 0U);
  }

  static bool AnyTrains(const TransitionBatch& batch) {
    return std::ranges::any_of(batch.trains_actor, [](float trains) { return trains != 0; });
  }

  at::Tensor TargetOf(const DeviceBatch& t) const {
    const at::NoGradGuard no_gradient;
    const at::Tensor next_action = Mu(actor_.target, t.next_state);
    const at::Tensor next_q = QSeen(critic_.target, t.next_state, next_action, t.size());
    const at::Tensor excess = BoxExcess(next_action.view_as(t.next_baseline), t.next_baseline, t.next_box, settings_.beta());
    return TdTarget(single_ ? WeightedSum(t.reward) : t.reward, t.mask, t.terminated, next_q, excess, t.next_mask, form_);
  }

  bool UpdateCritics(const DeviceBatch& t, StepFigures& figures) {
    const at::Tensor reward = single_ ? WeightedSum(t.reward) : t.reward;
    const at::Tensor counts = t.mask * t.weight.unsqueeze(1);
    StartAtLevel(critic_, t, (reward * counts).sum({1, 2}) / counts.sum().clamp_min(kLeastWeight), settings_.gamma());
    const at::Tensor target = TargetOf(t);
    at::Tensor difference;
    const auto loss = [&](const at::Tensor& parameters) {
      difference = TdDifference(QSeen(parameters, t.state, t.action, t.size()), t.mask, target, form_.per_item);
      return CriticLoss(difference, t.weight);
    };
    const bool sound = Descend(critic_, settings_.critic_rate(), loss, &figures.critic_loss);
    Tell(MeanTdError(difference), &figures.td_error);
    return sound;
  }

  // Ours, each 0 unless asked for: what holds mu where the data do not (docs/decisions/0015). [B, L]
  at::Tensor Pulls(const at::Tensor& mu, const DeviceBatch& t) const {
    at::Tensor pulls = at::zeros_like(t.mask);
    if (settings_.inside_pull() > 0) pulls = pulls + settings_.inside_pull() * InsidePull(mu, t.baseline, t.box);
    // A common factor of one item's powers is no idle direction where fused scores are compared: there it is the list's mean that is held.
    const at::Tensor held = selects_ ? ListMean(mu, t.mask) : mu;
    if (settings_.power_sum_pull() > 0) pulls = pulls + settings_.power_sum_pull() * PowerSumPull(held, tasks_, static_power_mean_);
    if (settings_.list_pull() > 0) pulls = pulls + settings_.list_pull() * ListPull(mu, t.mask, t.box);
    return pulls * items_of_q_;
  }

  bool UpdateActor(const DeviceBatch& t, StepFigures& figures) {
    figures.actor_moved = true;
    const auto loss = [&](const at::Tensor& parameters) {
      const at::Tensor logits = actor_.net.Forward(parameters, t.state * actor_columns_)[0], mu = logits.tanh();
      const at::Tensor excess = BoxExcess(mu.view_as(t.baseline), t.baseline, t.box, settings_.beta());
      const at::Tensor weight = t.mask * (t.trains_actor * t.weight).unsqueeze(1);
      at::Tensor outside = BoxPenalty(excess, form_.literal);
      if (settings_.largest_logit() > 0) outside = outside + Saturation(logits, settings_.largest_logit()).view_as(t.mask);
      const at::Tensor holds = settings_.eta() * outside + Pulls(mu.view_as(t.baseline), t);
      if (!selects_) return ActorLoss(QSeen(critic_.flat, t.state, mu, t.size()), omega_of_groups_, holds, weight, settings_.lambda());
      const at::Tensor fused = FusedScores(mu.view_as(t.baseline), t.scores, lower_, upper_);
      return WeightedMean(holds, weight) - SelectionDifferential(fused, ExposedValue(t), weight);
    };
    return Descend(actor_, settings_.actor_rate(), loss, &figures.actor_loss);
  }

  // What the critics say of what was exposed, under the action that exposed it: a value to order by, not a slope to climb. [B, L]
  at::Tensor ExposedValue(const DeviceBatch& t) const {
    const at::NoGradGuard no_gradient;
    return PairValue(QSeen(critic_.flat, t.state, t.action, t.size()), omega_of_groups_, settings_.lambda());
  }

  const TargetForm form_;
  const bool single_;
  const bool selects_;  // The actor's aim is selection (docs/decisions/0018).
  const at::Tensor omega_of_groups_;
  Trained& actor_;
  const at::Tensor actor_columns_, critic_columns_;
  const double items_of_q_;  // Whose rewards a Q is the sum of, at most: a pull weighs as much against each item's worth in both algorithms.
  const double static_power_mean_;
  const at::Tensor lower_, upper_;  // [2k], the ranges of powers and biases.
  Trained& critic_;
};

const AlgorithmRegistrar enhanced_rl("enhanced_rl", {.per_request = false, .boxed = true}, MakeOnTorch<EnhancedRl>);
const AlgorithmRegistrar integrated_rl("integrated_rl", {.per_request = true, .boxed = true}, MakeOnTorch<EnhancedRl>);

}  // namespace
}  // namespace fuseline
