#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fuseline/core/clock.h"
#include "fuseline/core/log.h"
#include "fuseline/core/metrics.h"
#include "fuseline/core/signature.h"
#include "fuseline/core/status.h"
#include "fuseline/fusion/exploration.h"
#include "fuseline/fusion/policy_network.h"
#include "fuseline/redis/connection.h"
#include "fuseline/serving_bridge/decision.h"
#include "fuseline/v1/config.pb.h"
#include "fuseline/v1/event.pb.h"
#include "fuseline/v1/policy.pb.h"
#include "fuseline/v1/rollout.pb.h"

namespace fuseline {

struct RankerOptions {
  RedisOptions redis;
  PublicKeys public_keys;    // If any, a version serves only if one of them signed it.
  std::string policy = "default";
  std::string name;          // Of this ranker, in `acks`; unique among them.
  v1::FeatureSchema schema;  // Versions of another one are refused.
  v1::ActionRanges ranges;   // The same; its static action serves the static arm, and everybody while there is no version.
  ExplorationBox box;        // While there is no version; a version brings its own.
  bool explore = true;       // Noise for the learning arm,
  Exploration exploration;   // and of which kind.
  std::vector<v1::Experiment> experiments;  // Besides those in Redis, which win by name.
  std::uint64_t seed = 1;
  std::int64_t poll_interval_ms = 1'000;  // How often the alias is read besides the change stream.
  std::int64_t fetch_jitter_ms = 50;      // Largest random wait before a fetch, so that a fleet does not come at once.
  std::size_t max_candidates = 4'096;
  Precision precision = Precision::kFloat32;
  bool scorer = false;         // Requests may come without task scores: those of the newest scorer (ScorerPolicyOf) are taken then.
  std::string version_folder;  // Not empty: serve the version in it (as the archive writes one) for ever, and ask no Redis for another.
  std::string scorer_folder;   // The same for the scorer; implies `scorer`.

  // Called on the pick-up thread once a version serves, with the wall time at which it began to. May be empty.
  std::function<void(const v1::PolicyManifest& manifest, const v1::AliasChange& change, std::int64_t wall_ms)> on_version;
};

// Errors: kInvalidInput as ActionRangesOf. What settings do not say (name, experiments) is left to the caller.
Result<RankerOptions> RankerOptionsOf(const v1::Config& config);

// Where a ranker stands; for status pages and tests.
struct RankerStatus {
  std::uint64_t version = 0;      // Being served; 0: the static weights.
  std::uint64_t epoch = 0;        // Of the alias change that brought it,
  std::uint64_t change = 0;       // and its number.
  bool redis_connected = false;
  std::uint64_t taken = 0;        // Versions that began to serve.
  std::uint64_t refused = 0;      // Attempts to take one that was refused, for whatever reason; metrics tell them apart.
  std::uint64_t scorer_version = 0;  // Of the scorer; 0: there is none,
  std::uint64_t scorer_refused = 0;  // and of its versions the refused attempts.
};

// What a ranking service links: it keeps the newest live version at hand, and fuses candidates' task scores with it. With
// options.scorer it keeps the newest scorer too, and goes from features to order.
//
// Where: the end of the loop; its decisions become exposures, which are the loop's beginning.
// A thread of its own follows the policy's change stream in Redis, and polls the alias besides. A version serves only once
// (epoch, change number) is greater than the last, all digests hold, schema and ranges are ours, and every weight is
// finite; else it is refused, counted by reason, tried again later, and the last good one stays, as it does while Redis is away.
// Rank never waits: readers pin an immutable version in a slot of their own, without a lock, and the pick-up thread
// frees a version once no slot holds it. So a decision comes from one version as a whole. A scorer is followed in the same way, by another
// thread, and pinned beside.
// Thread-safe, with a Reader per thread.
class Ranker {
 public:
  // One thread's way into a Ranker: its slot and its buffers. Cheap to keep, not to make; not thread-safe.
  class Reader {
   public:
    Reader(Reader&&) noexcept;
    Reader& operator=(Reader&&) noexcept;
    ~Reader();

   private:
    friend class Ranker;
    struct Impl;
    explicit Reader(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
  };

  // Starts the pick-up; does not wait for Redis. REQUIRES: log, metrics and clock outlive the ranker.
  // Errors: kInvalidInput for options that contradict themselves; of a version_folder: kNotFound, kCorrupt if its digest is not what the
  // manifest promises, kInvalidInput if it is of another policy, schema or ranges.
  static Result<std::unique_ptr<Ranker>> Open(RankerOptions options, Log& log, Metrics& metrics, const Clock& clock);
  ~Ranker();
  Ranker(const Ranker&) = delete;
  Ranker& operator=(const Ranker&) = delete;

  Reader NewReader();  // REQUIRES: the reader goes before the ranker.

  // The learning arm: mu(s) of the live version, or the static action while there is none, plus the request's noise. The static
  // arm: the static action, no noise, no density. The same request, version and seed give the same decision.
  // Input that is not finite gets the static action without noise, and task scores that are not finite count as their task's
  // minimum; both are counted. So do those of a request without task scores while there is no scorer, or whose features are not
  // finite. No candidates: an empty decision.
  // Errors: kInvalidInput for more than max_candidates, no user or request id, or numbers of values that disagree with the schema (no
  // task scores of any candidate is right with options.scorer alone); `decision` then stays as it was.
  // Cost: bench/BENCHMARKS.md. No lock and no system call; no allocation either once reader and decision have seen as many
  // candidates, and a network as large, before. (What a request of a shape never seen, or an error's message, needs is allocated.)
  Status Rank(const RankingRequest& request, Reader& reader, Decision& decision) const;

  // The same into a decision of its own, for callers to whom a few allocations a request are nothing.
  Result<Decision> Rank(const RankingRequest& request, Reader& reader) const;

  // The exposure of `decision` as it is to be logged, with all that a transition needs. A feature that was not finite is written
  // as 0, a task score as its minimum.
  // REQUIRES: `exposure` is empty; `decision` came of `request`.
  void FillExposure(const RankingRequest& request, const Decision& decision, v1::Exposure* exposure) const;

  // The same as an event, whose id is "exposure-" and the request's.
  v1::Event MakeExposureEvent(const RankingRequest& request, const Decision& decision) const;

  RankerStatus status() const;

 private:
  struct Impl;
  explicit Ranker(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace fuseline
