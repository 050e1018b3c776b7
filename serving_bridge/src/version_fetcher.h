#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "fuseline/core/log.h"
#include "fuseline/core/metrics.h"
#include "fuseline/core/signature.h"
#include "fuseline/fusion/policy_keys.h"
#include "fuseline/fusion/policy_version.h"
#include "fuseline/redis/connection.h"

#include "live_version.h"

namespace fuseline {

// Brings versions from Redis, and lets through what is signed and has the digests that its manifest promises. Where a
// delta stands there that was made from the version that this ranker holds, it is taken instead of the parts; one that
// is of no use is counted, and the parts are read. Belongs to the pick-up's thread.
class VersionFetcher {
 public:
  // Log and metrics are borrowed for its life.
  VersionFetcher(const std::string& policy, const MetricLabels& labels, const PublicKeys& public_keys, Log& log, Metrics& metrics);

  // What later deltas may be applied to: the version that serves. Keeps a copy of its weights file.
  void Hold(PolicyVersion version) { held_ = std::move(version); }

  // Refuses by "absent", "digest", "signature" or "reply"; with kUnavailable the connection is to be left, and nothing
  // is said of the version. Cost: two round trips by delta, else one and one for each part.
  tl::expected<PolicyVersion, Refusal> Fetch(RedisConnection& redis, const v1::AliasChange& change);

 private:
  struct Head {  // Empty: not there.
    std::string manifest, signature, delta;
  };
  Result<Head> ReadHead(RedisConnection& redis, std::uint64_t version);
  std::optional<PolicyVersion> ByDelta(const std::string& bytes, const v1::PolicyManifest& manifest);
  Result<PolicyVersion> ByParts(RedisConnection& redis, v1::PolicyManifest manifest);

  const PolicyKeys keys_;
  const PublicKeys public_keys_;
  Log& log_;
  std::optional<PolicyVersion> held_;
  const Counter by_delta_total_, by_parts_total_, deltas_refused_total_;
};

}  // namespace fuseline
