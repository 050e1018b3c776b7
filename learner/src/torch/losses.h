#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace fuseline {

// The formulas of EnhancedRL (arXiv 2409.11678). Pure; any floating type; non-finite input gives non-finite output, which is
// the caller's to guard. The tests check each against plain loops.
// Shapes: B transitions, L items, M members (G groups of m, group by group), D action dimensions.

// Relative distance to the box [baseline + lower, baseline + upper] per dimension, x = excess / (beta W), W = upper - lower.
// action, baseline [B, L, D]; box [B, 2] → [B, L, D]; 0 inside.
at::Tensor BoxExcess(const at::Tensor& action, const at::Tensor& baseline, const at::Tensor& box, double beta);

// d per pair, summed over dimensions: continuous, exp(x) - 1 for x <= 6 and its tangent beyond; or literal, exp(x) outside and 0
// inside. excess [B, L, D] → [B, L].
at::Tensor BoxPenalty(const at::Tensor& excess, bool literal);

// Squared excess of an actor's outputs before tanh over `largest`, summed over dimensions (ours). Beyond 2 a dimension is within 0.04 of
// the end of its range, where tanh has next to no slope: one that critics drove there while they knew little would stay for good.
// logits [n, D] → [n].
at::Tensor Saturation(const at::Tensor& logits, double largest);

// Squared distance to the middle of the box in half-widths, summed over dimensions: a term that is not flat inside (ours).
// action, baseline [B, L, D]; box [B, 2] → [B, L].
at::Tensor InsidePull(const at::Tensor& action, const at::Tensor& baseline, const at::Tensor& box);

// The list's mean action. action [B, L, D]; mask [B, L] → [B, 1, D].
at::Tensor ListMean(const at::Tensor& action, const at::Tensor& mask);

// Squared distance to the list's mean action in half-widths of the box, summed over dimensions (ours).
// action [B, L, D]; mask [B, L]; box [B, 2] → [B, L].
at::Tensor ListPull(const at::Tensor& action, const at::Tensor& mask, const at::Tensor& box);

// Squared distance of the mean of an action's first `powers` dimensions from `mean` (ours). action [B, L, D] → [B, L].
at::Tensor PowerSumPull(const at::Tensor& action, std::int64_t powers, double mean);

// Fused scores, as ActionSpace::FusedScore has them. action [B, L, D] normalised, D = 2k, or k where the biases are fixed; scores [B, L, k];
// lower, upper [2k], as in Problem → [B, L].
at::Tensor FusedScores(const at::Tensor& action, const at::Tensor& scores, const at::Tensor& lower, const at::Tensor& upper);

// What an order is worth: of two items of a list that lie one standard deviation of fused score apart, how much more value the upper one
// has (ours; breeders' selection differential for an intensity of 1, Robertson 1966). With f and v less their lists' means,
//   sum w f v / sqrt(sum w f^2  sum w)
// A factor on all fused scores changes nothing, and the largest there is, the deviation of v, is reached where f is proportional to v.
// fused, value, weight [B, L]; what weighs 0 counts nowhere → one number, in the unit of value; 0 where all f are alike.
at::Tensor SelectionDifferential(const at::Tensor& fused, const at::Tensor& value, const at::Tensor& weight);

struct TargetForm {
  double gamma = 0.9;
  double alpha_d = 0.1;
  bool phi = false;      // phi Q' instead of Q' - alpha_d d(a').
  bool literal = false;  // Which d.
  bool per_item = false;
};

// TD target.
//   list: y[m,b]   = sum_l mask r_i + gamma (1 - terminated) V[m,b],  V = sum_l next_mask (Q' - alpha_d d), or next_mask phi Q'
//   item: y[m,b,l] = r_i + gamma (1 - terminated) V[m,b] / |list|: the next list's value shared evenly, so that the items' targets
//         sum to the list's (ours).
// reward [G, B, L]; mask, next_mask [B, L]; terminated [B]; next_q [M, B, L]; next_excess [B, L, D] → [M, B] or [M, B, L].
at::Tensor TdTarget(const at::Tensor& reward, const at::Tensor& mask, const at::Tensor& terminated, const at::Tensor& next_q,
                    const at::Tensor& next_excess, const at::Tensor& next_mask, const TargetForm& form);

// The TD error: sum_l mask Q - y, [M, B]; per item: mask (Q - y), [M, B, L]. q [M, B, L].
at::Tensor TdDifference(const at::Tensor& q, const at::Tensor& mask, const at::Tensor& target, bool per_item);

// Sum over members of the mean over the batch of weight difference^2, over items summed. difference [M, B] or [M, B, L], weight [B].
at::Tensor CriticLoss(const at::Tensor& difference, const at::Tensor& weight);

// Mean over members of |difference|, over items summed: what a transition's priority goes by. → [B].
at::Tensor MeanTdError(const at::Tensor& difference);

// Standard deviation over a group's members, sqrt(var + 1e-8), var the population's. q [M, …] → [G, …].
at::Tensor EnsembleStd(const at::Tensor& q, std::int64_t groups);

// What critics say that a pair is worth, less their doubt: sum_i omega_i (mean_n Q_in - lambda std_n Q_in). q [M, B, L]; omega [G] → [B, L].
at::Tensor PairValue(const at::Tensor& q, const at::Tensor& omega, double lambda);

// Weighted mean over pairs or over a batch: values, weight of one shape → one number, 0 where all weights are.
at::Tensor WeightedMean(const at::Tensor& values, const at::Tensor& weight);

// Mean over pairs of penalty - PairValue, penalty = eta d and what else holds the action. penalty, weight [B, L].
at::Tensor ActorLoss(const at::Tensor& q, const at::Tensor& omega, const at::Tensor& penalty, const at::Tensor& weight, double lambda);

}  // namespace fuseline
