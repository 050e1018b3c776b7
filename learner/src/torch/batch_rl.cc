// BatchRL-MTF (arXiv 2208.04560), that is BCQ (Fujimoto et al., arXiv 1812.02900) on fusion weights: a generator of actions like the
// logged ones (a conditional VAE), a small perturbation towards the first critic, and the best of what comes out. Every network sees the
// shared columns alone. Serves a function of the state: its codes are drawn once from the seed, and travel with each version.

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>

#include "torch/baselines.h"
#include "torch/losses.h"
#include "torch/torch_algorithm.h"

namespace fuseline {
namespace {

class BatchRl final : public TorchAlgorithm {
 public:
  BatchRl(const v1::Config& config, const Problem& problem, Compute compute)
      : TorchAlgorithm(config, problem, std::move(compute)),
        own_(config_.batch_rl()),
        latent_(own_.latent_width() > 0 ? own_.latent_width() : 2 * action_),
        encoder_(AddNet("encoder", 1, shared_ + action_, 2 * latent_, Target::kNone)),
        decoder_(AddNet("decoder", 1, shared_ + latent_, action_, Target::kNone)),
        perturbation_(AddNet("perturbation", 1, shared_ + action_, action_, Target::kKept)),
        critic_(AddNet("critic", 2, shared_ + action_, 1, Target::kKept)),
        first_critic_(1, critic_.net.widths(), compute_.kernels),
        codes_(Codes({own_.samples(), latent_}, "batch_rl.codes", 0)) {
    StartAtStatic(decoder_.net, decoder_.flat);
    StartSmall(critic_, /*sees_action=*/true);
  }

 private:
  // z to generate from: standard normal, cut.
  at::Tensor Codes(at::IntArrayRef shape, const std::string& purpose, std::uint64_t step) const {
    return Normals(shape, purpose, step).clamp(-own_.latent_clip(), own_.latent_clip());
  }
  at::Tensor SharedOf(const at::Tensor& states) const { return states.narrow(1, 0, shared_); }

  at::Tensor Decode(const at::Tensor& parameters, const at::Tensor& shared, const at::Tensor& codes) const {
    return decoder_.net.Forward(parameters, at::cat({shared, codes}, 1))[0].tanh();
  }
  at::Tensor Perturbed(const at::Tensor& parameters, const at::Tensor& shared, const at::Tensor& action) const {
    const at::Tensor towards = perturbation_.net.Forward(parameters, at::cat({shared, action}, 1))[0].tanh();
    return (action + own_.rho() * towards).clamp(-1, 1);
  }

  // Critics of shared columns: [M, n].
  at::Tensor CriticsOf(const at::Tensor& states, const at::Tensor& actions) const override {
    return Pairs(critic_, critic_.flat, SharedOf(states), actions);
  }

  bool Update(const TransitionBatch& critics, const TransitionBatch& actor, std::uint64_t step, StepFigures& figures) override {
    if (actor.batch > 0 && !UpdateGenerator(OnDevice(actor), step)) return false;
    if (!UpdateCritics(OnDevice(critics), step, figures)) return false;
    if (actor.batch > 0 && !UpdatePerturbation(OnDevice(actor), step, figures)) return false;
    if ((step + 1) % static_cast<std::uint64_t>(own_.soft_update_every()) == 0) {
      for (Trained* part : {&perturbation_, &critic_}) Follow(*part, own_.soft_update());
    }
    return true;
  }

  bool UpdateGenerator(const DeviceBatch& t, std::uint64_t step) {
    const at::Tensor shared = SharedOf(t.state), draws = Normals({t.size(), latent_}, "batch_rl.encoded", step);
    const auto loss = [&](const Parameters& parameters) {
      const at::Tensor code = encoder_.net.Forward(parameters[0], at::cat({shared, t.action}, 1))[0];
      const at::Tensor mean = code.narrow(1, 0, latent_), log_std = code.narrow(1, latent_, latent_).clamp(-4, 15);
      const at::Tensor rebuilt = Decode(parameters[1], shared, mean + log_std.exp() * draws);
      return GeneratorLoss(t.action, rebuilt, mean, log_std, own_.kl_weight(), t.weight);
    };
    return Descend({&encoder_, &decoder_}, own_.vae_rate(), loss);
  }

