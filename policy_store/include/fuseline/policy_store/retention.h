#pragma once

#include <cstdint>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/fusion/policy_keys.h"
#include "fuseline/policy_store/aliases.h"
#include "fuseline/redis/connection.h"

namespace fuseline {

struct RetentionRule {
  std::int64_t keep_versions = 20;         // The newest.
  std::int64_t keep_pointed_ms = 600'000;  // After an alias last left it; by the clock of the Redis server alone.
};

// What DeleteOldVersions would delete now, ascending. Two round trips. Errors: kCorrupt if an experiment cannot be read: nothing then.
Result<std::vector<std::uint64_t>> OldVersions(RedisConnection& redis, const PolicyKeys& keys, const v1::AliasState& seen,
                                               const RetentionRule& rule);

// Deletes from Redis every version that no alias points to, that no alias left within keep_pointed_ms, that no experiment
// serves, and that is not among the newest. Each goes in one script that refuses if any alias moved since `seen` was read, so none goes while it is pointed to.
// `note`, if any, is written into the change stream for each. Returns what was deleted, ascending. Cost: two round trips, and two for each version deleted.
// Errors: kConflict if an alias moved or a newer epoch was claimed meanwhile (what was deleted stays so); kNotFound without an
// epoch; kCorrupt if a manifest or an experiment does not decode; those of the connection.
Result<std::vector<std::uint64_t>> DeleteOldVersions(RedisConnection& redis, const PolicyKeys& keys, const v1::AliasState& seen,
                                                     std::uint64_t epoch, const RetentionRule& rule, const ChangeNote* note);

}  // namespace fuseline
