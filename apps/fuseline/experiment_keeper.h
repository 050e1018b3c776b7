#pragma once

#include <cstdint>
#include <filesystem>

#include "fuseline/core/status.h"
#include "fuseline/fusion/policy_keys.h"
#include "fuseline/redis/connection.h"
#include "fuseline/v1/rollout.pb.h"
#include "publication.h"

namespace fuseline {

// Experiments outlive what happens to Redis: those last seen there lie in FOLDER/experiments.pb, beside the archive, and are written again
// where Redis holds none any more. One thread; one process owns the folder.
class ExperimentKeeper {
 public:
  // What an earlier process kept. Errors: kCorrupt if the file cannot be read.
  static Result<ExperimentKeeper> Open(const std::filesystem::path& folder);

  // Keeps what Redis holds, or brings back what it lost. One round trip when nothing changed.
  // Errors: those of the connection and the disk; kConflict from a newer writer.
  Status Follow(RedisConnection& redis, const PolicyKeys& keys, std::uint64_t epoch, std::int64_t changes_kept, Instruments instruments);

 private:
  explicit ExperimentKeeper(std::filesystem::path file) : file_(std::move(file)) {}

  std::filesystem::path file_;
  v1::ExperimentList kept_;  // By name.
};

}  // namespace fuseline
