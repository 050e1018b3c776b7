#pragma once

#include <string>
#include <vector>

#include "fuseline/core/log.h"
#include "fuseline/core/status.h"
#include "fuseline/v1/config.pb.h"

namespace fuseline {

// One thing that a run needs, and whether it is there.
struct CheckOutcome {
  std::string what;
  std::string found;  // When it is ok.
  Status status;
  std::vector<std::string> doubts;  // It may do, and somebody should know what it risks.
};

// State folder, disk, Kafka, topics, Redis: each is looked at, nothing is changed.
std::vector<CheckOutcome> CheckEverything(const v1::Config& config);

// Whether the events topic keeps what sessions need: cleanup.policy=delete, and retention beyond a session's longest life and the
// longest outage. What it risks otherwise is logged.
// Errors: kInvalidInput, naming the topic's setting; kNotFound; kUnavailable.
Status CheckEventsTopic(const v1::Config& config, Log& log);

// Makes a topic of our own (dead letters, claims) where it is missing. The events topic is the producers' to make.
Status MakeTopicUnlessThere(const v1::Config& config, const std::string& topic);

}  // namespace fuseline
