#include "evaluation.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>

namespace fuseline {
namespace {

constexpr double kNormalOneSided95 = 1.645;
constexpr double kNoiseTolerance = 1e-4;  // Actions are float32.
constexpr double kRoomMin = 1e-6;         // As where the noise is drawn: less room gets none.
constexpr int kDrawsMax = 1'000;
constexpr double kLogRatioMax = 600;  // exp stays finite, and so does a sum of as many as there are.

// Mass of N(centre, bandwidth^2) in [lower, upper], from the tail where it is small.
double Mass(double lower, double upper, double centre, double bandwidth) {
  const double scale = 1 / (bandwidth * std::numbers::sqrt2);
  const double a = (lower - centre) * scale, b = (upper - centre) * scale;
  return a > 0 ? (std::erfc(a) - std::erfc(b)) / 2 : (std::erfc(-b) - std::erfc(-a)) / 2;
}

}  // namespace

double NoiseKernel::LogDensity(double bandwidth) const {
  double log_density = 0;
  for (std::size_t d = 0; d < noise.size(); ++d) {
    if (upper[d] - lower[d] < kRoomMin) continue;
    const double z = (noise[d] - centre[d]) / bandwidth;
    const double mass = std::max(Mass(lower[d], upper[d], centre[d], bandwidth), 1e-300);
    log_density -= z * z / 2 + std::log(bandwidth * std::sqrt(2 * std::numbers::pi) * mass);
  }
  return log_density;
}

std::vector<double> NoiseKernel::Draw(double bandwidth, Random& random) const {
  std::vector<double> drawn(noise.size());
  for (std::size_t d = 0; d < drawn.size(); ++d) {
    // From the uniform by rejection: the room is seldom much wider than the kernel, and the centre may lie far outside it.
    const double nearest = std::clamp(centre[d], lower[d], upper[d]), least = (nearest - centre[d]) / bandwidth;
    drawn[d] = nearest;
    for (int i = 0; i < kDrawsMax && upper[d] - lower[d] >= kRoomMin; ++i) {
      const double value = random.NextUniform(lower[d], upper[d]), z = (value - centre[d]) / bandwidth;
      if (random.NextUniform() >= std::exp((least * least - z * z) / 2)) continue;
      drawn[d] = value;
      break;
    }
  }
  return drawn;
}

RowJudge::RowJudge(const v1::Config& config, const ActionSpace& space, const RowLayout& layout)
    : space_(space),
      layout_(layout),
      rewards_(config.rewards(), config.learner().reward_cap()),
      omega_engagement_(config.learner().omega_engagement()),
      omega_watch_(config.learner().omega_watch()),
      weight_min_(config.gate().gauc_weight_min()),
      bandwidth_(config.gate().ncis_bandwidth()) {}

double RowJudge::RewardOf(const ConstRow& row, std::uint32_t item) const {
  const auto groups = rewards_.Of(row.RewardsOf(item));
  return omega_engagement_ * groups[kEngagement] + omega_watch_ * groups[kWatch];
}

double RowJudge::RewardOf(const ConstRow& row) const {
  double sum = 0;
  for (std::uint32_t j = 0; j < row.header->items; ++j) sum += RewardOf(row, j);
  return sum;
}

void RowJudge::AddPairs(const ConstRow& row, std::span<const float> actions, std::vector<ScoredPair>& pairs) const {
  for (std::uint32_t j = 0; j < row.header->items; ++j) {
    const std::span scores(row.items + (j + 1) * layout_.item - space_.task_count(), space_.task_count());
    pairs.push_back({.user = row.header->user,
                     .score = space_.FusedScore(scores, actions.subspan(j * layout_.action, layout_.action)),
                     .weight = std::max(RewardOf(row, j), 0.0) + weight_min_,
                     .positive = rewards_.Valid(row.RewardsOf(j))});
  }
}

std::optional<NoiseKernel> RowJudge::KernelOf(const ConstRow& row, std::span<const float> actions) const {
  if (!row.is(kHasDensity)) return std::nullopt;
  const std::size_t width = layout_.action, items = row.header->items;
  NoiseKernel kernel;
  bool in_box = true;
  double uniform = 0;  // Log density of the box's own noise.
  std::vector<double> box_lower, box_upper;
  for (std::size_t d = 0; d < width; ++d) {
    double smallest = 1, largest = -1, centre = 0;
    const double noise = static_cast<double>(row.executed[d]) - row.baseline[d];
    for (std::size_t j = 0; j < items; ++j) {
      const double baseline = row.baseline[j * width + d];
      smallest = std::min(smallest, baseline);
      largest = std::max(largest, baseline);
      centre += (actions[j * width + d] - baseline) / static_cast<double>(items);
      kernel.common = kernel.common && std::abs(row.executed[j * width + d] - baseline - noise) < kNoiseTolerance;
    }
    kernel.noise.push_back(noise);
    kernel.centre.push_back(centre);
    kernel.lower.push_back(-1 - smallest);
    kernel.upper.push_back(1 - largest);
    box_lower.push_back(std::max<double>(row.header->box_lower, kernel.lower.back()));
    box_upper.push_back(std::min<double>(row.header->box_upper, kernel.upper.back()));
    in_box = in_box && noise > box_lower.back() - kNoiseTolerance && noise < box_upper.back() + kNoiseTolerance;
    if (box_upper.back() - box_lower.back() >= kRoomMin) uniform -= std::log(box_upper.back() - box_lower.back());
  }
  // Of all that falls into the box its own noise is the densest: candidates that were not exposed can only narrow it.
  if (in_box && row.header->log_density > uniform - kNoiseTolerance * static_cast<double>(width)) {
    kernel.lower = std::move(box_lower);
    kernel.upper = std::move(box_upper);
  }
  return kernel;
}

double RowJudge::LogRatio(const ConstRow& row, const NoiseKernel& kernel) const {
  return kernel.LogDensity(bandwidth_) - row.header->log_density;
}

std::vector<double> CappedRatios(const std::vector<LoggedRequest>& requests, double cap, double* capped_share) {
  std::vector<double> ratios;
  for (const LoggedRequest& request : requests) ratios.push_back(request.log_ratio);
  // The median is taken out of the exponent, so that one absurd density makes itself huge and not all others zero.
  std::vector<double> sorted = ratios;
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  const double median = *middle;
  for (double& ratio : ratios) ratio = std::exp(std::min(ratio - median, kLogRatioMax));

  // The limit t solves sum min(ratio, t) = t n / cap: with the k largest cut, t = (sum of the others) / (n / cap - k).
  sorted = ratios;
  std::ranges::sort(sorted, std::greater<>());
  std::vector<double> rest(sorted.size() + 1, 0.0);
  for (std::size_t i = sorted.size(); i-- > 0;) rest[i] = rest[i + 1] + sorted[i];
  const double share = static_cast<double>(sorted.size()) / cap;
  std::size_t cut = 0;
  double limit = rest[0] / share;
  while (cut < sorted.size() && !(sorted[cut] <= limit) && static_cast<double>(cut + 1) < share)
    ++cut, limit = rest[cut] / (share - static_cast<double>(cut));
  if (share <= 1) limit = sorted.front();  // A cap of n and more cuts nothing.
  double sum = 0;
  for (double& ratio : ratios) {
    *capped_share += ratio > limit ? 1 / static_cast<double>(ratios.size()) : 0;
    ratio = std::min(ratio, limit);
    sum += ratio;
  }
  for (double& ratio : ratios) ratio *= static_cast<double>(ratios.size()) / sum;
  return ratios;
}

NcisResult Ncis(const std::vector<LoggedRequest>& requests, double cap) {
  NcisResult result;
  const std::vector<double> ratios = CappedRatios(requests, cap, &result.capped_share);
  OffPolicyEstimator estimator(cap);
  for (std::size_t i = 0; i < ratios.size(); ++i) {
    estimator.Add(ratios[i], requests[i].reward);
    if (i + 1 == requests.size() || requests[i + 1].session != requests[i].session) estimator.CloseCluster();
  }
  const OffPolicyEstimates estimates = estimator.Finish();
  result.reward = estimates.snips.value_or(Estimate{});
  result.lower = result.reward.value - kNormalOneSided95 * result.reward.standard_error.value_or(0);
  result.effective = estimates.ess.value_or(0);
  return result;
}

}  // namespace fuseline
