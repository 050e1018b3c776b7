#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "fuseline/core/backoff.h"
#include "fuseline/core/guarded.h"
#include "fuseline/core/random.h"
#include "fuseline/fusion/acknowledgement.h"
#include "fuseline/fusion/policy_keys.h"
#include "fuseline/redis/connection.h"
#include "fuseline/serving_bridge/ranker.h"

#include "live_version.h"
#include "running_experiments.h"
#include "serving_state.h"
#include "snapshot_store.h"
#include "version_fetcher.h"

namespace fuseline {

// Brings the live version from Redis into the store, and keeps it there: the one thread that writes the store.
class PickUp {
 public:
  // All are borrowed for its life.
  PickUp(const RankerOptions& options, SnapshotStore<ServingState>& store, Log& log, Metrics& metrics, const Clock& clock);

  // What serves before Redis has spoken: the static weights, and the experiments built in. Before Run.
  // Errors: kNotFound if one of those serves a version that only Redis could bring.
  Status Begin();

  // Puts a version there. By the thread of Run, or, where one version serves for ever, instead of it.
  void Serve(LiveVersion version);
  Status Run(std::stop_token stop);  // The thread's body: until it is stopped.
  RankerStatus status() const { return status_.Copy(); }  // Any thread.

 private:
  Status Follow(std::stop_token stop, Backoff& backoff);  // While the connection lasts.
  Status Look(std::stop_token stop);       // At everything.
  Result<std::string> NewestChangeId();    // Of the stream; "0" while it is empty.
  Status ReadAlias(std::stop_token stop);  // Takes what the alias says, if that is new.
  Status ReadExperiments();                // And what their arms serve.
  Result<std::map<std::string, std::string>> ReadHash(const std::string& key);
  void Serve(std::shared_ptr<const LiveVersion> live, std::vector<RunningExperiment> experiments);
  Status Take(const v1::AliasChange& change, std::stop_token stop);
  Status NotFetched(const Refusal& refusal);  // Leaves the connection if it must, else refuses the version.
  Status Acknowledge();                    // If it is time to.
  Status Refused(std::string_view reason, const Status& status);
  void SetConnected(bool connected, const Status& why);

  const RankerOptions& options_;
  SnapshotStore<ServingState>& store_;
  Log& log_;
  Metrics& metrics_;
  const Clock& clock_;
  const PolicyKeys keys_;
  const VersionDemands demands_;
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
  RunningExperiments experiments_;
  std::map<std::string, std::string> defined_, aliases_;  // As last looked at,
  std::int64_t rebuild_at_us_ = 0;                        // and when to look again at what was refused; 0: nothing was.
  bool said_outage_ = false;        // Of a Redis that was not there from the beginning.

  const Counter taken_total_, lost_total_, unheard_total_;
  const Gauge connected_gauge_, version_gauge_, held_gauge_;
  Guarded<RankerStatus> status_;
};

}  // namespace fuseline
