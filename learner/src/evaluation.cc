#include "evaluation.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace fuseline {
namespace {

constexpr double kNormalOneSided95 = 1.645;

// Kernel ratios with mean one. The largest is taken out of the exponent first, so that nothing overflows.
std::vector<double> Ratios(const std::vector<LoggedRequest>& requests, double bandwidth) {
  std::vector<double> ratios;
  for (const LoggedRequest& request : requests)
    ratios.push_back(-request.squared_distance / (2 * bandwidth * bandwidth) - request.log_density);
  const double largest = *std::ranges::max_element(ratios);
  for (double& ratio : ratios) ratio = std::exp(ratio - largest);
  const double mean = std::accumulate(ratios.begin(), ratios.end(), 0.0) / static_cast<double>(ratios.size());
  for (double& ratio : ratios) ratio /= mean;
  return ratios;
}

}  // namespace

NcisResult Ncis(const std::vector<LoggedRequest>& requests, double bandwidth, double cap) {
  const std::vector<double> ratios = Ratios(requests, bandwidth);
  OffPolicyEstimator estimator(cap);
  NcisResult result;
  for (std::size_t i = 0; i < ratios.size(); ++i) {
    result.capped_share += ratios[i] > cap ? 1 / static_cast<double>(ratios.size()) : 0;
    estimator.Add(std::min(ratios[i], cap), requests[i].reward);
    if (i + 1 == requests.size() || requests[i + 1].session != requests[i].session) estimator.CloseCluster();
  }
  const OffPolicyEstimates estimates = estimator.Finish();
  result.reward = estimates.snips.value_or(Estimate{});
  result.lower = result.reward.value - kNormalOneSided95 * result.reward.standard_error.value_or(0);
  result.effective = estimates.ess.value_or(0);
  return result;
}

}  // namespace fuseline
