#pragma once

#include <cstdint>

#include "fuseline/core/clock.h"
#include "fuseline/core/guarded.h"
#include "fuseline/core/status.h"
#include "fuseline/fusion/policy_keys.h"
#include "fuseline/redis/connection.h"
#include "fuseline/v1/policy.pb.h"

namespace fuseline {

// Moves `last_good` by evidence. The alias `proving` names the version that is to show itself. Once rollout.good_after_sessions sessions
// decided by it, or by a later version that was live, have closed, and `live` has gone on, it is last_good, and what is live then is next.
// A rollback of `live` takes `proving` along in its own step, so no sessions vouch for what was rolled back.
//
// Why also later versions: they may follow each other faster than sessions close. They are small steps from it, so what is wrong with it shows
// in them; and as an alias it is kept by retention until it is judged.
// Counted since this process began to follow it: a restart lets proof come later, never sooner.
// Count: any thread. Follow: one thread, the publication's.
class LastGood {
 public:
  explicit LastGood(std::int64_t sessions_needed) : sessions_needed_(sessions_needed) {}

  // A session closed whose first request that version decided.
  void Count(std::uint64_t policy_version);

  // Moves what is to be moved of the aliases `seen`. `in_doubt`: an experiment with `live` among its arms stands paused by a guardrail, and
  // the count begins anew.
  // Errors: those of MoveAlias; a move that another one forestalled is made at the next call.
  Status Follow(RedisConnection& redis, const PolicyKeys& keys, v1::AliasState seen, bool in_doubt, std::int64_t changes_kept,
                const Clock& clock);

 private:
  struct Proof {
    std::uint64_t change = 0;        // That made the version `proving`.
    std::uint64_t from = 1, to = 0;  // Versions that count: it, up to what is live.
    std::int64_t sessions = 0;
  };

  const std::int64_t sessions_needed_;
  Guarded<Proof> proof_;
};

}  // namespace fuseline
