#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fuseline/comparison/interval.h"
#include "fuseline/comparison/run_record.h"

namespace fuseline {

// One measure of one algorithm over its seeds.
struct SeedValues {
  std::vector<double> values;  // By seed, ascending.
  MeanInterval interval;
};

// One algorithm of a comparison. The unit of every interval is the seed.
struct AlgorithmSummary {
  std::string algorithm;
  std::vector<std::uint64_t> seeds;  // Ascending.
  SeedValues mean_return, valid, watch_s, regret, gap_closed, wall_s;
  std::uint64_t versions = 0, versions_accepted = 0;  // Sums over the seeds.
};

// A measure of the curves at the k-th point, over the seeds that have one there.
struct CurveSummary {
  double sessions = 0;  // Mean over the seeds: points are due at the same counts, and come with the first turn after.
  MeanInterval mean_return, valid, watch_s, accepted_share;
};

// The reference policies of the same judgement: static weights and the world's best.
struct ReferenceSummary {
  SeedValues mean_return, valid, watch_s;
};

struct ComparisonSummary {
  std::string world, preset;
  std::uint64_t sessions = 0;
  bool best_is_optimal = false;
  ReferenceSummary fixed, best;
  std::vector<AlgorithmSummary> algorithms;  // By mean return, the best first.
};

// Finished runs of one comparison → what its tables say. Runs may be fewer than asked for; an algorithm without any is absent.
// REQUIRES: at least one run; of one world, preset and number of sessions; each (algorithm, seed) once.
ComparisonSummary Summarise(const std::vector<RunRecord>& runs);

// The curve of an algorithm over its seeds. Points that not every seed has are left out.
std::vector<CurveSummary> SummariseCurve(const std::vector<RunRecord>& runs, const std::string& algorithm);

// The paired difference a - b of the gap closed, over the seeds that both have; empty values where there are none.
SeedValues PairedDifference(const AlgorithmSummary& a, const AlgorithmSummary& b);

}  // namespace fuseline
