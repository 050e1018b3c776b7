// TD3 (Fujimoto et al., arXiv 1802.09477): DDPG with the smaller of two critics in the target, a target action with clipped noise, and
// an actor and targets that move only every policy_delay steps.

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include "torch/baselines.h"
#include "torch/losses.h"
#include "torch/torch_algorithm.h"

namespace fuseline {
namespace {

class Td3 final : public TorchAlgorithm {
 public:
  Td3(const v1::Config& config, const Problem& problem, Compute compute)
      : TorchAlgorithm(config, problem, std::move(compute)),
        own_(config_.td3()),
        actor_(AddActor(action_, Target::kKept)),
        critic_(AddCritics("critic", 2, action_, Target::kKept)) {}

 private:
  at::Tensor CriticsOf(const at::Tensor& states, const at::Tensor& actions) const override {
    return Pairs(critic_, critic_.flat, states, actions);
  }

  bool Update(const TransitionBatch& critics, const TransitionBatch& actor, std::uint64_t step, StepFigures& figures) override {
    if (!UpdateCritics(OnDevice(critics), step, figures)) return false;
    if ((step + 1) % static_cast<std::uint64_t>(own_.policy_delay()) != 0) return true;
    if (actor.batch > 0 && !UpdateActor(OnDevice(actor), figures)) return false;
    for (Trained* part : {&actor_, &critic_}) Follow(*part, own_.soft_update());
    return true;
  }

  bool UpdateCritics(const DeviceBatch& t, std::uint64_t step, StepFigures& figures) {
    StartAtLevel(critic_, t, settings_.gamma());
    at::Tensor target;
    {
      const at::NoGradGuard no_gradient;
      const at::Tensor draws = Normals({t.size(), action_}, "td3.target", step);
      const at::Tensor next_action = SmoothedAction(Mu(actor_.target, t.next_state), draws, own_.target_noise(), own_.target_noise_clip());
      const at::Tensor next = Pairs(critic_, critic_.target, t.next_state, next_action);
      target = Bootstrapped(Earned(t), t.terminated, next.amin(0), settings_.gamma());
    }
    return DescendTd(critic_, own_.critic_rate(), t, target, figures);
  }

  bool UpdateActor(const DeviceBatch& t, StepFigures& figures) {
    figures.actor_moved = true;
    const auto loss = [&](const at::Tensor& parameters) {
      return -WeightedMean(Pairs(critic_, critic_.flat, t.state, Mu(parameters, t.state))[0], t.weight);
    };
    return Descend(actor_, own_.actor_rate(), loss, &figures.actor_loss);
  }

  const v1::Td3& own_;
  Trained &actor_, &critic_;
};

constexpr AlgorithmTraits kTraits{.per_request = true};
FUSELINE_ALGORITHM("td3", kTraits, MakeOnTorch<Td3>);

}  // namespace
}  // namespace fuseline
