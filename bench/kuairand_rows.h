#pragma once

#include <filesystem>

#include "fuseline/learner/scorer.h"
#include "fuseline/v1/schema.pb.h"

namespace fuseline::bench {

// KuaiRand for a scorer, apart from the learner's inside, whose names it shares.
v1::FeatureSchema KuaiRandFeatures();

// Of the log in `folder` all but the last two days, as far as their outcome was known when these began: what
// `fuseline train-scorer` learns from and looks at. Tasks are click and long view; sessions are not told apart.
ScorerRows KuaiRandRows(const ScorerFields& fields, const std::filesystem::path& folder);

}  // namespace fuseline::bench
