#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "fuseline/core/signature.h"
#include "fuseline/core/status.h"
#include "fuseline/fusion/policy_keys.h"
#include "fuseline/policy_store/archive.h"
#include "fuseline/redis/connection.h"

namespace fuseline {

// What is complete in Redis, ascending. Errors: those of the connection.
Result<std::vector<std::uint64_t>> PublishedVersions(RedisConnection& redis, const PolicyKeys& keys);

// Highest of them. Errors: kNotFound if there is none; those of the connection.
Result<std::uint64_t> NewestPublished(RedisConnection& redis, const PolicyKeys& keys);

// Highest of them that the gate accepted. Errors: the same.
Result<std::uint64_t> NewestAccepted(RedisConnection& redis, const PolicyKeys& keys);

// Reads a version back and verifies it: for a publisher that comes without an archive, and for operators.
// manifest_sha256: as an alias promises it, or empty. trusted: if any, one of them must have signed it. Three round
// trips. Errors: kNotFound if manifest or a part is not there; kCorrupt if a size or digest differs or the signature
// is missing or wrong; those of the connection.
Result<ArchivedVersion> FetchVersion(RedisConnection& redis, const PolicyKeys& keys, std::uint64_t version,
                                     std::string_view manifest_sha256, const PublicKeys& trusted = {});

}  // namespace fuseline
