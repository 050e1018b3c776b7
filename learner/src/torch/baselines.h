#pragma once

#include <ATen/core/Tensor.h>

namespace fuseline {

// The formulas of the baselines that have one action a request and learn the rewards' weighted sum. Pure; any floating type. The
// tests check each against plain loops. Shapes: B transitions, M critics.

// y = r + gamma (1 - terminated) V'. reward, terminated, next_value [B] → [B].
at::Tensor Bootstrapped(const at::Tensor& reward, const at::Tensor& terminated, const at::Tensor& next_value, double gamma);

// -sum_b w_b Q(s_b, mu(s_b)) / sum_b w_b: DDPG's and TD3's actor. q, weight [B]. REQUIRES: weight has a positive sum.
at::Tensor DeterministicActorLoss(const at::Tensor& q, const at::Tensor& weight);

// TD3's target action: mu' + clip(std n, -clip, clip), cut to [-1, 1]. mu, normals [B, D].
at::Tensor SmoothedAction(const at::Tensor& mu, const at::Tensor& normals, double std, double clip);

}  // namespace fuseline
