#include "torch/baselines.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/softplus.h>

#include <cmath>
#include <numbers>

#include "torch/losses.h"

namespace fuseline {

at::Tensor Bootstrapped(const at::Tensor& reward, const at::Tensor& terminated, const at::Tensor& next_value, double gamma) {
  return reward + gamma * (1 - terminated) * next_value;
}

at::Tensor SmoothedAction(const at::Tensor& mu, const at::Tensor& normals, double std, double clip) {
  return (mu + (normals * std).clamp(-clip, clip)).clamp(-1, 1);
}

at::Tensor NormalLogDensity(const at::Tensor& x, const at::Tensor& mean, const at::Tensor& log_std) {
  constexpr double kHalfLogTwoPi = 0.91893853320467274;
  return (-0.5 * ((x - mean) * (-log_std).exp()).square() - log_std - kHalfLogTwoPi).sum(-1);
}

SquashedSample SampleSquashed(const at::Tensor& outputs, const at::Tensor& normals) {
  const std::int64_t width = normals.size(1);
  const at::Tensor mean = outputs.narrow(1, 0, width), log_std = outputs.narrow(1, width, width).clamp(-5, 2);
  const at::Tensor u = mean + log_std.exp() * normals;
  // log(1 - tanh^2 u) in the form that stays finite for large u.
  const at::Tensor slope = 2 * (std::numbers::ln2 - u - at::softplus(-2 * u));
  return {u.tanh(), NormalLogDensity(u, mean, log_std) - slope.sum(-1)};
}

at::Tensor EntropyActorLoss(const at::Tensor& alpha, const at::Tensor& log_density, const at::Tensor& q, const at::Tensor& weight) {
  return WeightedMean(alpha * log_density - q.amin(0), weight);
}

at::Tensor TemperatureLoss(const at::Tensor& log_alpha, const at::Tensor& log_density, double target_entropy, const at::Tensor& weight) {
  return -log_alpha[0] * WeightedMean(log_density + target_entropy, weight);
}

at::Tensor ConservativeTerm(const at::Tensor& sampled_q, const at::Tensor& log_density, const at::Tensor& data_q, const at::Tensor& weight) {
  return (((sampled_q - log_density).logsumexp(-1) - data_q) * weight).mean(-1).sum();
}

at::Tensor ExpectileLoss(const at::Tensor& q, const at::Tensor& v, double expectile, const at::Tensor& weight) {
  const at::Tensor u = q - v, below = (u < 0).to(u.scalar_type());
  return ((expectile - below).abs() * u.square() * weight).mean();
}

at::Tensor AdvantageWeightedLoss(const at::Tensor& advantage, const at::Tensor& log_density, double beta, double cap,
                                 const at::Tensor& weight) {
  return WeightedMean(-(beta * advantage).exp().clamp_max(cap) * log_density, weight);
}

at::Tensor GeneratorLoss(const at::Tensor& action, const at::Tensor& rebuilt, const at::Tensor& mean, const at::Tensor& log_std,
                         double kl_weight, const at::Tensor& weight) {
  const at::Tensor kl = 0.5 * (mean.square() + (2 * log_std).exp() - 1 - 2 * log_std).mean(-1);
  return (((action - rebuilt).square().mean(-1) + kl_weight * kl) * weight).mean();
}

at::Tensor FittedQLoss(const at::Tensor& logged, const at::Tensor& judged, const at::Tensor& target, double alpha) {
  const at::Tensor error = (logged - target).square().mean();
  return alpha > 0 ? error + alpha * (judged.mean() - logged.mean()) : error;
}

at::Tensor BestOfWorst(const at::Tensor& q) { return q.amin(0).amax(-1); }

}  // namespace fuseline
