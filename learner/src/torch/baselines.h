#pragma once

#include <ATen/core/Tensor.h>

namespace fuseline {

// The formulas of the baselines that have one action a request and learn the rewards' weighted sum. Pure; any floating type. The
// tests check each against plain loops. Shapes: B transitions, M critics, D action dimensions, K actions of a state. Means over a
// batch: sum_b w_b x_b / B for critics and values, as a weight of 1 is a plain mean; / sum_b w_b for actors, 0 where all weights are.

// y = r + gamma (1 - terminated) V'. reward, terminated, next_value [B] → [B].
at::Tensor Bootstrapped(const at::Tensor& reward, const at::Tensor& terminated, const at::Tensor& next_value, double gamma);

// TD3's target action: mu' + clip(std n, -clip, clip), cut to [-1, 1]. mu, normals [B, D].
at::Tensor SmoothedAction(const at::Tensor& mu, const at::Tensor& normals, double std, double clip);

// SAC's policy: a = tanh(u), u = mean + exp(log_std) n, with log pi(a) = sum_d log N(u; mean, std) - log(1 - tanh^2 u).
// outputs [N, 2D]: mean, then log_std, which is cut to [-5, 2]; normals [N, D].
struct SquashedSample {
  at::Tensor action;       // [N, D]
  at::Tensor log_density;  // [N]
};
SquashedSample SampleSquashed(const at::Tensor& outputs, const at::Tensor& normals);

// SAC's actor: weighted mean of alpha log pi(a) - min over critics Q(s, a). alpha [1]; log_density, weight [B]; q [M, B].
at::Tensor EntropyActorLoss(const at::Tensor& alpha, const at::Tensor& log_density, const at::Tensor& q, const at::Tensor& weight);

// SAC's temperature: -log alpha times the weighted mean of log pi(a) + target entropy. log_alpha [1]; log_density, weight [B].
at::Tensor TemperatureLoss(const at::Tensor& log_alpha, const at::Tensor& log_density, double target_entropy, const at::Tensor& weight);

// CQL(H): sum over members of the mean of  log sum_k exp(Q(s, a_k) - log density(a_k)) - Q(s, a).
// sampled_q [M, B, K], log_density [B, K], data_q [M, B], weight [B].
at::Tensor ConservativeTerm(const at::Tensor& sampled_q, const at::Tensor& log_density, const at::Tensor& data_q, const at::Tensor& weight);

// IQL's V: mean of |tau - 1(u < 0)| u^2 with u = Q - V. q, v, weight [B].
at::Tensor ExpectileLoss(const at::Tensor& q, const at::Tensor& v, double expectile, const at::Tensor& weight);

// IQL's actor: weighted mean of -min(exp(beta A), cap) log pi(a). advantage, log_density, weight [B].
at::Tensor AdvantageWeightedLoss(const at::Tensor& advantage, const at::Tensor& log_density, double beta, double cap,
                                 const at::Tensor& weight);

// log N(x; mean, exp(log_std)^2), summed over dimensions. x, mean [B, D], log_std [B, D] or [D] → [B].
at::Tensor NormalLogDensity(const at::Tensor& x, const at::Tensor& mean, const at::Tensor& log_std);

// BatchRL-MTF's generator: mean of  mean_d (a_d - rebuilt_d)^2 + kl_weight KL, KL = mean_z (mean^2 + std^2 - 1 - 2 log_std) / 2 (means
// over dimensions as BCQ's authors). action, rebuilt [B, D]; mean, log_std [B, Z]; weight [B].
at::Tensor GeneratorLoss(const at::Tensor& action, const at::Tensor& rebuilt, const at::Tensor& mean, const at::Tensor& log_std,
                         double kl_weight, const at::Tensor& weight);

// Fitted Q: mean of (Q(s, a) - y)^2, and where it is to be conservative + alpha (mean Q(s, pi(s)) - mean Q(s, a)) (as BatchRL-MTF).
// logged, judged, target [B]; `judged` is undefined for alpha 0.
at::Tensor FittedQLoss(const at::Tensor& logged, const at::Tensor& judged, const at::Tensor& target, double alpha);

// BCQ's value of a next state: the largest over K actions of the smallest over critics. q [M, B, K] → [B].
at::Tensor BestOfWorst(const at::Tensor& q);

}  // namespace fuseline
