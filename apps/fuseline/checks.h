#pragma once

#include <string>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/v1/config.pb.h"

namespace fuseline {

// One thing that a run needs, and whether it is there.
struct CheckOutcome {
  std::string what;
  std::string found;  // When it is ok.
  Status status;
};

// State folder, disk, Kafka, topics, Redis: each is looked at, nothing is changed.
std::vector<CheckOutcome> CheckEverything(const v1::Config& config);

// Makes the topics of dead letters and of claims where they are missing. The events topic is the producers': without it,
// kNotFound.
Status MakeOwnTopics(const v1::Config& config);

}  // namespace fuseline
