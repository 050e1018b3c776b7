#include "fuseline/rollout/assignment.h"

#include <cmath>
#include <string>

namespace fuseline {
namespace {

constexpr std::uint32_t kFnvBasis = 2'166'136'261U;
constexpr std::uint32_t kFnvPrime = 16'777'619U;
constexpr double kSumTolerance = 0.01;

std::uint32_t Fnv1a32(std::uint32_t hash, std::string_view text) {
  for (const char byte : text) hash = (hash ^ static_cast<unsigned char>(byte)) * kFnvPrime;
  return hash;
}

double BucketOfHash(std::uint32_t hash, HashVersion version) {
  const std::uint32_t count = BucketCountOf(version);
  return static_cast<double>(hash % count) / count;
}

}  // namespace

Result<HashVersion> HashVersionOf(std::int64_t number) {
  if (number == 1) return HashVersion::kOne;
  if (number == 2) return HashVersion::kTwo;
  return Error(Code::kInvalidInput, "hash version must be 1 or 2, it is", number);
}

std::uint32_t BucketCountOf(HashVersion version) { return version == HashVersion::kOne ? 1'000 : 10'000; }

double BucketOf(std::string_view user_id, std::string_view salt, HashVersion version) {
  if (version == HashVersion::kOne) return BucketOfHash(Fnv1a32(Fnv1a32(kFnvBasis, user_id), salt), version);
  const std::uint32_t first = Fnv1a32(Fnv1a32(kFnvBasis, salt), user_id);
  return BucketOfHash(Fnv1a32(kFnvBasis, std::to_string(first)), version);
}

Result<std::vector<BucketRange>> BucketRangesOf(std::span<const double> weights, double coverage) {
  if (!(coverage >= 0.0 && coverage <= 1.0)) return Error(Code::kInvalidInput, "coverage must be in [0, 1], it is", coverage);
  if (weights.empty()) return Error(Code::kInvalidInput, "weights are missing");
  std::vector<BucketRange> ranges;
  double sum = 0;  // In GrowthBook's order of additions: the ends are the same doubles.
  for (const double weight : weights) {
    if (!(weight >= 0.0 && weight <= 1.0)) return Error(Code::kInvalidInput, "a weight must be in [0, 1], it is", weight);
    ranges.push_back({sum, sum + coverage * weight});
    sum += weight;
  }
  if (std::abs(sum - 1.0) > kSumTolerance) return Error(Code::kInvalidInput, "weights must sum to 1, they sum to", sum);
  return ranges;
}

int ArmOfBucket(double bucket, std::span<const BucketRange> ranges) {
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    if (ranges[i].Holds(bucket)) return static_cast<int>(i);
  }
  return kNoArm;
}

bool IsInNamespace(std::string_view user_id, std::string_view name, const BucketRange& part) {
  // hash("__" + name, user, version 1), whose bytes are user, then seed.
  const std::uint32_t hash = Fnv1a32(Fnv1a32(Fnv1a32(kFnvBasis, user_id), "__"), name);
  return part.Holds(BucketOfHash(hash, HashVersion::kOne));
}

}  // namespace fuseline
