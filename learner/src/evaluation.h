#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fuseline {

// One exposed (user, item) pair with what a policy predicts for it.
struct ScoredPair {
  std::uint64_t user = 0;
  double score = 0;   // Fused by the policy that is judged.
  double reward = 0;
  bool positive = false;  // Watched longer than valid_watch_ms.
};

struct GaucResult {
  double value = 0;
  std::size_t users = 0;
  std::size_t skipped_users = 0;  // With one class, or a class without weight.
};

// MTF-GAUC: sum_u w(u) WeightedAUC(u) / sum_u w(u); a pair weighs max(reward, 0) + 0.01 (w_min is ours), w(u) = the user's sum, ties
// count one half. Cost: O(n log n).
GaucResult MtfGauc(std::vector<ScoredPair> pairs);

// One explored request under a policy that is judged.
struct LoggedRequest {
  std::size_t session = 0;
  double log_density = 0;       // Of the executed noise.
  double squared_distance = 0;  // Mean over items of |mu(s_j) - a_j|^2, normalised action units.
  double reward = 0;
};

struct NcisResult {
  double value = 0;        // Mean reward of a request.
  double lower = 0;        // One-sided 95 %, sessions as clusters, normal approximation.
  double effective = 0;    // Kish's effective sample size, requests.
  double capped_share = 0;
};

// Self-normalised, capped importance sampling with a Gaussian kernel (ours): the judged policy mu stands as N(mu, bandwidth^2), which
// biases towards what lies around it; ratios are scaled to mean one, since the kernel's constant cancels, then capped.
// REQUIRES: requests is not empty.
NcisResult Ncis(const std::vector<LoggedRequest>& requests, double bandwidth, double cap);

}  // namespace fuseline
