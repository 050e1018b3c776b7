#pragma once

#include <string>
#include <vector>

#include "fuseline/comparison/run_record.h"
#include "fuseline/comparison/summary.h"

namespace fuseline {

// The curves of a comparison as one SVG: mean return, valid consumption, watch time and share of accepted versions over finished
// sessions, exploration included; per algorithm the mean over the seeds, its 95 % interval as a band, and each seed as a thin
// line. The return's panel has the judged returns of static weights and best policy as dashed lines.
std::string CurvesSvg(const std::vector<RunRecord>& runs, const ComparisonSummary& summary);

// The judgement as one SVG: per algorithm the gap closed with its interval, and each seed as a dot.
std::string GapClosedSvg(const ComparisonSummary& summary);

}  // namespace fuseline
