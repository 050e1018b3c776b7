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

// What an operator or an experiment asks for.
struct AliasMove {
  std::string alias;
  std::uint64_t to_version = 0;
  std::string who;
  std::string why;
  std::int64_t wall_ms = 0;  // Informs people, decides nothing.
};

// Moves an alias to a version that is in Redis, under the epoch that `seen` holds: it never raises it. Returns the state after.
// One script: nothing is done unless the change number still is that of `seen`. `changes_kept`: bound of the change stream.
// Errors: kConflict if an alias moved or a newer writer claimed since `seen` was read: read again, decide again, once;
// kNotFound if the version is not in Redis or there is no epoch; those of the connection.
Result<v1::AliasState> MoveAlias(RedisConnection& redis, const PolicyKeys& keys, const v1::AliasState& seen, const AliasMove& move,
                                 std::int64_t changes_kept);

}  // namespace fuseline
