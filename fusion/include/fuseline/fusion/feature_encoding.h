#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/v1/event.pb.h"
#include "fuseline/v1/schema.pb.h"

namespace fuseline {

// Whether no value is infinite or NaN. Looks at all of them, several at a time.
bool AllFinite(std::span<const float> values);

// Values of one scope, in schema order; borrowed.
struct FeatureView {
  std::span<const float> dense;
  std::span<const std::uint64_t> ids;
};
FeatureView ViewOf(const v1::Features& features);

// One candidate: its features, and its k task scores.
struct CandidateView {
  FeatureView features;
  std::span<const float> task_scores;
};
CandidateView ViewOf(const v1::ExposedItem& item);

// Features → columns of the policy's input, spelled once for learner and ranker.
//
// A state is [shared | item]: the shared columns (user, then context) are the same for all candidates of a request, so
// that a ranker computes their part of the first layer once; the item columns end with the k task scores, each clamped
// to its task's range. A dense feature takes `width` columns, a categorical one `buckets` one-hot columns
// (id hashed by one round of SplitMix64, modulo buckets).
// Pure and immutable; thread-safe. Cost: O(columns).
class FeatureEncoder {
 public:
  explicit FeatureEncoder(const v1::FeatureSchema& schema);  // REQUIRES: ValidateSchema is ok.

  std::size_t shared_width() const { return user_.columns + context_.columns; }
  std::size_t item_width() const { return item_.columns + tasks_.size(); }
  std::size_t state_width() const { return shared_width() + item_width(); }
  std::size_t task_count() const { return tasks_.size(); }
  std::size_t action_width() const { return 2 * tasks_.size(); }  // D: k powers, then k biases.

  // True for the columns that the normaliser may shift and scale: all but one-hot ones. [state_width]
  const std::vector<bool>& scalable_columns() const { return scalable_columns_; }

  // Errors: kInvalidInput when a number of values disagrees with the schema or a value is not finite (a scope without
  // any value takes the schema's defaults); `out` is then unspecified. REQUIRES: out has the width named.
  Status EncodeShared(const FeatureView& user, const FeatureView& context, std::span<float> out) const;
  Status EncodeItem(const CandidateView& item, std::span<float> out) const;

  // Cuts scores to their tasks' ranges, as EncodeItem does; whoever fuses scores must do it first. Returns how many
  // were outside. REQUIRES: k finite values.
  std::size_t ClampTaskScores(std::span<float> task_scores) const;

 private:
  struct Run {
    bool categorical;     // Of one id; else of dense features that follow one another.
    std::uint32_t width;  // Columns.
  };
  struct Scope {
    std::vector<Run> runs;
    std::size_t dense = 0, ids = 0;  // Values expected.
    std::size_t columns = 0;         // Columns made of them,
    std::vector<float> absent;       // and what they are when no value is there.
  };
  struct TaskRange {
    float min, max;
  };
  static Status EncodeScope(const Scope& scope, const FeatureView& values, std::span<float> out);

  Scope user_, context_, item_;
  std::vector<TaskRange> tasks_;
  std::vector<bool> scalable_columns_;
};

}  // namespace fuseline
