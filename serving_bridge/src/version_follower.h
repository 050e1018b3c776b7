#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "fuseline/core/backoff.h"
#include "fuseline/core/guarded.h"
#include "fuseline/core/random.h"
#include "fuseline/fusion/acknowledgement.h"
#include "fuseline/fusion/policy_keys.h"
#include "fuseline/redis/connection.h"
#include "fuseline/serving_bridge/ranker.h"

#include "live_version.h"
#include "version_fetcher.h"

namespace fuseline {

// Who lets the versions serve that a follower brings. Called by the follower's thread alone.
class VersionTaker {
 public:
  virtual ~VersionTaker() = default;

  // Checks what the digests do not say, and lets it serve.
  virtual tl::expected<void, Refusal> Take(const PolicyVersion& version, const v1::AliasChange& change) = 0;

  // After each look at the live alias. Errors: only those of the connection.
  virtual Status LookBesides(RedisConnection& redis, VersionFetcher& fetcher) = 0;
  virtual std::int64_t look_again_at_us() const = 0;  // When to look again at what LookBesides refused; 0: nothing was.

  virtual std::size_t Reclaim() = 0;  // Frees versions that no reader holds any more; returns how many are held.
};

// What is followed.
struct Followed {
  std::string policy;   // In Redis.
  MetricLabels labels;  // Of all its metrics.
  std::function<void(const v1::PolicyManifest& manifest, const v1::AliasChange& change, std::int64_t wall_ms)> on_version;
};

// Brings the live version of one policy from Redis to its taker, and keeps it there; says in `acks` what serves.
class VersionFollower {
 public:
  // All but `what` are borrowed for its life.
  VersionFollower(const RankerOptions& options, Followed what, VersionTaker& taker, Log& log, Metrics& metrics, const Clock& clock);

  // Where one version serves for ever, instead of Run. Errors: those of the taker.
  Status TakeForEver(const PolicyVersion& version);
  Status Run(std::stop_token stop);                       // The thread's body: until it is stopped.
  RankerStatus status() const { return status_.Copy(); }  // Any thread.

 private:
  Status Follow(std::stop_token stop, Backoff& backoff);  // While the connection lasts.
  Status Look(std::stop_token stop);       // At everything.
  Result<std::string> NewestChangeId();    // Of the stream; "0" while it is empty.
  Status ReadAlias(std::stop_token stop);  // Takes what the alias says, if that is new.
  Status Take(const v1::AliasChange& change, std::stop_token stop);
  void Took(const v1::PolicyManifest& manifest, const v1::AliasChange& change);
  Status NotFetched(const Refusal& refusal);  // Leaves the connection if it must, else refuses the version.
  Status Acknowledge();                    // If it is time to.
  Status Refused(std::string_view reason, const Status& status);
  void SetConnected(bool connected, const Status& why);

  const RankerOptions& options_;
  const Followed what_;
  VersionTaker& taker_;
  Log& log_;
  Metrics& metrics_;
  const Clock& clock_;
  const PolicyKeys keys_;
  VersionFetcher fetcher_;
  Random jitter_;
  std::optional<RedisConnection> redis_;

  v1::AliasChange last_;            // The last one taken; nothing not greater is.
  std::string alias_bytes_;         // The last that the alias said,
  std::int64_t retry_at_us_ = 0;    // and when to try it again, if it was refused; 0: it was not.
  Backoff retry_;
  Acknowledgement word_;            // What is to be acknowledged,
  std::int64_t say_at_us_ = 0;      // and when: 0: at once.
  bool said_unheard_ = false;       // That Redis refuses it.
  bool said_outage_ = false;        // Of a Redis that was not there from the beginning.

  const Counter taken_total_, lost_total_, unheard_total_;
  const Gauge connected_gauge_, version_gauge_, held_gauge_;
  Guarded<RankerStatus> status_;
};

}  // namespace fuseline
