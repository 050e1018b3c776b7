#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "fuseline/core/status.h"

namespace fuseline {

// What a log says about a policy that did not make it, and how well a score orders what users liked: the arithmetic alone, in
// double precision, for the gate, `fuseline evaluate` and tests.

// A figure and how far it is known.
struct Estimate {
  double value = 0;
  std::optional<double> standard_error;  // Absent: fewer than two independent units.
};

// value ± 1.96 standard errors: 95 % under the normal approximation. Absent where the error is, or where it is not finite.
std::optional<std::array<double, 2>> Interval95(const Estimate& estimate);

// w = target / behaviour, unclipped. Errors: kInvalidInput: a behaviour density that is not above zero, a target density below
// zero, or either, or the ratio, not finite.
Result<double> DensityRatio(double behaviour_density, double target_density);

struct OffPolicyEstimates {
  std::uint64_t rows = 0;
  std::optional<Estimate> ips;          // mean(w r)
  std::optional<Estimate> snips;        // sum(w r) / sum(w); absent where every ratio is zero, as sndr
  std::optional<Estimate> clipped_ips;  // mean(min(w, clip) r)
  std::optional<Estimate> dr;           // mean(v + w (r - q))
  std::optional<Estimate> sndr;         // mean(v) + sum(w (r - q)) / sum(w)
  std::optional<double> ess;            // (sum w)^2 / sum w^2, rows (Kish); 0 where every ratio is zero
};

// Logged decisions → the mean reward of a decision under another policy, by importance sampling (Horvitz and Thompson's, Hajek's
// self-normalised form) and doubly robust (Dudik, Langford, Li, arXiv 1103.4601). With q = v = 0 dr is ips and sndr is snips.
//
// Standard errors: decisions of one cluster (a session, say) may depend on each other, clusters do not. Each estimate is a function
// of means over clusters; its error is the delta method's. So ips and dr are exact in expectation, snips and sndr biased by O(1/n).
// Thread-compatible. Cost: O(1) per decision, constant memory.
class OffPolicyEstimator {
 public:
  explicit OffPolicyEstimator(double clip) : clip_(clip) {}  // REQUIRES: clip > 0.

  // One decision of the open cluster: its density ratio w, what it earned, and, for dr and sndr, what a model expects of the logged
  // action (q) and of the judged policy in the same state (v). REQUIRES: all finite, ratio >= 0.
  void Add(double ratio, double reward, double q = 0, double v = 0);
  void CloseCluster();

  OffPolicyEstimates Finish() const;  // REQUIRES: no cluster is open. Absent: what has no rows, or is not finite.

 private:
  enum Term { kRows, kWeight, kEarned, kClippedEarned, kModel, kCorrection, kTerms };
  using Terms = std::array<double, kTerms>;
  Estimate Of(double value, const Terms& gradient) const;

  double clip_;
  std::uint64_t rows_ = 0;
  double squares_ = 0;  // Mean of w^2 over rows.
  Terms open_{};        // Sums of the open cluster.
  double clusters_ = 0;
  Terms mean_{};        // Over closed clusters.
  std::array<Terms, kTerms> moments_{};  // Sums of products of deviations; both halves of the symmetric matrix.
};

// A (user, item) pair that was shown, and the score by which it is ordered.
struct ScoredPair {
  std::uint64_t user = 0;
  double score = 0;
  double weight = 1;  // Finite, 0 or more.
  bool positive = false;
};

struct RankingQuality {
  std::optional<double> auc;      // Over all pairs, whoever's; absent when a class has no weight.
  std::optional<Estimate> gauc;   // sum_u w(u) AUC(u) / sum_u w(u), w(u) = the user's weights; error: users as units, delta method.
  std::size_t users_used = 0;
  std::size_t users_skipped = 0;  // With one class, or a class without weight.
};

// Weighted AUC, pooled and by user: the weighted share of (positive, negative) pairs in the right order, ties one half.
// Cost: O(n log n).
RankingQuality JudgeRanking(std::vector<ScoredPair> pairs);

}  // namespace fuseline
