#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "fuseline/core/status.h"

namespace fuseline {

// Which users meet which arm, by GrowthBook's rules (docs.growthbook.io, "Building your own SDK"), so that its tools agree with us.
// Pure functions of their arguments, the same on every machine and for ever; thread-safe; no allocation but where a vector is returned.

// GrowthBook's hash, by its version number. fnv is the 32-bit FNV-1a of the bytes.
enum class HashVersion : std::uint8_t {
  kOne = 1,  // fnv(user + salt) mod 1,000 / 1,000. For experiments begun elsewhere: similar salts give similar buckets.
  kTwo = 2,  // fnv(decimal(fnv(salt + user))) mod 10,000 / 10,000.
};
Result<HashVersion> HashVersionOf(std::int64_t number);  // Errors: kInvalidInput unless 1 or 2.

// How many places a bucket has: 1,000 or 10,000.
std::uint32_t BucketCountOf(HashVersion version);

// A user's place in [0, 1); another salt shuffles the users anew.
double BucketOf(std::string_view user_id, std::string_view salt, HashVersion version);

// Buckets [begin, end).
struct BucketRange {
  double begin = 0;
  double end = 0;
  bool Holds(double bucket) const { return bucket >= begin && bucket < end; }
};

// Arm i holds [cum_i, cum_i + coverage x weight_i), cum_i being the sum of the weights before it. So a coverage that grows lets users
// into the arms and moves none out of one. Weights may miss the sum of 1 by 0.01, as in GrowthBook; where that would
// fall back on equal weights, we refuse.
// Errors: kInvalidInput for a negative weight, another sum, no weight at all, or a coverage outside [0, 1].
Result<std::vector<BucketRange>> BucketRangesOf(std::span<const double> weights, double coverage);

inline constexpr int kNoArm = -1;  // Not in the experiment.

// The first arm whose range holds the bucket, or kNoArm.
int ArmOfBucket(double bucket, std::span<const BucketRange> ranges);

// Whether a user is in [begin, end) of a namespace: experiments with disjoint parts of one namespace never share a user.
bool IsInNamespace(std::string_view user_id, std::string_view name, const BucketRange& part);

}  // namespace fuseline
