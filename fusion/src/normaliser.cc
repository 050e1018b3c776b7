#include "fuseline/fusion/normaliser.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "fuseline/core/check.h"

namespace fuseline {
namespace {

constexpr double kDeviationMin = 1e-6;  // A column that varies less counts as constant.

}  // namespace

Normaliser Normaliser::Identity(std::size_t columns) {
  return {std::vector<float>(columns, 0.0F), std::vector<float>(columns, 1.0F)};
}

void Normaliser::Apply(std::span<float> columns, std::size_t first_column) const {
  FUSELINE_CHECK(first_column + columns.size() <= mean.size() && mean.size() == scale.size());
  const float* const means = mean.data() + first_column;
  const float* const scales = scale.data() + first_column;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    columns[i] = std::clamp((columns[i] - means[i]) * scales[i], -kNormalisedMax, kNormalisedMax);
  }
}

NormaliserStatistics::NormaliserStatistics(std::vector<bool> scalable_columns)
    : scalable_(std::move(scalable_columns)), mean_(scalable_.size(), 0.0), squares_(scalable_.size(), 0.0) {}

void NormaliserStatistics::Add(std::span<const float> state) {
  FUSELINE_CHECK(state.size() == mean_.size());
  ++count_;
  const double share = 1.0 / static_cast<double>(count_);
  for (std::size_t i = 0; i < state.size(); ++i) {
    const double value = state[i];
    const double before = value - mean_[i];
    mean_[i] += before * share;
    squares_[i] += before * (value - mean_[i]);
  }
}

Normaliser NormaliserStatistics::Finish() const {
  Normaliser normaliser = Normaliser::Identity(scalable_.size());
  if (count_ == 0) return normaliser;
  for (std::size_t i = 0; i < scalable_.size(); ++i) {
    if (!scalable_[i]) continue;
    const double deviation = std::sqrt(squares_[i] / static_cast<double>(count_));
    normaliser.mean[i] = static_cast<float>(mean_[i]);
    if (deviation >= kDeviationMin) normaliser.scale[i] = static_cast<float>(1.0 / deviation);
  }
  return normaliser;
}

void NormaliserStatistics::Restore(std::uint64_t count, std::vector<double> means, std::vector<double> squares) {
  FUSELINE_CHECK(means.size() == scalable_.size() && squares.size() == scalable_.size());
  count_ = count;
  mean_ = std::move(means);
  squares_ = std::move(squares);
}

}  // namespace fuseline
