#include "torch/baselines.h"

#include <ATen/TensorOperators.h>

namespace fuseline {

at::Tensor Bootstrapped(const at::Tensor& reward, const at::Tensor& terminated, const at::Tensor& next_value, double gamma) {
  return reward + gamma * (1 - terminated) * next_value;
}

at::Tensor DeterministicActorLoss(const at::Tensor& q, const at::Tensor& weight) { return -(q * weight).sum() / weight.sum(); }

at::Tensor SmoothedAction(const at::Tensor& mu, const at::Tensor& normals, double std, double clip) {
  return (mu + (normals * std).clamp(-clip, clip)).clamp(-1, 1);
}

}  // namespace fuseline
