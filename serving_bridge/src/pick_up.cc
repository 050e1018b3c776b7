#include "pick_up.h"

#include <memory>
#include <utility>

#include "fuseline/core/digest.h"

namespace fuseline {
namespace {

constexpr std::int64_t kRetryFirstMs = 200;  // Of a refused experiment or arm.
constexpr std::int64_t kRetryLongestMs = 60'000;
constexpr std::int64_t kMicrosPerMilli = 1'000;

}  // namespace

PickUp::PickUp(const RankerOptions& options, SnapshotStore<ServingState>& store, Log& log, Metrics& metrics, const Clock& clock)
    : store_(store),
      log_(log),
      metrics_(metrics),
      clock_(clock),
      keys_(options.policy),
      demands_(options),
      experiments_(options.experiments, metrics),
      retry_(kRetryFirstMs, kRetryLongestMs, Fnv1a64(options.name)),
      follower_(options, {options.policy, {}, options.on_version}, *this, log, metrics, clock) {}

Status PickUp::Begin() {
  const auto nothing = [](const v1::AliasChange& change) -> Result<std::shared_ptr<const LiveVersion>> {
    return Error(Code::kNotFound, "a version comes from Redis alone:", change.to_version());
  };
  FUSELINE_ASSIGN_OR_RETURN(auto running, experiments_.Build({}, {}, nothing, [](const Status&) {}));
  Serve(nullptr, std::move(running));
  return OkStatus();
}

tl::expected<void, Refusal> PickUp::Take(const PolicyVersion& version, const v1::AliasChange& change) {
  auto admitted = demands_.Admit(version, change);
  if (!admitted) return tl::unexpected(std::move(admitted).error());
  Serve(std::make_shared<const LiveVersion>(*std::move(admitted)), store_.current()->experiments);
  return {};
}

Result<std::map<std::string, std::string>> PickUp::ReadHash(RedisConnection& redis, const std::string& key) {
  FUSELINE_ASSIGN_OR_FAIL(const RedisReply reply, redis.Command({"HGETALL", key}));
  std::map<std::string, std::string> hash;
  for (std::size_t i = 0; i + 1 < reply.elements.size(); i += 2) hash[reply.elements[i].text] = reply.elements[i + 1].text;
  return hash;
}

Status PickUp::LookBesides(RedisConnection& redis, VersionFetcher& fetcher) {
  FUSELINE_ASSIGN_OR_RETURN(auto defined, ReadHash(redis, keys_.experiments()));
  if (defined.empty() && !experiments_.knows_any()) return OkStatus();
  FUSELINE_ASSIGN_OR_RETURN(auto aliases, ReadHash(redis, keys_.aliases()));
  if (defined.empty() && aliases.empty()) return OkStatus();  // Redis forgot, or is new: what we have serves on.
  const bool same = defined == defined_ && aliases == aliases_;
  if (same && (rebuild_at_us_ == 0 || clock_.monotonic_us() < rebuild_at_us_)) return OkStatus();
  if (!same) retry_.Reset();
  rebuild_at_us_ = 0;
  const auto fetch = [&](const v1::AliasChange& change) -> Result<std::shared_ptr<const LiveVersion>> {
    auto version = fetcher.Fetch(redis, change);
    if (!version) return tl::unexpected(std::move(version).error().status);
    auto admitted = demands_.Admit(*version, change);
    if (!admitted) return tl::unexpected(admitted.error().status);
    return std::make_shared<const LiveVersion>(*std::move(admitted));
  };
  const auto refuse = [this](const Status& why) {
    metrics_.GetCounter("fuseline_serving_bridge_experiments_refused_total", "experiments, arms and shadows that may not serve").Increment();
    log_.Error("serving_bridge.experiment_refused", "why", why.message);
    rebuild_at_us_ = clock_.monotonic_us() + retry_.NextMs() * kMicrosPerMilli;
  };
  FUSELINE_ASSIGN_OR_RETURN(auto running, experiments_.Build(defined, aliases, fetch, refuse));
  defined_ = std::move(defined);
  aliases_ = std::move(aliases);
  Serve(store_.current()->live, std::move(running));
  return OkStatus();
}

void PickUp::Serve(std::shared_ptr<const LiveVersion> live, std::vector<RunningExperiment> experiments) {
  store_.Publish(std::make_unique<const ServingState>(ServingState{std::move(live), std::move(experiments)}));
}

ScorerPickUp::ScorerPickUp(const RankerOptions& options, SnapshotStore<LiveScorer>& store, Log& log, Metrics& metrics, const Clock& clock)
    : store_(store),
      demands_(options),
      follower_(options, {ScorerPolicyOf(options.policy), {{"model", "scorer"}}, {}}, *this, log, metrics, clock) {}

tl::expected<void, Refusal> ScorerPickUp::Take(const PolicyVersion& version, const v1::AliasChange&) {
  auto admitted = demands_.Admit(version);
  if (!admitted) return tl::unexpected(std::move(admitted).error());
  store_.Publish(std::make_unique<const LiveScorer>(*std::move(admitted)));
  return {};
}

}  // namespace fuseline
