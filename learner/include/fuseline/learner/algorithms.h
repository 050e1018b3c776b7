#pragma once

#include <string>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/v1/config.pb.h"

namespace fuseline {

// The algorithms in this program, sorted: what learner.algorithm may name. A build without LibTorch has fewer.
std::vector<std::string> AlgorithmNames();

// Errors: kInvalidInput when learner.algorithm names none of them; the message lists all.
Status CheckAlgorithm(const v1::Config& config);

}  // namespace fuseline
