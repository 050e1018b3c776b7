#pragma once

#include <ATen/core/Tensor.h>

namespace fuseline {

// RMTL's TD target (arXiv 2302.03328) of each task's critic: y[n, k] = reward[n, k] + gamma (1 - terminated[n])
// next_q[n, k], where next_q is the target critic's at the session's next impression and the frozen backbone's
// prediction there.
at::Tensor CriticTarget(const at::Tensor& reward, const at::Tensor& terminated, const at::Tensor& next_q, double gamma);

}  // namespace fuseline
