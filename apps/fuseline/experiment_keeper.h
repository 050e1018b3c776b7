#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "fuseline/core/status.h"
#include "fuseline/fusion/policy_keys.h"
#include "fuseline/redis/connection.h"
#include "fuseline/v1/rollout.pb.h"
#include "publication.h"

namespace fuseline {

// Experiments outlive what happens to Redis: as far as each was ever seen to go, it lies in FOLDER/experiments.pb, beside the archive. One that
// Redis has lost, or holds as it was at an earlier time (a failover to a replica that was behind, an old dump), or in bytes that nobody can
// read, is written again. One thread; one process owns the folder.
class ExperimentKeeper {
 public:
  // What an earlier process kept. Errors: kCorrupt if the file cannot be read.
  static Result<ExperimentKeeper> Open(const std::filesystem::path& folder);

  // Keeps what Redis holds, and brings back what it lost. One round trip when nothing changed.
  // Errors: those of the connection and the disk; kConflict from a newer writer, or of somebody who changed one meanwhile: call again.
  Status Follow(RedisConnection& redis, const PolicyKeys& keys, std::uint64_t epoch, std::int64_t changes_kept, Instruments instruments);

  // Whether a guardrail has paused an experiment that compares `live` with something, as of the last Follow.
  bool doubts_live() const;

 private:
  explicit ExperimentKeeper(std::filesystem::path file) : file_(std::move(file)) {}

  std::filesystem::path file_;
  v1::ExperimentList kept_;  // By name.
  std::map<std::string, std::string> unknown_;  // In Redis, not readable, and not known here: as of the last Follow.
};

}  // namespace fuseline
