#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "fuseline/core/status.h"
#include "fuseline/fusion/policy_keys.h"
#include "fuseline/redis/connection.h"
#include "fuseline/v1/rollout.pb.h"

namespace fuseline {

// Experiments in Redis. Rankers look at them whenever the change stream moves. None is ever taken out: one that has ended stays, and its state
// says so. So what is not there was lost, and whoever has seen it keeps it.
// Errors of all, besides their own: those of the connection.

// All that can be read, by name: one that cannot is no harm to the others. `unreadable`, if any, receives the bytes of those, by name.
Result<std::map<std::string, v1::Experiment>> ReadExperiments(RedisConnection& redis, const PolicyKeys& keys,
                                                              std::map<std::string, std::string>* unreadable = nullptr);

// Writes `next` in place of `seen` (null: there must be none), and a note into the change stream; who and why are those of its last change.
// One script. The same again is accepted as done. `epoch`: of the writer, or 0: anybody's. `among`: how many experiments the writer saw,
// should it matter to him that there are no others.
// Errors: kConflict if it was changed, or another one was added, meanwhile, or a newer writer claimed; kNotFound if Redis lost the epoch.
Status WriteExperiment(RedisConnection& redis, const PolicyKeys& keys, std::uint64_t epoch, const v1::Experiment* seen,
                       const v1::Experiment& next, std::int64_t changes_kept, std::optional<std::size_t> among = std::nullopt);

// Writes again, as it was, what Redis lost (`seen` is empty), or in place of the bytes `seen`: an earlier state that Redis fell back to, or
// what cannot be read. The note says that it was restored. Errors: as WriteExperiment.
Status RestoreExperiment(RedisConnection& redis, const PolicyKeys& keys, std::uint64_t epoch, std::string_view seen,
                         const v1::Experiment& lost, std::int64_t changes_kept);

// What the stream said at the last look, for whoever asks how an experiment stands.
Status WriteFigures(RedisConnection& redis, const PolicyKeys& keys, const v1::ExperimentTotals& totals);
// Empty if there was no look. Errors: kCorrupt.
Result<v1::ExperimentTotals> ReadFigures(RedisConnection& redis, const PolicyKeys& keys, const std::string& experiment);

// Sessions that no experiment's figures have, for want of room (rollout.max_users), as of the last look. 0 if there was none.
Status WriteLeftOut(RedisConnection& redis, const PolicyKeys& keys, std::uint64_t sessions);
Result<std::uint64_t> ReadLeftOut(RedisConnection& redis, const PolicyKeys& keys);  // Errors: kCorrupt.

}  // namespace fuseline
