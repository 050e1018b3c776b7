#pragma once

#include <cstdint>

#include "alias_moves.h"
#include "fuseline/fusion/policy_keys.h"
#include "fuseline/policy_store/archive.h"
#include "fuseline/redis/connection.h"

namespace fuseline {

// Writes the parts of a version under `epoch`. Repeatable. Errors: those of the connection; kConflict, kNotFound as PutPartScript says.
Status PutParts(RedisConnection& redis, const PolicyKeys& keys, std::uint64_t epoch, const ArchivedVersion& version);

// Writes the delta of a version, in place of any other that it had. Errors: the same.
Status PutDelta(RedisConnection& redis, const PolicyKeys& keys, std::uint64_t epoch, const ArchivedVersion& version,
                const v1::VersionDelta& delta);

// Makes a version whose parts were written complete, and runs `moves` in the same step; null: none. Returns whether it was complete before.
// Errors: those of the connection; kConflict, kNotFound as PublishScript says.
Result<bool> CompleteVersion(RedisConnection& redis, const PolicyKeys& keys, const v1::AliasState& seen, std::uint64_t epoch,
                             const ArchivedVersion& version, const AliasMoves* moves, std::int64_t changes_kept);

}  // namespace fuseline
