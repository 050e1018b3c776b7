#pragma once

#include <cstdint>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/kafka/connection.h"
#include "fuseline/v1/config.pb.h"
#include "fuseline/v1/event.pb.h"
#include "fuseline/v1/policy.pb.h"
#include "fuseline/v1/trajectory.pb.h"

namespace fuseline {

// Where a trajectory's events are.
struct TrajectoryLog {
  std::vector<std::string> files;  // Empty: the events topic.
  kafka::StartPosition from;       // Of the topic: where to begin when sessions are built again.
};

struct FoundTrajectory {
  v1::Trajectory trajectory;
  std::string where;  // In words: which of the ways found it.
};

// The trajectory of this name: from the outbox of the state folder, else from the topic of trajectories, else built
// again from the log, in a temporary folder: the same log gives the same names. A state folder is only looked at,
// also beside its owner. Sessions that began before the place where the log is read from come out incomplete; then
// names may differ. Errors: kNotFound when none of these has it; kUnavailable, also when a stop was asked for; those
// of the log.
Result<FoundTrajectory> FindTrajectory(const v1::Config& config, const TrajectoryLog& log,
                                       const v1::TrajectoryName& name, const std::stop_token& stop);

// An event as it lies in the log.
struct LoggedEvent {
  std::int64_t offset = 0;
  v1::Event event;
};

// The events of the trajectory's user between its first and its last one, up to the record that closed it, by (time,
// offset). Repeats and what came too late are among them. Errors: those of the log.
Result<std::vector<LoggedEvent>> EventsOf(const v1::Config& config, const TrajectoryLog& log,
                                          const v1::Trajectory& trajectory, const std::stop_token& stop);

// The oldest version in the archive whose lineage covers the name.
struct LearnedBy {
  std::uint64_t version = 0;
  std::string rewards_sha256;  // Hex; empty in versions that do not say.
  bool accepted = false;
  bool is_oldest_kept = false;  // Older ones, which may have covered it too, are pruned.
};
// Absent: not learned yet, as far as the archive tells. Errors: those of the archive.
Result<std::optional<LearnedBy>> FindLearner(const v1::Config& config, const v1::TrajectoryName& name);

}  // namespace fuseline
