// CQL(H) on SAC (Kumar et al., arXiv 2006.04779; Haarnoja et al., arXiv 1812.05905): a stochastic actor whose temperature aims at an
// entropy, two critics, and a term that lowers Q wherever nothing was logged. Serves the mean action.

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <numbers>

#include "torch/baselines.h"
#include "torch/losses.h"
#include "torch/torch_algorithm.h"

namespace fuseline {
namespace {

class CqlSac final : public TorchAlgorithm {
 public:
  CqlSac(const v1::Config& config, const Problem& problem, Compute compute)
      : TorchAlgorithm(config, problem, std::move(compute)),
        own_(config_.cql_sac()),
        actor_(AddActor(2 * action_, Target::kNone)),
        critic_(AddCritics("critic", 2, action_, Target::kKept)),
        log_alpha_(AddVector("log_alpha", at::zeros({1}))) {}

 private:
  at::Tensor CriticsOf(const at::Tensor& states, const at::Tensor& actions) const override {
    return Pairs(critic_, critic_.flat, states, actions);
  }

  bool Update(const TransitionBatch& critics, const TransitionBatch& actor, std::uint64_t step, StepFigures& figures) override {
    if (!UpdateCritics(OnDevice(critics), step, figures)) return false;
    if (actor.batch > 0 && !UpdateActor(OnDevice(actor), step, figures)) return false;
    Follow(critic_, own_.soft_update());
    return true;
  }

  SquashedSample Sample(const at::Tensor& parameters, const at::Tensor& states, const std::string& purpose, std::uint64_t step) const {
    return SampleSquashed(actor_.net.Forward(parameters, states)[0], Normals({states.size(0), action_}, purpose, step));
  }

  at::Tensor TargetOf(const DeviceBatch& t, std::uint64_t step) const {
    const SquashedSample next = Sample(actor_.flat, t.next_state, "cql_sac.target", step);
    const at::Tensor q = Pairs(critic_, critic_.target, t.next_state, next.action).amin(0);
    return Bootstrapped(Earned(t), t.terminated, q - log_alpha_.flat.exp() * next.log_density, settings_.gamma());
  }

  // The term's actions of each state: uniform ones, the policy's, and the policy's of the next state.
  SquashedSample Elsewhere(const DeviceBatch& t, const at::Tensor& states, std::uint64_t step) const {
    const std::int64_t k = own_.conservative_samples();
    const at::Tensor next_states = t.next_state.repeat_interleave(k, 0);
    const at::Tensor uniform = Uniforms({t.size(), k, action_}, "cql_sac.uniform", step);
    const SquashedSample here = Sample(actor_.flat, states, "cql_sac.here", step), next = Sample(actor_.flat, next_states, "cql_sac.next", step);
    const double uniform_density = -static_cast<double>(action_) * std::numbers::ln2;
    return {at::cat({uniform, here.action.view({-1, k, action_}), next.action.view({-1, k, action_})}, 1),
            at::cat({at::full({t.size(), k}, uniform_density, uniform.options()), here.log_density.view({-1, k}), next.log_density.view({-1, k})}, 1)};
  }

  bool UpdateCritics(const DeviceBatch& t, std::uint64_t step, StepFigures& figures) {
    StartAtLevel(critic_, t, settings_.gamma());
    at::Tensor target;
    SquashedSample elsewhere;
    {
      const at::NoGradGuard no_gradient;
      target = TargetOf(t, step);
      elsewhere = Elsewhere(t, t.state.repeat_interleave(own_.conservative_samples(), 0), step);
    }
    const std::int64_t samples = elsewhere.action.size(1);
    const at::Tensor states = t.state.repeat_interleave(samples, 0), actions = elsewhere.action.reshape({-1, action_});
    at::Tensor difference;
    const auto loss = [&](const at::Tensor& parameters) {
      const at::Tensor q = Pairs(critic_, parameters, t.state, t.action);
      const at::Tensor sampled = Q(critic_, parameters, states, actions, t.size());
      difference = q - target;
      return CriticLoss(difference, t.weight) +
             own_.conservative_weight() * ConservativeTerm(sampled, elsewhere.log_density, q, t.weight);
    };
    const bool sound = Descend(critic_, own_.critic_rate(), loss, &figures.critic_loss);
    figures.td_error = ToHost(MeanTdError(difference)).values;
    return sound;
  }

  bool UpdateActor(const DeviceBatch& t, std::uint64_t step, StepFigures& figures) {
    figures.actor_moved = true;
    const at::Tensor alpha = log_alpha_.flat.exp();
    at::Tensor log_density;
    const auto loss = [&](const at::Tensor& parameters) {
      const SquashedSample sample = Sample(parameters, t.state, "cql_sac.actor", step);
      log_density = sample.log_density.detach();
      return EntropyActorLoss(alpha, sample.log_density, Pairs(critic_, critic_.flat, t.state, sample.action), t.weight);
    };
    if (!Descend(actor_, own_.actor_rate(), loss, &figures.actor_loss)) return false;
    const double wanted = own_.target_entropy() * static_cast<double>(action_);
    return Descend(log_alpha_, own_.actor_rate(),
                   [&](const at::Tensor& log_alpha) { return TemperatureLoss(log_alpha, log_density, wanted, t.weight); });
  }

  const v1::CqlSac& own_;
  Trained &actor_, &critic_, &log_alpha_;
};

constexpr AlgorithmTraits kTraits{.per_request = true};
FUSELINE_ALGORITHM("cql_sac", kTraits, MakeOnTorch<CqlSac>);

}  // namespace
}  // namespace fuseline
