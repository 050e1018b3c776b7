#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "fuseline/core/backoff.h"
#include "fuseline/serving_bridge/ranker.h"

#include "live_version.h"
#include "running_experiments.h"
#include "serving_state.h"
#include "snapshot_store.h"
#include "version_follower.h"

namespace fuseline {

// Brings the live version of the policy from Redis into the store, with the experiments that run beside it, and keeps them there: the one
// thread that writes the store.
class PickUp final : private VersionTaker {
 public:
  // All are borrowed for its life.
  PickUp(const RankerOptions& options, SnapshotStore<ServingState>& store, Log& log, Metrics& metrics, const Clock& clock);

  // What serves before Redis has spoken: the static weights, and the experiments built in. Before all else.
  // Errors: kNotFound if one of those serves a version that only Redis could bring.
  Status Begin();

  VersionFollower& follower() { return follower_; }
  const VersionFollower& follower() const { return follower_; }

 private:
  tl::expected<void, Refusal> Take(const PolicyVersion& version, const v1::AliasChange& change) override;
  Status LookBesides(RedisConnection& redis, VersionFetcher& fetcher) override;  // At experiments, and what their arms serve.
  std::int64_t look_again_at_us() const override { return rebuild_at_us_; }
  std::size_t Reclaim() override { return store_.Reclaim(); }

  Result<std::map<std::string, std::string>> ReadHash(RedisConnection& redis, const std::string& key);
  void Serve(std::shared_ptr<const LiveVersion> live, std::vector<RunningExperiment> experiments);

  SnapshotStore<ServingState>& store_;
  Log& log_;
  Metrics& metrics_;
  const Clock& clock_;
  const PolicyKeys keys_;
  const VersionDemands demands_;
  RunningExperiments experiments_;
  std::map<std::string, std::string> defined_, aliases_;  // As last looked at,
  std::int64_t rebuild_at_us_ = 0;                        // and when to look again at what was refused; 0: nothing was.
  Backoff retry_;
  VersionFollower follower_;
};

// The same for the live version of the policy's scorer, which has no experiments.
class ScorerPickUp final : private VersionTaker {
 public:
  ScorerPickUp(const RankerOptions& options, SnapshotStore<LiveScorer>& store, Log& log, Metrics& metrics, const Clock& clock);

  VersionFollower& follower() { return follower_; }
  const VersionFollower& follower() const { return follower_; }

 private:
  tl::expected<void, Refusal> Take(const PolicyVersion& version, const v1::AliasChange& change) override;
  Status LookBesides(RedisConnection&, VersionFetcher&) override { return OkStatus(); }
  std::int64_t look_again_at_us() const override { return 0; }
  std::size_t Reclaim() override { return store_.Reclaim(); }

  SnapshotStore<LiveScorer>& store_;
  const ScorerDemands demands_;
  VersionFollower follower_;
};

}  // namespace fuseline
