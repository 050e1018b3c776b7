#include "last_good.h"

#include <string>
#include <string_view>
#include <utility>

#include "fuseline/policy_store/aliases.h"

namespace fuseline {
namespace {

AliasMove Proven(std::string_view alias, std::uint64_t version, std::string why, const Clock& clock) {
  return {.alias = std::string(alias),
          .to_version = version,
          .who = "learner",
          .why = std::move(why),
          .wall_ms = clock.wall_ms(),
          .cause = v1::AliasChange::PROVEN};
}

}  // namespace

void LastGood::Count(std::uint64_t policy_version) {
  proof_.With([&](Proof& proof) {
    if (policy_version >= proof.from && policy_version <= proof.to) ++proof.sessions;
  });
}

Status LastGood::Follow(RedisConnection& redis, const PolicyKeys& keys, v1::AliasState seen, bool in_doubt, std::int64_t changes_kept,
                        const Clock& clock) {
  const v1::AliasChange* const found = FindAlias(seen, kLiveAlias);
  if (found == nullptr) return OkStatus();
  const std::uint64_t live = found->to_version();
  const auto move = [&](const AliasMove& to) -> Status {
    FUSELINE_ASSIGN_OR_RETURN(seen, MoveAlias(redis, keys, seen, to, changes_kept));
    return OkStatus();
  };
  const v1::AliasChange* const proving = FindAlias(seen, kProvingAlias);
  if (proving == nullptr || proving->to_version() > live) {
    return move(Proven(kProvingAlias, live, "live, and not known to be good", clock));
  }
  const std::uint64_t version = proving->to_version();
  const std::int64_t sessions = proof_.With([&](Proof& proof) {
    if (in_doubt || proof.change != proving->change()) proof = {.change = proving->change(), .from = version};
    proof.to = live;
    return proof.sessions;
  });
  if (sessions < sessions_needed_ || version == live) return OkStatus();

  const v1::AliasChange* const last_good = FindAlias(seen, kLastGoodAlias);
  const bool is_said = last_good != nullptr && last_good->to_version() == version && last_good->cause() == v1::AliasChange::PROVEN;
  if (!is_said) {
    FUSELINE_RETURN_IF_ERROR(move(Proven(kLastGoodAlias, version, std::to_string(sessions) + " sessions of it and later ones", clock)));
  }
  return move(Proven(kProvingAlias, live, "the next one", clock));
}

}  // namespace fuseline
