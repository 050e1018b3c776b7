#include "fuseline/fusion/action_space.h"

#include <algorithm>
#include <cmath>

#include "fuseline/core/check.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/settings.h"

namespace fuseline {
namespace {

constexpr double kLogArgumentMin = 1e-6;  // As in the formula of the header.
constexpr double kRoomMin = 1e-6;         // A narrower dimension is not explored.

}  // namespace

Result<ActionSpace> ActionSpace::Create(const v1::ActionRanges& ranges) {
  const int width = ranges.lower_size();
  if (width == 0 || width % 2 != 0 || ranges.upper_size() != width || ranges.static_action_size() != width) {
    return Error(Code::kInvalidInput, "action ranges need the same even number of values: lower", width, "upper",
                 ranges.upper_size(), "static_action", ranges.static_action_size());
  }
  ActionSpace space;
  for (int d = 0; d < width; ++d) {
    const float lower = ranges.lower(d);
    const float upper = ranges.upper(d);
    const float hand_set = ranges.static_action(d);
    if (!std::isfinite(lower) || !std::isfinite(upper) || !(lower < upper)) {
      return Error(Code::kInvalidInput, "action range is empty or not finite: dimension", d, "lower", lower, "upper", upper);
    }
    if (!(hand_set >= -1.0F && hand_set <= 1.0F)) {
      return Error(Code::kInvalidInput, "static action is outside [-1, 1]: dimension", d, "value", hand_set);
    }
    space.lower_.push_back(lower);
    space.upper_.push_back(upper);
    space.static_action_.push_back(hand_set);
  }
  space.learned_width_ = space.width() / (ranges.fixed_biases() ? 2 : 1);
  return space;
}

float ActionSpace::ToBusiness(std::size_t dimension, float normalised) const {
  const float lower = lower_[dimension];
  return lower + 0.5F * (normalised + 1.0F) * (upper_[dimension] - lower);
}

float ActionSpace::ToNormalised(std::size_t dimension, float business) const {
  const float lower = lower_[dimension];
  return 2.0F * (business - lower) / (upper_[dimension] - lower) - 1.0F;
}

double ActionSpace::FusedScore(std::span<const float> task_scores, std::span<const float> action) const {
  const std::size_t tasks = task_count();
  FUSELINE_CHECK(task_scores.size() == tasks && (action.size() == width() || action.size() == learned_width_));
  const std::span<const float> biases = (action.size() == tasks ? static_action() : action).subspan(tasks);
  double score = 0.0;
  for (std::size_t i = 0; i < tasks; ++i) {
    const double power = ToBusiness(i, action[i]);
    const double bias = ToBusiness(tasks + i, biases[i]);
    score += power * std::log(std::max(task_scores[i] + bias, kLogArgumentMin));
  }
  return score;
}

Result<v1::ActionRanges> PolicyRangesOf(const v1::Config& config) {
  FUSELINE_ASSIGN_OR_FAIL(v1::ActionRanges ranges, ActionRangesOf(config.policy(), SchemaOf(config)));
  const bool as_paper = config.learner().algorithm() == "batch_rl" && config.learner().preset() == "paper";
  ranges.set_fixed_biases(config.policy().biases() == "fixed" || (config.policy().biases() == "preset" && as_paper));
  return ranges;
}

double DrawRequestNoise(std::span<const float> baseline_actions, const ExplorationBox& box, Random& random,
                        std::span<float> noise, std::size_t explored) {
  const std::size_t width = noise.size();
  FUSELINE_CHECK(width > 0 && !baseline_actions.empty() && baseline_actions.size() % width == 0);
  std::fill(noise.begin(), noise.end(), 0.0F);
  double log_density = 0.0;
  for (std::size_t d = 0; d < std::min(width, explored); ++d) {
    float smallest = baseline_actions[d];
    float largest = smallest;
    for (std::size_t i = d + width; i < baseline_actions.size(); i += width) {
      smallest = std::min(smallest, baseline_actions[i]);
      largest = std::max(largest, baseline_actions[i]);
    }
    const double lo = std::max<double>(box.lower, -1.0 - smallest);
    const double hi = std::min<double>(box.upper, 1.0 - largest);
    // Drawn even where it is not used: what one dimension gets does not depend on the room of another.
    const double draw = random.NextUniform();
    if (hi - lo < kRoomMin) continue;
    noise[d] = static_cast<float>(lo + (hi - lo) * draw);
    log_density -= std::log(hi - lo);
  }
  return log_density;
}

}  // namespace fuseline
