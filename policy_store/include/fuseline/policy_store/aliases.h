#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "fuseline/core/status.h"
#include "fuseline/fusion/policy_keys.h"
#include "fuseline/redis/connection.h"
#include "fuseline/v1/policy.pb.h"

namespace fuseline {

// Epoch, change number and aliases of one instant. Epoch 0: Redis holds none (a fresh or flushed server).
// Errors: those of the connection; kCorrupt if an alias does not decode.
Result<v1::AliasState> ReadAliases(RedisConnection& redis, const PolicyKeys& keys);

// The change that put `alias` where it is; null if it points nowhere.
const v1::AliasChange* FindAlias(const v1::AliasState& state, std::string_view alias);

// Who does what moves no alias, and why: an entry of the change stream.
struct ChangeNote {
  std::string who;
  std::string why;
  std::int64_t wall_ms = 0;
  std::int64_t changes_kept = 10'000;  // Bound of the stream, about.
};

// What an operator or an experiment asks for.
struct AliasMove {
  std::string alias;
  std::uint64_t to_version = 0;  // May be where it points already: then only the pin changes.
  std::string who;
  std::string why;
  std::int64_t wall_ms = 0;  // Informs people, decides nothing.
  v1::AliasChange::Cause cause = v1::AliasChange::PROMOTED;
  bool pinned = false;  // Of `live`: what is published later is not pointed to.
};

// The moves that operators know, without who, why and when. Pure.
// Errors: kInvalidInput if the alias is none of the four, or `last_good`, which the moves of `live` decide; kConflict if it is there already.
Result<AliasMove> PlanPromotion(const v1::AliasState& seen, std::string_view alias, std::uint64_t version);  // A pin stays.
// Pins `live` to `version`; 0: to `last_good`. Errors: kNotFound if there is no such alias; kConflict if `live` is there already.
Result<AliasMove> PlanRollback(const v1::AliasState& seen, std::uint64_t version);
Result<AliasMove> PlanPin(const v1::AliasState& seen);  // Of `live`, where it is. Errors: kNotFound, kConflict.
// Lets `live` go on: to `newest`, the newest version that may serve, unless it is at a newer one. Errors: the same.
Result<AliasMove> PlanUnpin(const v1::AliasState& seen, std::uint64_t newest);

// Moves an alias to a version that is in Redis, under the epoch that `seen` holds: it never raises it. Returns the state after.
// In the same step, where `live` leaves a version: a rollback takes `last_good` and `proving` along; otherwise `last_good`, unless there is
// evidence for it already (its cause is PROVEN or ROLLED_BACK), goes to the version that `live` left. Evidence comes from who watches the
// sessions, by moves of cause PROVEN (docs/versions.md).
// One script: nothing is done unless the change number still is that of `seen`. `changes_kept`: bound of the change stream.
// Errors: kConflict if an alias moved or a newer writer claimed since `seen` was read: read again, decide again, once;
// kNotFound if the version is not in Redis or there is no epoch; those of the connection.
Result<v1::AliasState> MoveAlias(RedisConnection& redis, const PolicyKeys& keys, const v1::AliasState& seen, const AliasMove& move,
                                 std::int64_t changes_kept);

}  // namespace fuseline
