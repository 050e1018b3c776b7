#pragma once

#include <string>
#include <vector>

#include "scorer_run.h"

namespace fuseline {

// What rates alone reach on the same test rows: the smoothed ones of `import kuairand`, or constant ones.
struct RatesFigures {
  std::string name;
  TaskTable frozen, progressive;
};

// Trainings beside each other, as Markdown: of each backbone and weighting AUC, log loss and session-averaged log
// loss of each task on the test days, mean over seeds with its 95 % interval (Student), frozen and progressive;
// its difference to the rates; and of each weighting the difference, seed by seed, to the same backbone
// without (weights none), bold where the interval does not hold 0.
std::string ScorerMarkdown(const std::vector<ScorerResult>& results, const RatesFigures& rates);

// The same figures, seed by seed.
std::string ScorerJson(const std::vector<ScorerResult>& results, const RatesFigures& rates);

}  // namespace fuseline
