#include "fuseline/fusion/exploration.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "fuseline/core/check.h"
#include "fuseline/core/digest.h"

namespace fuseline {
namespace {

constexpr double kReach = 3;      // Deviations at which normal noise ends.
constexpr double kRoomMin = 1e-6; // A narrower dimension is not explored, as in DrawRequestNoise.

double Cumulative(double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); }
double LogDensity(double x) { return -0.5 * x * x - 0.5 * std::log(2 * std::numbers::pi); }

// x with Cumulative(x) = p by Newton's method, kept inside a bracket that shrinks: p is never beyond three deviations.
double InverseCumulative(double p) {
  double low = -kReach - 1e-6, high = kReach + 1e-6, x = 0;
  for (int i = 0; i < 100; ++i) {
    const double error = Cumulative(x) - p;
    if (std::abs(error) < 1e-15) return x;
    (error > 0 ? high : low) = x;
    const double newton = x - error / std::exp(LogDensity(x));
    x = newton > low && newton < high ? newton : 0.5 * (low + high);
  }
  return x;
}

// Truncated normal in each dimension's room; returns its log density.
double DrawNormalNoise(std::span<const float> baseline_actions, double deviation, Random& random,
                       std::span<float> noise, std::size_t explored) {
  const std::size_t width = noise.size();
  FUSELINE_CHECK(width > 0 && !baseline_actions.empty() && baseline_actions.size() % width == 0);
  std::fill(noise.begin(), noise.end(), 0.0F);
  double log_density = 0;
  for (std::size_t d = 0; d < std::min(width, explored); ++d) {
    double lo = -kReach * deviation, hi = kReach * deviation;
    for (std::size_t i = d; i < baseline_actions.size(); i += width) {
      lo = std::max(lo, -1.0 - baseline_actions[i]);
      hi = std::min(hi, 1.0 - baseline_actions[i]);
    }
    const double draw = random.NextUniform();  // Also where it is not used, so that a dimension does not depend on another's room.
    if (hi - lo < kRoomMin) continue;
    const double below = Cumulative(lo / deviation), inside = Cumulative(hi / deviation) - below;
    noise[d] = static_cast<float>(std::clamp(deviation * InverseCumulative(below + draw * inside), lo, hi));
    log_density += LogDensity(noise[d] / deviation) - std::log(deviation) - std::log(inside);
  }
  return log_density;
}

}  // namespace

Exploration ExplorationOf(const v1::Config& config) {
  const v1::Ranker& settings = config.ranker();
  std::string form = settings.exploration_form();
  if (form == "auto") form = config.learner().algorithm() == "batch_rl" ? "batch_rl" : "box";
  return {.form = form == "gaussian"   ? ExplorationForm::kGaussian
                  : form == "batch_rl" ? ExplorationForm::kBatchRl
                                       : ExplorationForm::kBox,
          .gaussian_std = settings.gaussian_std(),
          .batch_rl_random_std = settings.batch_rl_random_std(),
          .batch_rl_policy_std = settings.batch_rl_policy_std()};
}

bool ExploresAroundStatic(const Exploration& exploration, std::uint64_t seed, std::string_view user_id) {
  if (exploration.form != ExplorationForm::kBatchRl) return false;
  return Random(seed, "exploration.batch_rl", Fnv1a64(user_id)).NextUniform() < 0.5;
}

DrawnNoise DrawNoise(const Exploration& exploration, bool around_static, std::span<const float> baseline_actions,
                     const ExplorationBox& box, Random& random, std::span<float> noise, std::size_t explored) {
  if (exploration.form == ExplorationForm::kBox)
    return {DrawRequestNoise(baseline_actions, box, random, noise, explored), box};
  const double deviation = exploration.form == ExplorationForm::kGaussian ? exploration.gaussian_std
                           : around_static                                ? exploration.batch_rl_random_std
                                                                          : exploration.batch_rl_policy_std;
  const auto reach = static_cast<float>(std::min(2.0, kReach * deviation));
  return {DrawNormalNoise(baseline_actions, deviation, random, noise, explored), {-reach, reach}};
}

}  // namespace fuseline
