#pragma once

#include <cstdint>
#include <filesystem>

#include "demo_report.h"
#include "fuseline/core/status.h"
#include "fuseline/fusion/scorer_network.h"
#include "fuseline/simulator/world.h"
#include "fuseline/v1/config.pb.h"

namespace fuseline {

// What the world says of the hand-set weights, of `version` in the archive (0: the hand-set weights again) and of the
// best fixed powers; with a scorer, the first two by its scores too. Cost: some seconds.
Result<PolicyValues> MeasurePolicies(const World& world, const v1::Config& config, const std::filesystem::path& archive,
                                     std::uint64_t version, const ScorerNetwork* scorer);

}  // namespace fuseline
