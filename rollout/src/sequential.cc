#include "fuseline/rollout/sequential.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace fuseline {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kConcentration = 1'000;

double BestRho2(double alpha, double best_at_users) {
  const double twice_log = -2 * std::log(alpha);
  return (twice_log + std::log(1 + twice_log)) / best_at_users;
}

// s sqrt(2 (t rho^2 + 1) / (t rho)^2 * log_term), with s^2 = t Var.
double Width(const MeanEstimate& estimate, double rho2, double log_term) {
  const double t = estimate.users;
  return std::sqrt(estimate.variance * 2 * (t * rho2 + 1) / (t * rho2) * log_term);
}

}  // namespace

MeanEstimate SessionMean(const UserSums& sums) {
  if (!(sums.n > 0)) return {};
  const double mean = sums.y / sums.n;
  MeanEstimate estimate{.mean = mean, .users = sums.users};
  if (sums.users < 2) return estimate;
  const double residuals = std::max(0.0, sums.yy - 2 * mean * sums.yn + mean * mean * sums.nn);
  estimate.variance = sums.users / (sums.users - 1) * residuals / (sums.n * sums.n);
  return estimate;
}

MeanEstimate Contrast(const MeanEstimate& a, double factor, const MeanEstimate& b) {
  return {a.mean - factor * b.mean, a.variance + factor * factor * b.variance, a.users + b.users};
}

ConfidenceSequence::ConfidenceSequence(double alpha, double best_at_users)
    : alpha_(alpha), rho2_(BestRho2(alpha, best_at_users)), one_sided_rho2_(BestRho2(std::min(2 * alpha, 0.99), best_at_users)) {}

double ConfidenceSequence::HalfWidth(const MeanEstimate& estimate) const {
  if (estimate.users < 2) return kInfinity;
  return Width(estimate, rho2_, std::log(std::sqrt(estimate.users * rho2_ + 1) / alpha_));
}

double ConfidenceSequence::OneSidedWidth(const MeanEstimate& estimate) const {
  if (estimate.users < 2) return kInfinity;
  return Width(estimate, one_sided_rho2_, std::log1p(std::sqrt(estimate.users * one_sided_rho2_ + 1) / (2 * alpha_)));
}

double LogSampleRatioE(std::span<const double> centre, std::span<const EntryStage> stages) {
  double log_null = 0, all = 0, log_mixture = 0;
  for (std::size_t i = 0; i < centre.size(); ++i) {
    double of_arm = 0;
    for (const EntryStage& stage : stages) {
      const auto users = static_cast<double>(stage.users[i]);
      of_arm += users;
      if (users > 0) log_null += users * std::log(stage.expected[i]);  // -inf where nobody was expected.
    }
    all += of_arm;
    if (of_arm == 0) continue;
    if (!(centre[i] > 0)) return kInfinity;
    const double prior = kConcentration * centre[i];
    log_mixture += std::lgamma(prior + of_arm) - std::lgamma(prior);
  }
  log_mixture += std::lgamma(kConcentration) - std::lgamma(kConcentration + all);
  return log_mixture - log_null;
}

}  // namespace fuseline
