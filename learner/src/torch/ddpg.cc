// DDPG (Lillicrap et al., arXiv 1509.02971): a deterministic actor and one critic, of the rewards' weighted sum, with targets that follow
// at every step. Nothing keeps it near what was explored: that is what the later papers add.

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include "torch/baselines.h"
#include "torch/losses.h"
#include "torch/torch_algorithm.h"

namespace fuseline {
namespace {

class Ddpg final : public TorchAlgorithm {
 public:
  Ddpg(const v1::Config& config, const Problem& problem, Compute compute)
      : TorchAlgorithm(config, problem, std::move(compute)),
        own_(config_.ddpg()),
        actor_(AddActor(action_, Target::kKept)),
        critic_(AddCritics("critic", 1, action_, Target::kKept)) {}

 private:
  at::Tensor CriticsOf(const at::Tensor& states, const at::Tensor& actions) const override {
    return Pairs(critic_, critic_.flat, states, actions);
  }

  bool Update(const TransitionBatch& critics, const TransitionBatch& actor, std::uint64_t, StepFigures& figures) override {
    if (!UpdateCritic(OnDevice(critics), figures)) return false;
    if (actor.batch > 0 && !UpdateActor(OnDevice(actor), figures)) return false;
    for (Trained* part : {&actor_, &critic_}) Follow(*part, own_.soft_update());
    return true;
  }

  bool UpdateCritic(const DeviceBatch& t, StepFigures& figures) {
    StartAtLevel(critic_, t, settings_.gamma());
    at::Tensor target;
    {
      const at::NoGradGuard no_gradient;
      const at::Tensor next = Pairs(critic_, critic_.target, t.next_state, Mu(actor_.target, t.next_state));
      target = Bootstrapped(Earned(t), t.terminated, next[0], settings_.gamma());
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

  const v1::Ddpg& own_;
  Trained &actor_, &critic_;
};

constexpr AlgorithmTraits kTraits{.per_request = true};
FUSELINE_ALGORITHM("ddpg", kTraits, MakeOnTorch<Ddpg>);

}  // namespace
}  // namespace fuseline
