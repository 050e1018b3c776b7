#pragma once

#include <cstdint>
#include <string>

#include "fuseline/rollout/judgement.h"
#include "fuseline/v1/rollout.pb.h"

namespace fuseline {

// How an experiment stands, for people; and the same as one JSON object.
std::string ExperimentText(const v1::Experiment& experiment, const v1::ExperimentTotals& totals, const Judgement& judgement,
                           const v1::Rollout& rule);
// `left_out`: sessions that no experiment's figures have.
std::string ExperimentJson(const v1::Experiment& experiment, const v1::ExperimentTotals& totals, const Judgement& judgement,
                           std::uint64_t left_out);

// Where a user stands in it, and why. A line of text.
std::string PlacementText(const v1::Experiment& experiment, const std::string& user_id);

}  // namespace fuseline
