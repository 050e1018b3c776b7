#include "pick_up.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "fuseline/core/digest.h"
#include "fuseline/core/stage.h"

namespace fuseline {
namespace {

constexpr std::int64_t kBlockMs = 100;            // One wait for the stream; also how long a stop may take.
constexpr std::int64_t kStreamEntries = 1'000;    // Read at once; the alias says what they amount to.
constexpr std::int64_t kReconnectFirstMs = 50;
constexpr std::int64_t kReconnectLongestMs = 5'000;
constexpr std::int64_t kRetryFirstMs = 200;       // Of a refused version: its publisher may repair it.
constexpr std::int64_t kRetryLongestMs = 60'000;
constexpr std::int64_t kSayAgainMs = 1'000;       // After Redis refused an acknowledgement.
constexpr std::int64_t kMicrosPerMilli = 1'000;

}  // namespace

PickUp::PickUp(const RankerOptions& options, SnapshotStore<ServingState>& store, Log& log, Metrics& metrics,
               const Clock& clock)
    : options_(options),
      store_(store),
      log_(log),
      metrics_(metrics),
      clock_(clock),
      keys_(options.policy),
      demands_(options),
      fetcher_(options, log, metrics),
      jitter_(options.seed, "pick_up", Fnv1a64(options.name)),
      retry_(kRetryFirstMs, kRetryLongestMs, Fnv1a64(options.name)),
      experiments_(options.experiments, metrics),
      taken_total_(
          metrics.GetCounter("fuseline_serving_bridge_versions_taken_total", "versions that began to serve")),
      lost_total_(metrics.GetCounter("fuseline_serving_bridge_redis_lost_total",
                                     "times that Redis was lost, or was not there from the beginning")),
      unheard_total_(metrics.GetCounter("fuseline_serving_bridge_acknowledgements_failed_total",
                                        "acknowledgements that Redis did not take; each is sent again")),
      connected_gauge_(
          metrics.GetGauge("fuseline_serving_bridge_redis_connected", "1 while versions can be followed")),
      version_gauge_(
          metrics.GetGauge("fuseline_serving_bridge_live_version", "version being served; 0: the static weights")),
      held_gauge_(
          metrics.GetGauge("fuseline_serving_bridge_versions_held", "old versions that a reader still holds")) {}

Status PickUp::Begin() {
  const auto nothing = [](const v1::AliasChange& change) -> Result<std::shared_ptr<const LiveVersion>> {
    return Error(Code::kNotFound, "a version comes from Redis alone:", change.to_version());
  };
  FUSELINE_ASSIGN_OR_RETURN(auto running, experiments_.Build({}, {}, nothing, [](const Status&) {}));
  Serve(nullptr, std::move(running));
  return OkStatus();
}

Status PickUp::Run(std::stop_token stop) {
  Backoff backoff(kReconnectFirstMs, kReconnectLongestMs, Fnv1a64(options_.name));
  while (!stop.stop_requested()) {
    Status status;
    if (!redis_) {
      auto connection = RedisConnection::Connect(options_.redis);
      if (connection) redis_.emplace(*std::move(connection));
      else status = std::move(connection).error();
    } else {
      status = redis_->Reconnect();
    }
    if (status.ok()) status = Follow(stop, backoff);
    if (stop.stop_requested()) break;
    SetConnected(false, status);
    SleepFor(stop, backoff.NextMs());
  }
  return OkStatus();
}

Status PickUp::Follow(std::stop_token stop, Backoff& backoff) {
  // The stream's end is read before the alias: what changes in between is then seen by one of them.
  FUSELINE_ASSIGN_OR_RETURN(std::string after, NewestChangeId());
  SetConnected(true, OkStatus());  // By a server that answers, not only one that lets us in.
  say_at_us_ = 0;  // Another server may never have heard of us.
  FUSELINE_RETURN_IF_ERROR(Look(stop));
  backoff.Reset();
  std::int64_t polled_us = clock_.monotonic_us();
  while (!stop.stop_requested()) {
    FUSELINE_ASSIGN_OR_RETURN(const auto entries, redis_->ReadStream(keys_.changes(), after, kStreamEntries,
                                                                     std::min(kBlockMs, options_.poll_interval_ms)));
    if (!entries.empty()) after = entries.back().id;
    const std::int64_t now_us = clock_.monotonic_us();
    const bool poll = now_us - polled_us >= kMicrosPerMilli * options_.poll_interval_ms;
    const bool retry = (retry_at_us_ != 0 && now_us >= retry_at_us_) || (rebuild_at_us_ != 0 && now_us >= rebuild_at_us_);
    if (!entries.empty() || poll || retry) {
      FUSELINE_RETURN_IF_ERROR(Look(stop));
      polled_us = clock_.monotonic_us();
    }
    FUSELINE_RETURN_IF_ERROR(Acknowledge());
    held_gauge_.Set(static_cast<double>(store_.Reclaim()));
  }
  return OkStatus();
}

// The live version first, and its acknowledgement: experiments may have much to fetch.
Status PickUp::Look(std::stop_token stop) {
  FUSELINE_RETURN_IF_ERROR(ReadAlias(stop));
  FUSELINE_RETURN_IF_ERROR(Acknowledge());
  return ReadExperiments();
}

Result<std::string> PickUp::NewestChangeId() {
  FUSELINE_ASSIGN_OR_FAIL(const RedisReply reply, redis_->Command({"XREVRANGE", keys_.changes(), "+", "-", "COUNT", "1"}));
  if (reply.elements.empty() || reply.elements[0].elements.empty()) return "0";
  return reply.elements[0].elements[0].text;
}

// Errors: only those of the connection. A version that is refused is no reason to leave it.
Status PickUp::ReadAlias(std::stop_token stop) {
  FUSELINE_ASSIGN_OR_RETURN(const RedisReply reply, redis_->Command({"HGET", keys_.aliases(), kLiveAlias}));
  if (!reply.is_string()) return OkStatus();  // Nothing is published, or Redis forgot: what we have serves on.
  const bool same = reply.text == alias_bytes_;
  if (same && (retry_at_us_ == 0 || clock_.monotonic_us() < retry_at_us_)) return OkStatus();
  if (!same) retry_.Reset();
  alias_bytes_ = reply.text;
  retry_at_us_ = 0;

  auto change = DecodeAliasChange(reply.text);
  if (!change) return Refused("alias", change.error());
  if (!IsNewer(*change, last_)) {
    // Said again after a reconnect is not news; an older one, or another one under the same number, is.
    if (change->SerializeAsString() == last_.SerializeAsString()) return OkStatus();
    return Refused("stale", ErrorStatus(Code::kConflict, "alias change is not greater than the last: epoch", change->epoch(),
                                        "change", change->change(), "last epoch", last_.epoch(), "change", last_.change()));
  }
  return Take(*change, stop);
}

Result<std::map<std::string, std::string>> PickUp::ReadHash(const std::string& key) {
  FUSELINE_ASSIGN_OR_FAIL(const RedisReply reply, redis_->Command({"HGETALL", key}));
  std::map<std::string, std::string> hash;
  for (std::size_t i = 0; i + 1 < reply.elements.size(); i += 2) hash[reply.elements[i].text] = reply.elements[i + 1].text;
  return hash;
}

// Errors: only those of the connection, as ReadAlias.
Status PickUp::ReadExperiments() {
  FUSELINE_ASSIGN_OR_RETURN(auto defined, ReadHash(keys_.experiments()));
  if (defined.empty() && !experiments_.knows_any()) return OkStatus();
  FUSELINE_ASSIGN_OR_RETURN(auto aliases, ReadHash(keys_.aliases()));
  if (defined.empty() && aliases.empty()) return OkStatus();  // Redis forgot, or is new: what we have serves on.
  const bool same = defined == defined_ && aliases == aliases_;
  if (same && (rebuild_at_us_ == 0 || clock_.monotonic_us() < rebuild_at_us_)) return OkStatus();
  rebuild_at_us_ = 0;
  const auto fetch = [this](const v1::AliasChange& change) -> Result<std::shared_ptr<const LiveVersion>> {
    auto version = fetcher_.Fetch(*redis_, change);
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

Status PickUp::Take(const v1::AliasChange& change, std::stop_token stop) {
  const LiveVersion* const current = store_.current()->live.get();
  if (current != nullptr && current->change.manifest_sha256() == change.manifest_sha256() &&
      current->change.to_version() == change.to_version()) {
    last_ = change;  // The version that serves already, said anew.
    status_.With([&](RankerStatus& status) { status.epoch = change.epoch(), status.change = change.change(); });
    word_.change = change.change();
    say_at_us_ = 0;
    return OkStatus();
  }
  if (!SleepFor(stop, static_cast<std::int64_t>(jitter_.NextBelow(static_cast<std::uint64_t>(options_.fetch_jitter_ms) + 1)))) {
    return OkStatus();
  }
  auto version = fetcher_.Fetch(*redis_, change);
  if (!version) return NotFetched(version.error());
  auto admitted = demands_.Admit(*version, change);
  if (!admitted) return Refused(admitted.error().reason, admitted.error().status);

  fetcher_.Hold(*std::move(version));
  Serve(*std::move(admitted));
  return OkStatus();
}

void PickUp::Serve(LiveVersion version) {
  Serve(std::make_shared<const LiveVersion>(std::move(version)), store_.current()->experiments);
  const LiveVersion& serving = *store_.current()->live;
  const std::int64_t wall_ms = clock_.wall_ms();
  last_ = serving.change;
  word_ = {.change = last_.change(), .version = last_.to_version(), .since_ms = wall_ms};
  say_at_us_ = 0;
  taken_total_.Increment();
  version_gauge_.Set(static_cast<double>(last_.to_version()));
  status_.With([&](RankerStatus& status) {
    status.version = last_.to_version();
    status.epoch = last_.epoch();
    status.change = last_.change();
    ++status.taken;
  });
  log_.Info("serving_bridge.version_taken", "version", last_.to_version(), "epoch", last_.epoch(), "change", last_.change());
  if (options_.on_version) options_.on_version(serving.network.manifest(), last_, wall_ms);
}

// Errors: only those that leave the connection; the word is said by the next one then. A Redis that refuses it (no
// right, no memory) is asked again, and followed all the same.
Status PickUp::Acknowledge() {
  const std::int64_t now_us = clock_.monotonic_us();
  if (now_us < say_at_us_) return OkStatus();
  word_.seen_ms = clock_.wall_ms();
  const std::string text = AcknowledgementText(word_);
  const auto reply = redis_->Command({"HSET", keys_.acks(), options_.name, text});
  say_at_us_ = now_us + kMicrosPerMilli * (reply ? kAcknowledgeEveryMs : kSayAgainMs);
  if (reply) {
    said_unheard_ = false;
    return OkStatus();
  }
  unheard_total_.Increment();
  if (!redis_->connected()) return reply.error();
  if (!std::exchange(said_unheard_, true))
    log_.Warn("serving_bridge.acknowledgement_refused", "why", reply.error().message);
  return OkStatus();
}

Status PickUp::NotFetched(const Refusal& refusal) {
  if (refusal.status.code != Code::kUnavailable) return Refused(refusal.reason, refusal.status);
  alias_bytes_.clear();  // Not looked at yet.
  return refusal.status;
}

Status PickUp::Refused(std::string_view reason, const Status& status) {
  metrics_.GetCounter("fuseline_serving_bridge_versions_refused_total", "versions that were not allowed to serve",
                      {{"reason", std::string(reason)}}).Increment();
  log_.Error("serving_bridge.version_refused", "reason", reason, "why", status.message, "serving", last_.to_version());
  status_.With([](RankerStatus& figures) { ++figures.refused; });
  retry_at_us_ = clock_.monotonic_us() + retry_.NextMs() * kMicrosPerMilli;
  return OkStatus();
}

// Says each outage and each return once.
void PickUp::SetConnected(bool connected, const Status& why) {
  const bool was = status_.With([&](RankerStatus& status) { return std::exchange(status.redis_connected, connected); });
  connected_gauge_.Set(connected ? 1 : 0);
  if (connected && !was) log_.Info("serving_bridge.redis_connected", "policy", options_.policy);
  if (!connected && (was || !said_outage_)) {
    lost_total_.Increment();
    log_.Warn("serving_bridge.redis_lost", "why", why.message, "serving", last_.to_version());
    said_outage_ = true;
  }
}

}  // namespace fuseline
