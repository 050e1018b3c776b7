#pragma once

#include <cstdint>
#include <string_view>

#include "fuseline/core/status.h"
#include "fuseline/fusion/policy_keys.h"
#include "fuseline/redis/connection.h"

namespace fuseline {

// Highest version that is complete in Redis. Errors: kNotFound if there is none; those of the connection.
Result<std::uint64_t> NewestPublished(RedisConnection& redis, const PolicyKeys& keys);

// Reads a version back and verifies it: for a publisher that comes without an archive, and for operators.
// manifest_sha256: as an alias promises it, or empty. Two round trips.
// Errors: kNotFound if manifest or a part is not there; kCorrupt if a digest differs; those of the connection.
Result<PolicyVersion> FetchVersion(RedisConnection& redis, const PolicyKeys& keys, std::uint64_t version,
                                   std::string_view manifest_sha256);

}  // namespace fuseline
