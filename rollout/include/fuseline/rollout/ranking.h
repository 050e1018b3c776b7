#pragma once

#include <span>
#include <vector>

namespace fuseline {

// Spearman's rank correlation of two scores of the same things, ties sharing their mean rank, in [-1, 1]; 1 where either ranks nothing
// (fewer than two things, or all alike). `ranks`: working memory that keeps its size. Cost: two sorts. REQUIRES: a.size() == b.size().
double RankCorrelation(std::span<const double> a, std::span<const double> b, std::vector<double>& ranks);

}  // namespace fuseline
