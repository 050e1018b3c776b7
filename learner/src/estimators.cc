#include "fuseline/learner/estimators.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

namespace fuseline {
namespace {

constexpr double kNormal95 = 1.959963984540054;

bool IsFinite(const Estimate& estimate) { return std::isfinite(estimate.value); }

std::optional<Estimate> IfFinite(const Estimate& estimate) {
  return IsFinite(estimate) ? std::optional(estimate) : std::nullopt;
}

// Of pairs sorted by score; absent when a class has no weight.
std::optional<double> WeightedAuc(std::span<const ScoredPair> sorted) {
  double positives = 0, negatives = 0, won = 0;
  for (std::size_t i = 0; i < sorted.size();) {
    double tied_positive = 0, tied_negative = 0;
    std::size_t next = i;
    for (; next < sorted.size() && sorted[next].score == sorted[i].score; ++next)
      (sorted[next].positive ? tied_positive : tied_negative) += sorted[next].weight;
    won += tied_positive * (negatives + tied_negative / 2);
    positives += tied_positive;
    negatives += tied_negative;
    i = next;
  }
  if (!(positives > 0) || !(negatives > 0)) return std::nullopt;
  const double auc = won / (positives * negatives);
  return std::isfinite(auc) ? std::optional(auc) : std::nullopt;
}

}  // namespace

std::optional<std::array<double, 2>> Interval95(const Estimate& estimate) {
  if (!estimate.standard_error || !std::isfinite(*estimate.standard_error)) return std::nullopt;
  const double half = kNormal95 * *estimate.standard_error;
  return std::array{estimate.value - half, estimate.value + half};
}

Result<double> DensityRatio(double behaviour_density, double target_density) {
  if (!std::isfinite(behaviour_density) || behaviour_density <= 0)
    return Error(Code::kInvalidInput, "a behaviour density must be finite and above zero, not", behaviour_density);
  if (!std::isfinite(target_density) || target_density < 0)
    return Error(Code::kInvalidInput, "a target density must be finite and not below zero, not", target_density);
  const double ratio = target_density / behaviour_density;
  if (!std::isfinite(ratio))
    return Error(Code::kInvalidInput, "the ratio of the densities is not finite:", target_density, "/", behaviour_density);
  return ratio;
}

void OffPolicyEstimator::Add(double ratio, double reward, double q, double v) {
  ++rows_;
  squares_ += (ratio * ratio - squares_) / static_cast<double>(rows_);
  open_[kRows] += 1;
  open_[kWeight] += ratio;
  open_[kEarned] += ratio * reward;
  open_[kClippedEarned] += std::min(ratio, clip_) * reward;
  open_[kModel] += v;
  open_[kCorrection] += ratio * (reward - q);
}

// Welford's update, for products: nothing cancels, however far the means lie from zero.
void OffPolicyEstimator::CloseCluster() {
  ++clusters_;
  Terms before, after;
  for (std::size_t i = 0; i < kTerms; ++i) {
    before[i] = open_[i] - mean_[i];
    mean_[i] += before[i] / clusters_;
    after[i] = open_[i] - mean_[i];
  }
  for (std::size_t i = 0; i < kTerms; ++i)
    for (std::size_t j = 0; j < kTerms; ++j) moments_[i][j] += before[i] * after[j];
  open_ = {};
}

// `gradient`: how the estimate moves with the clusters' mean of each term.
Estimate OffPolicyEstimator::Of(double value, const Terms& gradient) const {
  if (clusters_ < 2) return {value, std::nullopt};
  double variance = 0;
  for (std::size_t i = 0; i < kTerms; ++i)
    for (std::size_t j = 0; j < kTerms; ++j)
      if (gradient[i] != 0 && gradient[j] != 0) variance += gradient[i] * gradient[j] * moments_[i][j];
  return {value, std::sqrt(std::max(variance, 0.0) / (clusters_ * (clusters_ - 1)))};
}

OffPolicyEstimates OffPolicyEstimator::Finish() const {
  OffPolicyEstimates found{.rows = rows_};
  if (rows_ == 0) return found;
  const double rows = mean_[kRows], weight = mean_[kWeight];
  const auto mean_of = [&](Term term) {
    Terms gradient{};
    gradient[term] = 1 / rows;
    gradient[kRows] = -mean_[term] / (rows * rows);
    return std::pair(mean_[term] / rows, gradient);
  };
  const auto by_weight = [&](Term term) {
    Terms gradient{};
    gradient[term] = 1 / weight;
    gradient[kWeight] = -mean_[term] / (weight * weight);
    return std::pair(mean_[term] / weight, gradient);
  };
  const auto sum = [&](std::pair<double, Terms> a, const std::pair<double, Terms>& b) {
    for (std::size_t i = 0; i < kTerms; ++i) a.second[i] += b.second[i];
    return IfFinite(Of(a.first + b.first, a.second));
  };
  const std::pair<double, Terms> nothing{};
  found.ips = sum(mean_of(kEarned), nothing);
  found.clipped_ips = sum(mean_of(kClippedEarned), nothing);
  found.dr = sum(mean_of(kModel), mean_of(kCorrection));
  if (weight > 0) {
    found.snips = sum(by_weight(kEarned), nothing);
    found.sndr = sum(mean_of(kModel), by_weight(kCorrection));
  }
  const double mean_weight = weight / rows;
  const double ess = squares_ > 0 ? static_cast<double>(rows_) * mean_weight * mean_weight / squares_ : 0;
  if (std::isfinite(ess) && std::isfinite(squares_)) found.ess = ess;
  return found;
}

RankingQuality JudgeRanking(std::vector<ScoredPair> pairs) {
  RankingQuality quality;
  std::ranges::sort(pairs, {}, &ScoredPair::score);
  quality.auc = WeightedAuc(pairs);

  // Stable: each user's pairs stay in the order of their scores.
  std::ranges::stable_sort(pairs, {}, &ScoredPair::user);
  OffPolicyEstimator users(1);  // A mean of the users' AUCs by weight is the self-normalised estimate's own form.
  for (std::size_t begin = 0; begin < pairs.size();) {
    std::size_t end = begin;
    double weight = 0;
    for (; end < pairs.size() && pairs[end].user == pairs[begin].user; ++end) weight += pairs[end].weight;
    if (const auto auc = WeightedAuc(std::span(pairs).subspan(begin, end - begin))) {
      users.Add(weight, *auc);
      users.CloseCluster();
      ++quality.users_used;
    } else {
      ++quality.users_skipped;
    }
    begin = end;
  }
  quality.gauc = users.Finish().snips;
  return quality;
}

}  // namespace fuseline
