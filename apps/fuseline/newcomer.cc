#include "newcomer.h"

#include "fuseline/fusion/policy_keys.h"
#include "fuseline/policy_store/archive.h"
#include "fuseline/policy_store/fetch.h"
#include "fuseline/redis/connection.h"
#include "fuseline/serving_bridge/redis_options.h"
#include "opening.h"

namespace fuseline {
namespace {

Status BeginPolicy(RedisConnection& redis, const PolicyKeys& keys, const PublicKeys& trusted, const StateFolders& folders, Log& log,
                   Learner& learner) {
  const auto newest = NewestPublished(redis, keys);
  if (!newest) return newest.error().code == Code::kNotFound ? OkStatus() : newest.error();
  FUSELINE_ASSIGN_OR_RETURN(const ArchivedVersion fetched, FetchVersion(redis, keys, *newest, /*manifest_sha256=*/"", trusted));
  log.Warn("learner.begins_without_state", "version", *newest, "folder", folders.learner.string());
  return learner.BeginFrom(fetched.version);
}

}  // namespace

Status BeginFromPublished(const v1::Config& config, const StateFolders& folders, Instruments instruments) {
  auto& [log, metrics, clock] = instruments;
  FUSELINE_ASSIGN_OR_RETURN(const auto learner,
                            Learner::Open(folders.learner, config, BuildText(), log, metrics, clock));
  DiskFileSystem files;
  const bool policy = learner->is_new() && !Archive::OpenReadOnly(folders.versions, files).Newest();
  const bool scorer = learner->scorer_is_new() && !Archive::OpenReadOnly(folders.scorers, files).Newest();
  if (!policy && !scorer) return OkStatus();
  auto redis = RedisConnection::Connect(RedisOptionsOf(config.redis()));
  if (!redis) {
    log.Warn("learner.newcomer_unsure", "reason", redis.error().message);
    return OkStatus();
  }
  FUSELINE_ASSIGN_OR_RETURN(const PublicKeys trusted, PublicKeys::FromHex(config.policy_store().public_keys()));
  if (policy) FUSELINE_RETURN_IF_ERROR(BeginPolicy(*redis, PolicyKeys(config.policy().name()), trusted, folders, log, *learner));
  if (!scorer) return OkStatus();
  const PolicyKeys keys(ScorerPolicyOf(config.policy().name()));
  FUSELINE_ASSIGN_OR_RETURN(const auto versions, PublishedVersions(*redis, keys));
  return BeginScorerBehind(*learner, versions, [&](std::uint64_t version) {
    return FetchVersion(*redis, keys, version, /*manifest_sha256=*/"", trusted);
  });
}

}  // namespace fuseline
