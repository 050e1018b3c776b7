#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "fuseline/v1/scorer.pb.h"

namespace fuseline {

// What a scorer makes of ids and of what is known of their past, spelled once for whoever learns and whoever serves.

// The row of an id in the table of all fields' rows: one round of SplitMix64, as FeatureEncoder hashes. A field has its
// buckets and, first, one row more for ids that are too rare to have one of their own. REQUIRES: buckets > 0.
std::uint32_t ScorerRowOf(std::uint32_t first_row, std::uint32_t buckets, std::uint64_t id);

// How wide a row of numbers is: the schema's, and of each id field the tasks' rates and how often it was seen.
std::size_t ScorerNumbers(const v1::ScorerShape& shape, std::size_t tasks);

inline constexpr double kScorerRateMin = 1e-6;  // Overall rates lie in [this, 1 - this].

// Of an id that was seen `seen` times and of whose impressions `outcomes` [K] came, in a world of overall `rates` [K]:
// logit((outcomes_k + prior rates_k) / (seen + prior)) - logit(rates_k) for each k, then seen / (seen + prior), which a clock cannot drive on and on; `out` [K + 1].
// REQUIRES: prior > 0, 0 <= outcomes_k <= seen.
void PastOfId(double seen, std::span<const float> outcomes, std::span<const float> rates, double prior, float* out);

}  // namespace fuseline
