#include "newcomer.h"

#include <optional>
#include <utility>

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
  std::optional<PolicyVersion> scorer;
  if (config.scorer().learn()) {
    const PolicyKeys of_scorer(ScorerPolicyOf(config.policy().name()));
    const auto newest_scorer = NewestPublished(*redis, of_scorer);
    if (!newest_scorer && newest_scorer.error().code != Code::kNotFound) return newest_scorer.error();
    if (newest_scorer) {
      FUSELINE_ASSIGN_OR_RETURN(ArchivedVersion found, FetchVersion(*redis, of_scorer, *newest_scorer, /*manifest_sha256=*/"", trusted));
      scorer = std::move(found.version);
    }
  }
  return learner->BeginFrom(fetched.version, scorer ? &*scorer : nullptr);
}

}  // namespace fuseline
