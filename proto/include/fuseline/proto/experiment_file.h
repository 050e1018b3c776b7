#pragma once

#include <string>

#include "fuseline/core/status.h"
#include "fuseline/v1/rollout.pb.h"

namespace fuseline {

// An experiment file: YAML with the fields of Experiment (rollout.proto) that people decide, and no others; state, revision and history
// are made. `file` is the name that messages carry.
// Errors: kInvalidInput naming file, line and key. Whether it can be an experiment is asked of ValidateExperiment.
Result<v1::Experiment> ReadExperimentFile(const std::string& file, const std::string& text);

}  // namespace fuseline
