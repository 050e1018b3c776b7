#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "fuseline/core/random.h"
#include "fuseline/core/status.h"
#include "fuseline/v1/config.pb.h"
#include "fuseline/v1/policy.pb.h"

namespace fuseline {

// The affine map between normalised actions in [-1, 1]^D, where networks, noise, box and densities live, and the business
// ranges of powers and biases. D = 2k: k powers, then k biases. Immutable; thread-safe.
// With fixed biases a policy says the k powers alone (BatchRL-MTF's sum_i alpha_i log(o_i + beta_i)): what it learns and
// what is explored around it has k dimensions; whoever ranks or logs an action writes the static biases behind them.
class ActionSpace {
 public:
  static Result<ActionSpace> Create(const v1::ActionRanges& ranges);  // Errors: kInvalidInput.

  std::size_t width() const { return lower_.size(); }        // D
  std::size_t task_count() const { return width() / 2; }     // k
  std::size_t learned_width() const { return learned_width_; }  // D, or with fixed biases k: what a policy says.
  std::span<const float> static_action() const { return static_action_; }  // [D], normalised.
  float ToBusiness(std::size_t dimension, float normalised) const;
  float ToNormalised(std::size_t dimension, float business) const;

  // log of prod_i (pred_i + bias_i)^power_i (BatchRL-MTF and UnifiedRL, arXiv 2404.17589):
  //   sum_i power_i * log(max(pred_i + bias_i, 1e-6))
  // The same order without under- or overflow. Shapes: task_scores [k]; action [D], or [learned width], normalised.
  double FusedScore(std::span<const float> task_scores, std::span<const float> action) const;

 private:
  std::vector<float> lower_, upper_, static_action_;
  std::size_t learned_width_ = 0;
};

// The action space of what `config` learns and serves: ActionRangesOf, and whether policy.biases leaves them fixed.
// Errors: kInvalidInput as ActionRangesOf.
Result<v1::ActionRanges> PolicyRangesOf(const v1::Config& config);

// Exploration box around a baseline action, per dimension, normalised: lower <= 0 <= upper.
struct ExplorationBox {
  float lower = -0.15F;
  float upper = 0.15F;
};

inline constexpr std::size_t kAllDimensions = std::dynamic_extent;

// One noise vector for a whole request, added to the baseline action of every candidate (UnifiedRL's uniform box; one
// vector a request is ours). Drawn uniformly from the part of the box that keeps every candidate inside [-1, 1]; never clipped
// afterwards, so the density is exact: log_density = -sum_d log(hi_d - lo_d). A dimension with no room (< 1e-6), or
// beyond the first `explored`, gets no noise and no density.
// Shapes: baseline_actions [n, D] row-major; noise [D]. Returns log_density. REQUIRES: n >= 1, D = noise.size().
double DrawRequestNoise(std::span<const float> baseline_actions, const ExplorationBox& box, Random& random,
                        std::span<float> noise, std::size_t explored = kAllDimensions);

}  // namespace fuseline
