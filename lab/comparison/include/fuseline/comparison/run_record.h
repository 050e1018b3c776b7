#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fuseline/core/status.h"

namespace fuseline {

// What users did, in means. `mean_return` is the reward of a session as `rewards` weighs it.
struct ReturnFigures {
  std::uint64_t sessions = 0;
  double mean_return = 0;
  double valid = 0;    // Valid consumptions a session.
  double watch_s = 0;  // Seconds watched a session.
  double requests = 0;  // Requests a session.
};

// The loop while it learns, exploration included: what happened since the point before.
struct CurvePoint {
  std::uint64_t sessions = 0;      // Finished since the beginning of the run.
  ReturnFigures figures;           // Of those since the point before.
  double accepted_share = 0;       // Of the versions made since the beginning; 0 while there is none.
  std::uint64_t versions = 0;      // Made since the beginning.
};

// One closed loop of one algorithm with one seed: what is compared, and what it was made from.
//
// Where: written by `fuseline compare` at the end of a run, read by it for tables, curves and resumption. A value.
struct RunRecord {
  std::string world, algorithm, preset;
  std::uint64_t seed = 0;
  std::uint64_t sessions = 0;      // Asked for.
  std::string settings_digest;     // Hex, over everything that shapes the run; the same for all runs of a comparison.
  std::string build;

  std::vector<CurvePoint> curve;

  // The judgement: users and draws that training never saw, the same for every algorithm of a seed, nothing explored.
  ReturnFigures learned, fixed, best;
  bool best_is_optimal = false;
  // Where that policy stands: mean and standard deviation of each dimension of its action over judged users and candidates, in
  // powers and biases; empty while the static weights serve. Tells a policy that moved from one that learned who wants what.
  std::vector<double> action_mean, action_deviation;

  std::uint64_t versions = 0, versions_accepted = 0, live_version = 0;  // live: that which was judged; 0: the static weights.
  std::uint64_t transitions = 0, steps = 0;
  std::string weights_sha256;      // Of the learner's networks at the end.
  double wall_s = 0;               // Of the loop, without the judgement. The one field that two equal runs differ in.

  double regret() const { return best.mean_return - learned.mean_return; }
  // (ours - static) / (best - static); 0 where nothing is between them.
  double gap_closed() const;
};

// One JSON object, keys sorted, numbers in the shortest form that reads back the same.
std::string PrintRunRecord(const RunRecord& record);
// Errors: kCorrupt for anything that PrintRunRecord did not write.
Result<RunRecord> ParseRunRecord(std::string_view json);

}  // namespace fuseline
