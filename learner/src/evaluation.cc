#include "evaluation.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>
#include <span>

namespace fuseline {
namespace {

constexpr double kMinWeight = 0.01;

double WeightOf(const ScoredPair& pair) { return std::max(pair.reward, 0.0) + kMinWeight; }

// Weighted AUC of pairs sorted by score; absent when a class has no weight.
std::optional<double> WeightedAuc(std::span<const ScoredPair> sorted) {
  double positives = 0, negatives = 0, won = 0;
  for (std::size_t i = 0; i < sorted.size();) {
    double tied_positive = 0, tied_negative = 0;
    std::size_t next = i;
    for (; next < sorted.size() && sorted[next].score == sorted[i].score; ++next)
      (sorted[next].positive ? tied_positive : tied_negative) += WeightOf(sorted[next]);
    won += tied_positive * (negatives + tied_negative / 2);
    positives += tied_positive;
    negatives += tied_negative;
    i = next;
  }
  if (positives == 0 || negatives == 0) return std::nullopt;
  return won / (positives * negatives);
}

}  // namespace

GaucResult MtfGauc(std::vector<ScoredPair> pairs) {
  std::ranges::stable_sort(pairs, [](const ScoredPair& a, const ScoredPair& b) {
    return std::pair(a.user, a.score) < std::pair(b.user, b.score);
  });
  GaucResult result;
  double sum = 0, weights = 0;
  for (std::size_t begin = 0; begin < pairs.size();) {
    std::size_t end = begin;
    double weight = 0;
    for (; end < pairs.size() && pairs[end].user == pairs[begin].user; ++end) weight += WeightOf(pairs[end]);
    if (const auto auc = WeightedAuc(std::span(pairs).subspan(begin, end - begin))) {
      sum += weight * *auc;
      weights += weight;
      ++result.users;
    } else {
      ++result.skipped_users;
    }
    begin = end;
  }
  result.value = weights > 0 ? sum / weights : 0;
  return result;
}

NcisResult Ncis(const std::vector<LoggedRequest>& requests, double bandwidth, double cap) {
  std::vector<double> ratio;
  for (const LoggedRequest& request : requests)
    ratio.push_back(-request.squared_distance / (2 * bandwidth * bandwidth) - request.log_density);
  const double largest = *std::ranges::max_element(ratio);
  for (double& value : ratio) value = std::exp(value - largest);
  const double mean = std::accumulate(ratio.begin(), ratio.end(), 0.0) / static_cast<double>(ratio.size());

  NcisResult result;
  double sum = 0, squares = 0, earned = 0, capped = 0;
  for (std::size_t i = 0; i < ratio.size(); ++i) {
    capped += ratio[i] > cap * mean ? 1 : 0;
    ratio[i] = std::min(ratio[i] / mean, cap);
    sum += ratio[i];
    squares += ratio[i] * ratio[i];
    earned += ratio[i] * requests[i].reward;
  }
  result.value = earned / sum;
  result.effective = sum * sum / squares;
  result.capped_share = capped / static_cast<double>(ratio.size());

  // The ratio estimator, linearised; requests of a session are not independent, sessions are.
  std::map<std::size_t, double> residual;
  for (std::size_t i = 0; i < ratio.size(); ++i)
    residual[requests[i].session] += ratio[i] * (requests[i].reward - result.value);
  double variance = 0;
  for (const auto& [session, value] : residual) variance += value * value;
  result.lower = result.value - 1.645 * std::sqrt(variance) / sum;
  return result;
}

}  // namespace fuseline
