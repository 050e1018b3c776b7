#include "newcomer.h"

#include "fuseline/fusion/policy_keys.h"
#include "fuseline/policy_store/archive.h"
#include "fuseline/policy_store/fetch.h"
#include "fuseline/redis/connection.h"
#include "fuseline/serving_bridge/redis_options.h"
#include "opening.h"

namespace fuseline {

Status BeginFromPublished(const v1::Config& config, const StateFolders& folders, Instruments instruments) {
  auto& [log, metrics, clock] = instruments;
  FUSELINE_ASSIGN_OR_RETURN(const auto learner,
                            Learner::Open(folders.learner, config, BuildText(), log, metrics, clock));
  DiskFileSystem files;
  if (!learner->is_new() || Archive::OpenReadOnly(folders.versions, files).Newest()) return OkStatus();
  auto redis = RedisConnection::Connect(RedisOptionsOf(config.redis()));
  if (!redis) {
    log.Warn("learner.newcomer_unsure", "reason", redis.error().message);
    return OkStatus();
  }
  const PolicyKeys keys(config.policy().name());
  const auto newest = NewestPublished(*redis, keys);
  if (!newest && newest.error().code == Code::kNotFound) return OkStatus();
  if (!newest) return newest.error();
  FUSELINE_ASSIGN_OR_RETURN(const PublicKeys trusted, PublicKeys::FromHex(config.policy_store().public_keys()));
  FUSELINE_ASSIGN_OR_RETURN(const ArchivedVersion fetched, FetchVersion(*redis, keys, *newest, /*manifest_sha256=*/"", trusted));
  log.Warn("learner.begins_without_state", "version", *newest, "folder", folders.learner.string());
  FUSELINE_RETURN_IF_ERROR(learner->BeginFrom(fetched.version));
  if (!learner->scorer_is_new()) return OkStatus();
  const PolicyKeys of_scorer(ScorerPolicyOf(config.policy().name()));
  const auto newest_scorer = NewestPublished(*redis, of_scorer);
  if (!newest_scorer) return newest_scorer.error().code == Code::kNotFound ? OkStatus() : newest_scorer.error();
  FUSELINE_ASSIGN_OR_RETURN(const ArchivedVersion scorer, FetchVersion(*redis, of_scorer, *newest_scorer, /*manifest_sha256=*/"", trusted));
  return learner->BeginScorerFrom(scorer.version);
}

}  // namespace fuseline
