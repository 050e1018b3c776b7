// IQL (Kostrikov et al., arXiv 2110.06169): V aims at an expectile of Q over logged actions, Q at r + gamma V, and the actor copies
// logged actions, each as much as it was better than V. No value of an action that nobody took is ever asked for. Serves the mean.

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

#include "torch/baselines.h"
#include "torch/losses.h"
#include "torch/torch_algorithm.h"

namespace fuseline {
namespace {

class Iql final : public TorchAlgorithm {
 public:
  Iql(const v1::Config& config, const Problem& problem, Compute compute)
      : TorchAlgorithm(config, problem, std::move(compute)),
        own_(config_.iql()),
        actor_(AddActor(action_, Target::kNone)),
        log_std_(AddVector("log_std", at::zeros({action_}))),  // Of every state, as its authors'.
        critic_(AddCritics("critic", 2, action_, Target::kKept)),
        value_(AddCritics("value", 1, 0, Target::kNone)) {}

 private:
  at::Tensor CriticsOf(const at::Tensor& states, const at::Tensor& actions) const override {
    return Pairs(critic_, critic_.flat, states, actions);
  }

  bool Update(const TransitionBatch& critics, const TransitionBatch& actor, std::uint64_t, StepFigures& figures) override {
    const DeviceBatch t = OnDevice(critics);
    for (Trained* part : {&critic_, &value_}) StartAtLevel(*part, t, settings_.gamma());
    if (!UpdateValue(t)) return false;
    if (actor.batch > 0 && !UpdateActor(OnDevice(actor), figures)) return false;
    const at::Tensor target = [&] {
      const at::NoGradGuard no_gradient;
      return Bootstrapped(Earned(t), t.terminated, V(value_.flat, t.next_state), settings_.gamma());
    }();
    if (!DescendTd(critic_, own_.critic_rate(), t, target, figures)) return false;
    Follow(critic_, own_.soft_update());
    return true;
  }

  at::Tensor V(const at::Tensor& parameters, const at::Tensor& states) const {
    return value_.net.Forward(parameters, states)[0].squeeze(1);
  }

  // The smaller target critic of what was logged.
  at::Tensor LoggedQ(const DeviceBatch& t) const {
    const at::NoGradGuard no_gradient;
    return Pairs(critic_, critic_.target, t.state, t.action).amin(0);
  }

  bool UpdateValue(const DeviceBatch& t) {
    const at::Tensor q = LoggedQ(t);
    return Descend(value_, own_.value_rate(),
                   [&](const at::Tensor& parameters) { return ExpectileLoss(q, V(parameters, t.state), own_.expectile(), t.weight); });
  }

  bool UpdateActor(const DeviceBatch& t, StepFigures& figures) {
    figures.actor_moved = true;
    const at::Tensor advantage = (LoggedQ(t) - V(value_.flat, t.state)).detach();
    const auto loss = [&](const Parameters& parameters) {
      const at::Tensor log_density = NormalLogDensity(t.action, Mu(parameters[0], t.state), parameters[1].clamp(-5, 2));
      return AdvantageWeightedLoss(advantage, log_density, own_.temperature(), own_.max_advantage_weight(), t.weight);
    };
    return Descend({&actor_, &log_std_}, own_.actor_rate(), loss, &figures.actor_loss);
  }

  const v1::Iql& own_;
  Trained &actor_, &log_std_, &critic_, &value_;
};

constexpr AlgorithmTraits kTraits{.per_request = true};
FUSELINE_ALGORITHM("iql", kTraits, MakeOnTorch<Iql>);

}  // namespace
}  // namespace fuseline
