#pragma once

#include <cstddef>
#include <vector>

#include "fuseline/learner/estimators.h"

namespace fuseline {

// One explored request under a policy that is judged.
struct LoggedRequest {
  std::size_t session = 0;      // A session's requests stand together.
  double log_density = 0;       // Of the executed noise.
  double squared_distance = 0;  // Mean over items of |mu(s_j) - a_j|^2, normalised action units.
  double reward = 0;
};

struct NcisResult {
  Estimate reward;         // Mean of a request; sessions as clusters.
  double lower = 0;        // One-sided 95 %, normal approximation; the estimate itself where there is one session alone.
  double effective = 0;    // Kish's effective sample size, requests.
  double capped_share = 0;
};

// Self-normalised, capped importance sampling with a Gaussian kernel (ours): the judged policy mu stands as N(mu, bandwidth^2), which
// biases towards what lies around it; ratios are scaled to mean one, since the kernel's constant cancels, then capped.
// REQUIRES: requests is not empty.
NcisResult Ncis(const std::vector<LoggedRequest>& requests, double bandwidth, double cap);

}  // namespace fuseline
