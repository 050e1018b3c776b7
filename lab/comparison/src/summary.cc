#include "fuseline/comparison/summary.h"

#include <algorithm>
#include <functional>
#include <map>

#include "fuseline/core/check.h"

namespace fuseline {
namespace {

using BySeed = std::map<std::uint64_t, const RunRecord*>;

template <typename Rows, typename Measure>
SeedValues ValuesOf(const Rows& runs, Measure measure) {
  SeedValues values;
  for (const auto& [seed, run] : runs) values.values.push_back(measure(*run));
  values.interval = IntervalOf(values.values);
  return values;
}

AlgorithmSummary SummariseAlgorithm(const std::string& algorithm, const BySeed& runs) {
  AlgorithmSummary summary{.algorithm = algorithm,
                           .seeds = {},
                           .mean_return = ValuesOf(runs, [](const RunRecord& run) { return run.learned.mean_return; }),
                           .valid = ValuesOf(runs, [](const RunRecord& run) { return run.learned.valid; }),
                           .watch_s = ValuesOf(runs, [](const RunRecord& run) { return run.learned.watch_s; }),
                           .regret = ValuesOf(runs, [](const RunRecord& run) { return run.regret(); }),
                           .gap_closed = ValuesOf(runs, [](const RunRecord& run) { return run.gap_closed(); }),
                           .wall_s = ValuesOf(runs, [](const RunRecord& run) { return run.wall_s; })};
  for (const auto& [seed, run] : runs) {
    summary.seeds.push_back(seed);
    summary.versions += run->versions;
    summary.versions_accepted += run->versions_accepted;
  }
  return summary;
}

ReferenceSummary SummariseReference(const BySeed& runs, const std::function<const ReturnFigures&(const RunRecord&)>& which) {
  return {.mean_return = ValuesOf(runs, [&](const RunRecord& run) { return which(run).mean_return; }),
          .valid = ValuesOf(runs, [&](const RunRecord& run) { return which(run).valid; }),
          .watch_s = ValuesOf(runs, [&](const RunRecord& run) { return which(run).watch_s; })};
}

}  // namespace

ComparisonSummary Summarise(const std::vector<RunRecord>& runs) {
  FUSELINE_CHECK(!runs.empty());
  std::map<std::string, BySeed> by_algorithm;
  BySeed any;  // The references are the same in every run of a seed.
  for (const RunRecord& run : runs) {
    FUSELINE_CHECK(by_algorithm[run.algorithm].emplace(run.seed, &run).second);
    any.emplace(run.seed, &run);
  }
  ComparisonSummary summary{.world = runs.front().world,
                            .preset = runs.front().preset,
                            .sessions = runs.front().sessions,
                            .best_is_optimal = runs.front().best_is_optimal,
                            .fixed = SummariseReference(any, [](const RunRecord& run) -> const ReturnFigures& { return run.fixed; }),
                            .best = SummariseReference(any, [](const RunRecord& run) -> const ReturnFigures& { return run.best; }),
                            .algorithms = {}};
  for (const auto& [algorithm, its_runs] : by_algorithm) summary.algorithms.push_back(SummariseAlgorithm(algorithm, its_runs));
  std::ranges::stable_sort(summary.algorithms, std::ranges::greater(),
                           [](const AlgorithmSummary& one) { return one.mean_return.interval.mean; });
  return summary;
}

std::vector<CurveSummary> SummariseCurve(const std::vector<RunRecord>& runs, const std::string& algorithm) {
  std::vector<const RunRecord*> its_runs;
  std::size_t points = SIZE_MAX;
  for (const RunRecord& run : runs) {
    if (run.algorithm != algorithm) continue;
    its_runs.push_back(&run);
    points = std::min(points, run.curve.size());
  }
  std::vector<CurveSummary> curve;
  for (std::size_t k = 0; !its_runs.empty() && k < points; ++k) {
    const auto over_seeds = [&](auto measure) {
      std::vector<double> values;
      for (const RunRecord* run : its_runs) values.push_back(measure(run->curve[k]));
      return IntervalOf(values);
    };
    curve.push_back({.sessions = over_seeds([](const CurvePoint& point) { return static_cast<double>(point.sessions); }).mean,
                     .mean_return = over_seeds([](const CurvePoint& point) { return point.figures.mean_return; }),
                     .valid = over_seeds([](const CurvePoint& point) { return point.figures.valid; }),
                     .watch_s = over_seeds([](const CurvePoint& point) { return point.figures.watch_s; }),
                     .accepted_share = over_seeds([](const CurvePoint& point) { return point.accepted_share; })});
  }
  return curve;
}

SeedValues PairedDifference(const AlgorithmSummary& a, const AlgorithmSummary& b) {
  SeedValues difference;
  for (std::size_t i = 0; i < a.seeds.size(); ++i) {
    const auto found = std::ranges::lower_bound(b.seeds, a.seeds[i]);
    if (found == b.seeds.end() || *found != a.seeds[i]) continue;
    difference.values.push_back(a.gap_closed.values[i] - b.gap_closed.values[static_cast<std::size_t>(found - b.seeds.begin())]);
  }
  if (!difference.values.empty()) difference.interval = IntervalOf(difference.values);
  return difference;
}

}  // namespace fuseline
