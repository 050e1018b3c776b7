#include "fuseline/fusion/scorer_inputs.h"

#include <cmath>

#include "fuseline/core/random.h"

namespace fuseline {
namespace {

double Logit(double p) { return std::log(p / (1 - p)); }

}  // namespace

std::uint32_t ScorerRowOf(std::uint32_t first_row, std::uint32_t buckets, std::uint64_t id) {
  return first_row + 1 + static_cast<std::uint32_t>(Random::FromState(id).NextU64() % buckets);
}

std::size_t ScorerNumbers(const v1::ScorerShape& shape, std::size_t tasks) {
  const std::size_t fields = shape.rate_prior() > 0 ? static_cast<std::size_t>(shape.buckets_size()) : 0;
  return shape.dense_width() + fields * (tasks + 1);
}

void PastOfId(double seen, std::span<const float> outcomes, std::span<const float> rates, double prior, float* out) {
  for (std::size_t k = 0; k < rates.size(); ++k) {
    const double rate = rates[k];
    *out++ = static_cast<float>(Logit((outcomes[k] + prior * rate) / (seen + prior)) - Logit(rate));
  }
  *out = static_cast<float>(seen / (seen + prior));
}

}  // namespace fuseline
