#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "fuseline/core/guarded.h"
#include "fuseline/learner/learner.h"
#include "fuseline/sessionizer/sessionizer.h"
#include "publication.h"

namespace fuseline {

// How far a finite input has been read, in any unit; total 0: unknown.
struct InputProgress {
  double done = 0;
  double total = 0;
};

// The folders of one state.
struct StateFolders {
  explicit StateFolders(std::filesystem::path root);
  std::filesystem::path root, sessions, learner, versions, scorers;
  // The archive of a policy's versions: `scorers` where it is that of a scorer (policy_keys.h), else `versions`.
  const std::filesystem::path& ArchiveOf(const std::string& policy) const;
};

// One partition, as the sessionizer's last commit left it.
struct PartitionStatus {
  std::int64_t next_offset = 0;
  std::int64_t stream_time_ms = 0;
  std::uint64_t open_sessions = 0;
  v1::Accounting accounting;
};

PartitionStatus StatusOf(const PartitionPosition& position);

// The three numbers and what stands behind them. A process that holds only some of the stages leaves the rest empty.
struct PipelineStatus {
  std::map<std::int32_t, PartitionStatus> partitions;  // Read here now.
  InputProgress input;
  std::uint64_t ingested = 0;      // Records that ingest has handed on, committed or not.
  bool idle = false;               // All that was read is learned from, as far as the merge order allows.
  bool offering = false;           // What was committed is on its way to the learner.
  std::set<std::int32_t> ahead;    // Partitions of which the learner takes no more until others catch up.
  std::set<std::int32_t> full;     // Partitions whose outbox is full: their source waits.
  std::map<std::int32_t, std::string> stopped;  // Partitions that the learner does not go on with, and why. Somebody must act.
  LearnerProgress learner;
  std::map<std::int32_t, v1::TrajectoryName> learned_names;  // By the last checkpoint.
  std::string weights_sha256;      // Only after the run.
  PublicationStatus publication;
  std::optional<PublicationStatus> scorer_publication;  // None: scorer.learn is false.

  v1::Accounting accounting() const;  // Over all partitions.
  // Closed sessions that the learner has neither merged nor holds until the merge order allows it.
  std::uint64_t learner_backlog() const;
  // How far each partition's stream time is behind the latest; none for one that never had an event, and where none had.
  std::map<std::int32_t, std::optional<std::int64_t>> stream_time_lags_ms() const;
  // The partition that holds the clock back: the one that is furthest behind, while closed sessions wait to be merged.
  std::optional<std::int32_t> waits_for_partition() const;
};

// What the stages of a process tell each other and whoever looks at them.
using StatusBoard = Guarded<PipelineStatus>;

}  // namespace fuseline
