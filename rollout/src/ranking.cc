#include "fuseline/rollout/ranking.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

namespace fuseline {
namespace {

void RanksOf(std::span<const double> scores, std::vector<std::size_t>& order, std::span<double> ranks) {
  order.resize(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return scores[a] < scores[b]; });
  for (std::size_t begin = 0; begin < order.size();) {
    std::size_t end = begin;
    while (end < order.size() && scores[order[end]] == scores[order[begin]]) ++end;
    const double shared = (static_cast<double>(begin) + static_cast<double>(end - 1)) / 2;
    for (; begin < end; ++begin) ranks[order[begin]] = shared;
  }
}

}  // namespace

double RankCorrelation(std::span<const double> a, std::span<const double> b, RankBuffers& buffers) {
  const std::size_t n = a.size();
  buffers.ranks.resize(2 * n);
  const auto of_a = std::span(buffers.ranks).first(n), of_b = std::span(buffers.ranks).last(n);
  RanksOf(a, buffers.order, of_a);
  RanksOf(b, buffers.order, of_b);
  const double mean = (static_cast<double>(n) - 1) / 2;
  double ab = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < n; ++i) {
    ab += (of_a[i] - mean) * (of_b[i] - mean);
    aa += (of_a[i] - mean) * (of_a[i] - mean);
    bb += (of_b[i] - mean) * (of_b[i] - mean);
  }
  return aa > 0 && bb > 0 ? std::clamp(ab / std::sqrt(aa * bb), -1.0, 1.0) : 1.0;
}

}  // namespace fuseline
