#include "torch/losses.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>

namespace fuseline {
namespace {

constexpr double kWeightMin = 1e-8;  // Of a whole batch; where nothing counts the loss is 0, not undefined.
constexpr double kLogArgumentMin = 1e-6;  // As in fusion's formula.

}  // namespace

at::Tensor BoxExcess(const at::Tensor& action, const at::Tensor& baseline, const at::Tensor& box, double beta) {
  const at::Tensor lower = box.select(1, 0).view({-1, 1, 1}), upper = box.select(1, 1).view({-1, 1, 1});
  const at::Tensor offset = action - baseline;
  const at::Tensor excess = (lower - offset).clamp_min(0) + (offset - upper).clamp_min(0);
  return excess / ((upper - lower).clamp_min(1e-6) * beta);
}

at::Tensor BoxPenalty(const at::Tensor& excess, bool literal) {
  if (literal) return at::where(excess > 0, excess.exp(), at::zeros_like(excess)).sum(-1);
  constexpr double kKnee = 6.0;
  // Both terms stay finite, or the one that does not count would poison the gradient.
  return (excess.clamp_max(kKnee).expm1() + (excess - kKnee).clamp_min(0) * std::exp(kKnee)).sum(-1);
}

at::Tensor Saturation(const at::Tensor& logits, double largest) { return (logits.abs() - largest).clamp_min(0).square().sum(-1); }

at::Tensor InsidePull(const at::Tensor& action, const at::Tensor& baseline, const at::Tensor& box) {
  const at::Tensor lower = box.select(1, 0).view({-1, 1, 1}), upper = box.select(1, 1).view({-1, 1, 1});
  return ((action - baseline - (lower + upper) / 2) / ((upper - lower) / 2).clamp_min(1e-6)).square().sum(-1);
}

at::Tensor FusedScores(const at::Tensor& action, const at::Tensor& scores, const at::Tensor& lower, const at::Tensor& upper) {
  const std::int64_t tasks = scores.size(-1), width = action.size(-1);
  const at::Tensor business = lower.narrow(0, 0, width) + 0.5 * (action + 1) * (upper - lower).narrow(0, 0, width);
  const at::Tensor biases = width > tasks ? business.narrow(-1, tasks, tasks) : lower.narrow(0, tasks, tasks);
  return (business.narrow(-1, 0, tasks) * (scores + biases).clamp_min(kLogArgumentMin).log()).sum(-1);
}

at::Tensor SelectionDifferential(const at::Tensor& fused, const at::Tensor& value, const at::Tensor& weight) {
  const at::Tensor shares = weight / weight.sum(-1, /*keepdim=*/true).clamp_min(kWeightMin);
  const at::Tensor f = fused - (fused * shares).sum(-1, /*keepdim=*/true), v = value - (value * shares).sum(-1, /*keepdim=*/true);
  return (weight * f * v).sum() / ((weight * f.square()).sum() * weight.sum() + kWeightMin).sqrt();
}

at::Tensor ListMean(const at::Tensor& action, const at::Tensor& mask) {
  const at::Tensor shares = mask / mask.sum(-1, /*keepdim=*/true).clamp_min(1);
  return (action * shares.unsqueeze(-1)).sum(1, /*keepdim=*/true);
}

at::Tensor ListPull(const at::Tensor& action, const at::Tensor& mask, const at::Tensor& box) {
  const at::Tensor half = ((box.select(1, 1) - box.select(1, 0)) / 2).clamp_min(1e-6).view({-1, 1, 1});
  return ((action - ListMean(action, mask)) / half).square().sum(-1);
}

at::Tensor PowerSumPull(const at::Tensor& action, std::int64_t powers, double mean) {
  return (action.narrow(-1, 0, powers).mean(-1) - mean).square();
}

at::Tensor TdTarget(const at::Tensor& reward, const at::Tensor& mask, const at::Tensor& terminated, const at::Tensor& next_q,
                    const at::Tensor& next_excess, const at::Tensor& next_mask, const TargetForm& form) {
  const at::Tensor valued = form.phi ? next_q * (-next_excess.sum(-1)).exp()
                                     : next_q - form.alpha_d * BoxPenalty(next_excess, form.literal);
  // What is not there has no box either, and with the literal penalty a value that is not finite.
  const at::Tensor bootstrap = form.gamma * (1 - terminated) * valued.masked_fill(next_mask == 0, 0).sum(-1);  // [M, B]
  const at::Tensor earned = (reward * mask).repeat_interleave(next_q.size(0) / reward.size(0), 0);  // [M, B, L]
  if (!form.per_item) return earned.sum(-1) + bootstrap;
  return earned + (bootstrap / mask.sum(-1).clamp_min(1)).unsqueeze(-1) * mask;
}

at::Tensor TdDifference(const at::Tensor& q, const at::Tensor& mask, const at::Tensor& target, bool per_item) {
  return per_item ? (q - target) * mask : (q * mask).sum(-1) - target;
}

at::Tensor CriticLoss(const at::Tensor& difference, const at::Tensor& weight) {
  const at::Tensor square = difference.square();
  return ((square.dim() == 3 ? square.sum(-1) : square) * weight).mean(-1).sum();
}

at::Tensor MeanTdError(const at::Tensor& difference) {
  const at::Tensor size = difference.detach().abs();
  return (size.dim() == 3 ? size.sum(-1) : size).mean(0);
}

at::Tensor EnsembleStd(const at::Tensor& q, std::int64_t groups) {
  auto shape = q.sizes().vec();
  shape[0] /= groups;
  shape.insert(shape.begin(), groups);
  return (q.reshape(shape).var(1, /*unbiased=*/false) + 1e-8).sqrt();
}

at::Tensor PairValue(const at::Tensor& q, const at::Tensor& omega, double lambda) {
  const std::int64_t groups = omega.size(0);
  const at::Tensor mean = q.view({groups, -1, q.size(1), q.size(2)}).mean(1);  // [G, B, L]
  return (omega.view({-1, 1, 1}) * (mean - lambda * EnsembleStd(q, groups))).sum(0);
}


at::Tensor WeightedMean(const at::Tensor& values, const at::Tensor& weight) {
  return (values * weight).sum() / weight.sum().clamp_min(kWeightMin);
}

at::Tensor ActorLoss(const at::Tensor& q, const at::Tensor& omega, const at::Tensor& penalty, const at::Tensor& weight, double lambda) {
  return WeightedMean(penalty - PairValue(q, omega, lambda), weight);
}

}  // namespace fuseline
