#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace fuseline {

// Working memory of RankCorrelation: keeps its size from call to call.
struct RankBuffers {
  std::vector<double> ranks;
  std::vector<std::size_t> order;
};

// Spearman's rank correlation of two scores of the same things, ties sharing their mean rank, in [-1, 1]; 1 where either ranks nothing
// (fewer than two things, or all alike). Cost: two sorts; no allocation once the buffers have grown. REQUIRES: a.size() == b.size().
double RankCorrelation(std::span<const double> a, std::span<const double> b, RankBuffers& buffers);

}  // namespace fuseline
