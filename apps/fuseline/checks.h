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

// What a process does of the whole.
enum class Role { kRun, kSessionize, kLearn };

// State folder, disk, Kafka, topics, Redis, as far as `role` uses them: each is looked at, nothing is changed.
std::vector<CheckOutcome> CheckEverything(const v1::Config& config, Role role);

// Whether the events topic keeps what sessions need: cleanup.policy=delete, and retention beyond a session's longest life and the
// longest outage. What it risks otherwise is logged.
// Errors: kInvalidInput, naming the topic's setting; kNotFound; kUnavailable.
Status CheckEventsTopic(const v1::Config& config, Log& log);

// Makes a topic of our own (dead letters, claims) where it is missing. The events topic is the producers' to make.
Status MakeTopicUnlessThere(const v1::Config& config, const std::string& topic);

// Makes the topic of trajectories where it is missing, with as many partitions as the events topic, kept for ever: how long
// learners may be away is for whoever lowers retention.ms to know.
// Errors: kInvalidInput if it is there with another number of partitions, or takes no message as large as a trajectory may be.
Status MakeTrajectoriesTopic(const v1::Config& config);

}  // namespace fuseline
