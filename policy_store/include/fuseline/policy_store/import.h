#pragma once

#include "fuseline/core/status.h"
#include "fuseline/fusion/policy_keys.h"
#include "fuseline/policy_store/aliases.h"
#include "fuseline/policy_store/archive.h"
#include "fuseline/redis/connection.h"

namespace fuseline {

// What number a version may have. kBehindTheLearner: at most the newest published one, since a learner makes its own. kAnyNumber: where
// no learner publishes this policy.
enum class ImportNumber { kBehindTheLearner, kAnyNumber };

// Whether ImportVersion would take it, as far as can be known before. For what must come first: the archive is the
// truth, and must not hold what Redis then refuses. Errors: as ImportVersion's.
Status CheckImport(RedisConnection& redis, std::string_view policy, const v1::AliasState& seen,
                   const ArchivedVersion& version, ImportNumber number = ImportNumber::kBehindTheLearner);

// Puts a version that no learner publishes now (from a file, from the archive) into Redis, under the epoch that `seen` holds, and tells the
// change stream. No alias moves. Retention spares it as if an alias had left it just now. Returns whether it was there before.
// REQUIRES: the version was verified. Errors: kConflict if Redis holds another version under this number, or none with a number as high:
// the learner's own version of that number would be refused; kInvalidInput for a version of another policy; kNotFound if Redis has no
// epoch (no learner has ever claimed the policy, or Redis is being restored); those of the connection.
Result<bool> ImportVersion(RedisConnection& redis, std::string_view policy, const v1::AliasState& seen, const ArchivedVersion& version,
                           const ChangeNote& note, ImportNumber number = ImportNumber::kBehindTheLearner);

}  // namespace fuseline
