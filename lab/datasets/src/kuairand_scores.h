#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <vector>

#include "fuseline/datasets/kuairand.h"
#include "kuairand_log.h"

namespace fuseline {

using KuaiRandScores = std::array<float, kKuaiRandTasks>;

// What came of a row, by task: 0 or 1; seconds watched, at most 600.
KuaiRandScores OutcomesOf(const KuaiRandRow& row);

// The task scores of each row, from rows alone whose feedback was complete strictly before its time.
//
// Of each task: rate r of the past overall; of user, item and tab r_s = (successes + m_s r) / (impressions + m_s); and
//   logit(score) = logit(r) + sum_s (logit(r_s) - logit(r))
// the odds that independent witnesses would add up to. Watch seconds (at most 600) do the same with logarithms.
// Nothing is learned of feedback that was complete at `until_ms` or later.
// REQUIRES: rows in time order. Cost: O(n log n).
std::vector<KuaiRandScores> ScoreFromThePast(const std::vector<KuaiRandRow>& rows, const ProgressFunction& progress,
                                             std::int64_t until_ms = std::numeric_limits<std::int64_t>::max());

// Area under the ROC curve, ties counting one half; -1 where a class is missing.
double RocArea(std::vector<std::pair<float, bool>> scored);

}  // namespace fuseline