  bool UpdateCritics(const DeviceBatch& whole, std::uint64_t step, StepFigures& figures) {
    DeviceBatch t = whole;
    t.state = SharedOf(whole.state);
    StartAtLevel(critic_, t, own_.gamma());
    at::Tensor target;
    {
      const at::NoGradGuard no_gradient;
      const at::Tensor next = SharedOf(whole.next_state).repeat_interleave(own_.samples(), 0);
      const at::Tensor generated = Decode(decoder_.flat, next, Codes({next.size(0), latent_}, "batch_rl.target", step));
      const at::Tensor q = Q(critic_, critic_.target, next, Perturbed(perturbation_.target, next, generated), t.size());
      target = Bootstrapped(Earned(t), t.terminated, BestOfWorst(q), own_.gamma());
    }
    return DescendTd(critic_, own_.critic_rate(), t, target, figures);
  }

  bool UpdatePerturbation(const DeviceBatch& t, std::uint64_t step, StepFigures& figures) {
    figures.actor_moved = true;
    const at::Tensor shared = SharedOf(t.state);
    const at::Tensor generated = Decode(decoder_.flat, shared, Codes({t.size(), latent_}, "batch_rl.perturbed", step));
    const auto loss = [&](const at::Tensor& parameters) {
      return -WeightedMean(Pairs(critic_, critic_.flat, shared, Perturbed(parameters, shared, generated))[0], t.weight);
    };
    return Descend(perturbation_, own_.perturbation_rate(), loss, &figures.actor_loss);
  }

  // The first critic of actions as they are: W (a - mean) scale = (W scale) a - (W scale) mean goes into its first layer.
  at::Tensor ServingCritic() const {
    const at::Tensor member = critic_.net.Member(critic_.flat, 0).clone();
    if (!critic_.action_mean.defined()) return member;  // It sees them so.
    const auto [weights, biases] = first_critic_.Layer(member, 0);  // Views.
    const at::Tensor of_action = weights.narrow(2, shared_, action_);
    of_action.mul_(critic_.action_scale);
    biases.sub_((of_action * critic_.action_mean).sum(-1));
    return member;
  }

  // Decoder, perturbation and the first critic, one after another.
  at::Tensor ServingParameters() const override { return at::cat({decoder_.flat, perturbation_.flat, ServingCritic()}); }

  at::Tensor Serve(const at::Tensor& parameters, const at::Tensor& states) const override {
    const auto parts = parameters.split_with_sizes({decoder_.net.parameters(), perturbation_.net.parameters(), first_critic_.parameters()});
    const std::int64_t n = states.size(0);
    const at::Tensor shared = SharedOf(states).repeat_interleave(own_.samples(), 0);
    const at::Tensor actions = Perturbed(parts[1], shared, Decode(parts[0], shared, codes_.repeat({n, 1})));
    const at::Tensor q = first_critic_.Forward(parts[2], at::cat({shared, actions}, 1))[0].view({n, -1});
    const at::Tensor best = q.argmax(1).view({n, 1, 1}).expand({n, 1, action_});
    return actions.view({n, -1, action_}).gather(1, best).squeeze(1);
  }

  void DescribePolicy(v1::PolicyManifest& manifest) const override {
    v1::BestOfGenerated& form = *manifest.mutable_best_of_generated();
    const auto put = [](const DenseEnsemble& net, v1::NetworkShape& shape) {
      for (const std::int64_t width : net.widths()) shape.add_widths(static_cast<std::uint32_t>(width));
    };
    put(decoder_.net, *form.mutable_decoder());
    put(perturbation_.net, *form.mutable_perturbation());
    put(first_critic_, *form.mutable_critic());
    form.set_codes(static_cast<std::uint32_t>(own_.samples()));
    form.set_rho(static_cast<float>(own_.rho()));
  }

  TensorMap PolicyTensors() const override {
    TensorMap tensors{{"codes", ToHost(codes_)}};
    PutLayers(decoder_.net, decoder_.flat, "decoder", tensors);
    PutLayers(perturbation_.net, perturbation_.flat, "perturbation", tensors);
    PutLayers(first_critic_, ServingCritic(), "critic", tensors);
    return tensors;
  }

  const v1::BatchRl& own_;
  const std::int64_t latent_;
  Trained &encoder_, &decoder_, &perturbation_, &critic_;
  const DenseEnsemble first_critic_;
  const at::Tensor codes_;  // [K, Z]
};

constexpr AlgorithmTraits kTraits{.per_request = true, .around_static = true};
FUSELINE_ALGORITHM("batch_rl", kTraits, MakeOnTorch<BatchRl>);

}  // namespace
}  // namespace fuseline
