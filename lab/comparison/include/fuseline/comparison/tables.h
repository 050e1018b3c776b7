#pragma once

#include <string>
#include <vector>

#include "fuseline/comparison/run_record.h"
#include "fuseline/comparison/summary.h"

namespace fuseline {

// The Markdown of a comparison: one row per algorithm, the best first, under the world's best policy and above the static weights;
// every measure with its 95 % interval over the seeds; each seed's gap closed; then the paired differences.
std::string MarkdownOf(const ComparisonSummary& summary);

// One row per run: algorithm, seed, judged figures, regret, gap closed, wall time.
std::string RunsCsv(const std::vector<RunRecord>& runs);

// One row per run and curve point.
std::string CurvesCsv(const std::vector<RunRecord>& runs);

}  // namespace fuseline
