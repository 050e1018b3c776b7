#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/fusion/normaliser.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/learner/scorer.h"
#include "fuseline/v1/checkpoint.pb.h"
#include "scorer/scorer_model.h"

namespace fuseline {

// What is counted of a scorer's inputs while they pass: how often each id stood in what is learned from, what came of its
// impressions as far as that is known, and mean and deviation of all numbers. By it rows become batches. Thread-compatible.
//
// A row's numbers are the schema's and, unless shape.rate_prior is 0, the past of each of its ids (PastOfId). They depend on when they
// are asked for: who learns from a row later must ask when it is shown, and keep them.
class InputStatistics {
 public:
  InputStatistics(const v1::ScorerShape& shape, std::size_t tasks);

  std::size_t rows() const { return frequency_.size(); }  // Of the table that ids are rows of.
  std::size_t numbers() const { return numbers_; }  // D, of a row.

  // Appends the row's numbers [D] by what is counted now, not normalised.
  void Numbers(const ScorerRows& rows, std::size_t row, std::vector<float>* out) const;

  // The row, with these numbers of it [D], is learned from.
  void CountInput(const ScorerRows& rows, std::size_t row, std::span<const float> numbers);
  // The row's labels are known. An id's counts are halved where float32 would end to count: the past fades.
  void CountOutcome(const ScorerRows& rows, std::size_t row);

  // Ids that stood in fewer than min_frequency rows learned from become their field's row of rare ones; numbers are normalised.
  // `numbers` [rows, D]: of the first rows; of those behind, and where it is empty, as they are now. Weights are 1.
  ScorerBatch Gather(const ScorerRows& rows, std::span<const std::size_t> which, std::span<const float> numbers = {}) const;

  // Overall rates [K].
  std::vector<float> Rates() const;

  // All that scoring needs: "frequency" [table rows], "normaliser.mean" and "normaliser.scale" [D]; with rates "seen" [table rows],
  // "outcomes" [table rows, K] and "rates" [K]; tables as PackRows has them. What is loaded scores, and counts no more.
  void Export(TensorMap* tensors) const;
  Status Import(const TensorMap& tensors);  // Errors: kCorrupt.

  // Everything that a restart needs, exactly: Export's tensors and the state. Errors of Restore: kCorrupt.
  v1::ScorerInputState Save(TensorMap* tensors) const;
  Status Restore(const v1::ScorerInputState& state, const TensorMap& tensors);

 private:
  std::span<const float> OutcomesOf(std::uint32_t id) const { return std::span(outcomes_).subspan(id * tasks_, tasks_); }
  const Normaliser& NormaliserNow() const;

  const v1::ScorerShape shape_;
  const std::size_t tasks_, numbers_;
  std::vector<std::uint32_t> first_row_;  // Of each field, [F].
  std::vector<float> frequency_;          // [table rows], as are seen_ and
  std::vector<float> seen_, outcomes_;    // [table rows, K].
  double overall_seen_ = 0;
  std::vector<double> overall_;           // [K]
  std::vector<float> loaded_rates_;       // Of an imported one.
  NormaliserStatistics statistics_;
  mutable Normaliser normaliser_;  // Of the statistics, unless `stale_`.
  mutable bool stale_ = false;
};

}  // namespace fuseline
