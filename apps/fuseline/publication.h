#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "fuseline/core/clock.h"
#include "fuseline/core/log.h"
#include "fuseline/core/metrics.h"
#include "fuseline/core/signature.h"
#include "fuseline/core/status.h"
#include "fuseline/fusion/acknowledgement.h"
#include "fuseline/fusion/policy_version.h"
#include "fuseline/v1/config.pb.h"
#include "fuseline/v1/policy.pb.h"
#include "fuseline/v1/rollout.pb.h"

namespace fuseline {

// What every long-lived object is handed; one of each per process.
struct Instruments {
  Log& log;
  Metrics& metrics;
  const Clock& clock;
};

struct PublicationStatus {
  bool connected = false;
  std::uint64_t epoch = 0;         // 0: versions stay in the archive.
  std::uint64_t live_version = 0;  // Where the alias `live` points; 0: nowhere yet.
  std::optional<v1::AliasChange> pin;  // What holds `live` there, if anything does.
  std::uint64_t waiting = 0;       // Accepted versions that Redis does not know yet.
  std::map<std::string, Acknowledgement> rankers;  // By name: those that are heard of.
  std::string last_error;          // Empty when all is well.
};

// The key that signs new versions; none: they are not signed. Errors: kInvalidInput for a file that is none.
Result<std::optional<SigningKey>> SigningKeyOf(const v1::PolicyStore& settings);

// The stage behind the learner: every version goes into the archive at once, and from there, when the gate accepted it, to
// Redis, for as long as that takes. So training waits for the disk alone, and Redis can be away.
//
// A thread of its own owns archive and publisher. What the archive holds and Redis lacks is published after a restart, and whenever
// Redis lost something, which it looks for five times a second. A newer epoch in Redis ends it: this process has been replaced. Where
// somebody has pinned `live`, later versions are published and not pointed to. Every change of the aliases goes into the audit trail.
class Publication {
 public:
  struct Options {
    v1::Config config;
    std::string folder;                                            // Of the archive.
    std::uint64_t epoch = 0;                                       // 0: archive only, no Redis.
    // All on the publication's thread. Redis has it; `live` points to it, unless somebody holds it elsewhere.
    std::function<void(std::uint64_t version, bool is_live)> on_published;
    // A ranker is heard of for the first time, or has taken up another version; it began with it then, by its clock.
    // 0: the static weights.
    std::function<void(const std::string& ranker, std::uint64_t version, std::int64_t wall_ms)> on_use;
    std::function<void(const std::string& ranker)> on_gone;  // Silent for kRankerGoneMs; its line in Redis is deleted.
  };

  // Errors: kUnavailable (disk); kInvalidInput for keys of policy_store that are none; a Redis that is away is no error.
  static Result<std::unique_ptr<Publication>> Open(Options options, Instruments instruments);
  ~Publication();

  // Hands a version over; it waits in memory until the archive has it.
  void Store(PolicyVersion version);
  // The next version that the archive has, durably. For the learner's MarkStored.
  std::optional<std::uint64_t> TakeStored();
  // The next move of the alias `live` by somebody else, for the learner's Act; it holds while `live` is pinned. After a restart the last
  // one comes again, under its number; after Redis was restored, under a new one.
  std::optional<v1::Act> TakeAct();
  // An experiment's sums, without users, to be judged when Redis can be reached; a later one of the same experiment replaces it.
  // `left_out`: sessions that no experiment's sums have.
  void Look(v1::ExperimentTotals totals, std::uint64_t left_out);
  // A session closed whose first request that version decided: evidence for it (last_good.h).
  void Served(std::uint64_t policy_version);
  // Why it ended, if it has: the archive's disk failed, or this writer was fenced.
  std::optional<Status> failure() const;
  // Waits up to `patience_ms` until Redis knows every accepted version. Returns whether it does.
  bool WaitUntilPublished(std::int64_t patience_ms) const;

  PublicationStatus status() const;

 private:
  struct Impl;
  explicit Publication(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace fuseline
