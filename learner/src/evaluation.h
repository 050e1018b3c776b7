#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "fuseline/core/random.h"
#include "fuseline/fusion/action_space.h"
#include "fuseline/learner/estimators.h"
#include "fuseline/learner/rewards.h"
#include "fuseline/v1/config.pb.h"
#include "row_store.h"

namespace fuseline {

// Where the noise of an explored request could fall, and around where a judged policy would have put it: per dimension, normalised.
struct NoiseKernel {
  std::vector<double> noise, lower, upper, centre;  // [D]
  bool common = true;  // Every item was moved by the same noise. If not, the logged density is no propensity of the list.

  // log of: the density at `noise` of N(centre, bandwidth^2) cut to [lower, upper].
  double LogDensity(double bandwidth) const;
  // A draw from it.
  std::vector<double> Draw(double bandwidth, Random& random) const;
};

// One explored request under a policy that is judged.
struct LoggedRequest {
  std::size_t session = 0;  // A session's requests stand together.
  double log_ratio = 0;     // Density of the noise under the judged policy over the logged one.
  double reward = 0;
};

// What rows say about a policy, given its actions. The judged policy mu stands as N(mu, gate.ncis_bandwidth^2) cut to where the logged
// noise could fall (ours: between two boxes the overlap vanishes in many dimensions). This leans towards what lies around mu; the
// ratios' mean is one where the cut is known, which is so unless a candidate that was not exposed lay near the edge of [-1, 1].
// Immutable; thread-safe. Actions: [items, D], normalised.
class RowJudge {
 public:
  RowJudge(const v1::Config& config, const ActionSpace& space, const RowLayout& layout);

  double RewardOf(const ConstRow& row, std::uint32_t item) const;  // Groups weighted by omega.
  double RewardOf(const ConstRow& row) const;                      // Of the list.

  // For MTF-GAUC: label: valid consumption; score: fused; weight: max(reward, 0) + gate.gauc_weight_min.
  void AddPairs(const ConstRow& row, std::span<const float> actions, std::vector<ScoredPair>& pairs) const;

  // Absent: nothing was explored. `kernel.centre`: mean over items of the actions' distance from the logged baseline.
  std::optional<NoiseKernel> KernelOf(const ConstRow& row, std::span<const float> actions) const;
  double LogRatio(const ConstRow& row, const NoiseKernel& kernel) const;

 private:
  const ActionSpace& space_;
  const RowLayout layout_;
  const RewardSpec rewards_;
  const double omega_engagement_, omega_watch_, weight_min_, bandwidth_;
};

// Ratios with a mean of about one, each cut so that none is more than `cap` times the mean of those that are left: then no request,
// however absurd its density, weighs more than cap / n of the sum. REQUIRES: not empty; cap >= 1.
std::vector<double> CappedRatios(const std::vector<LoggedRequest>& requests, double cap, double* capped_share);

struct NcisResult {
  Estimate reward;         // Mean of a request; sessions as clusters.
  double lower = 0;        // One-sided 95 %, normal approximation; the estimate itself where there is one session alone.
  double effective = 0;    // Kish's effective sample size, requests.
  double capped_share = 0;
};

// Self-normalised, capped importance sampling. REQUIRES: requests is not empty.
NcisResult Ncis(const std::vector<LoggedRequest>& requests, double cap);

}  // namespace fuseline
