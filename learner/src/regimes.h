#pragma once

#include <cstddef>
#include <string>

#include "algorithm.h"
#include "fuseline/v1/config.pb.h"
#include "fuseline/v1/policy.pb.h"

namespace fuseline {

// Of one learner; beyond, the oldest are no longer listed.
inline constexpr std::size_t kRegimesMax = 64;

// What a learner computes under, but for where it begins.
v1::Regime RegimeOf(const v1::Config& config, const std::string& build, const ComputeFacts& facts);

bool SameConditions(const v1::Regime& a, const v1::Regime& b);  // Wherever they begin.

}  // namespace fuseline
