#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/fusion/normaliser.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/learner/scorer.h"
#include "scorer/scorer_model.h"

namespace fuseline {

// What is counted of a scorer's inputs while they pass: how often each id was seen, and mean and deviation of the
// dense values. By it rows become batches. Thread-compatible.
class InputStatistics {
 public:
  explicit InputStatistics(const v1::ScorerShape& shape);

  void Observe(const ScorerRows& rows, std::size_t row);

  // Ids seen in fewer than min_frequency rows become their field's row of rare ones; dense values are normalised.
  // Weights are 1.
  ScorerBatch Gather(const ScorerRows& rows, std::span<const std::size_t> which) const;

  std::size_t table_rows() const { return seen_.size(); }

  // "seen" [table rows] (counts, exact up to 2^24, where they stay), "normaliser.mean" and "normaliser.scale" [W]:
  // all that scoring needs. Of a loaded one the normaliser stands still.
  void Export(TensorMap* tensors) const;
  Status Import(const TensorMap& tensors);  // Errors: kCorrupt.

 private:
  std::uint32_t min_frequency_;
  std::vector<std::uint32_t> first_row_;  // Of each field, [F].
  std::vector<std::uint32_t> seen_;
  NormaliserStatistics statistics_;
  mutable Normaliser normaliser_;  // Of the statistics, unless `stale_`.
  mutable bool stale_ = false;
};

}  // namespace fuseline
