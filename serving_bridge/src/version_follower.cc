#include "version_follower.h"

#include <algorithm>
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

VersionFollower::VersionFollower(const RankerOptions& options, Followed what, VersionTaker& taker, Log& log, Metrics& metrics,
                                 const Clock& clock)
    : options_(options),
      what_(std::move(what)),
      taker_(taker),
      log_(log),
      metrics_(metrics),
      clock_(clock),
      keys_(what_.policy),
      fetcher_(what_.policy, what_.labels, options.public_keys, log, metrics),
      jitter_(options.seed, "pick_up", Fnv1a64(options.name)),
      retry_(kRetryFirstMs, kRetryLongestMs, Fnv1a64(options.name)),
      taken_total_(metrics.GetCounter("fuseline_serving_bridge_versions_taken_total", "versions that began to serve", what_.labels)),
      lost_total_(metrics.GetCounter("fuseline_serving_bridge_redis_lost_total",
                                     "times that Redis was lost, or was not there from the beginning", what_.labels)),
      unheard_total_(metrics.GetCounter("fuseline_serving_bridge_acknowledgements_failed_total",
                                        "acknowledgements that Redis did not take; each is sent again", what_.labels)),
      connected_gauge_(metrics.GetGauge("fuseline_serving_bridge_redis_connected", "1 while versions can be followed", what_.labels)),
      version_gauge_(metrics.GetGauge("fuseline_serving_bridge_live_version", "version being served; 0: the static weights, or no scorer",
                                      what_.labels)),
      held_gauge_(metrics.GetGauge("fuseline_serving_bridge_versions_held", "old versions that a reader still holds", what_.labels)) {}

Status VersionFollower::Run(std::stop_token stop) {
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

Status VersionFollower::Follow(std::stop_token stop, Backoff& backoff) {
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
    const std::int64_t again_at_us = taker_.look_again_at_us();
    const bool retry = (retry_at_us_ != 0 && now_us >= retry_at_us_) || (again_at_us != 0 && now_us >= again_at_us);
    if (!entries.empty() || poll || retry) {
      FUSELINE_RETURN_IF_ERROR(Look(stop));
      polled_us = clock_.monotonic_us();
    }
    FUSELINE_RETURN_IF_ERROR(Acknowledge());
    held_gauge_.Set(static_cast<double>(taker_.Reclaim()));
  }
  return OkStatus();
}

// The live version first, and its acknowledgement: what is besides may have much to fetch.
Status VersionFollower::Look(std::stop_token stop) {
  FUSELINE_RETURN_IF_ERROR(ReadAlias(stop));
  FUSELINE_RETURN_IF_ERROR(Acknowledge());
  return taker_.LookBesides(*redis_, fetcher_);
}

Result<std::string> VersionFollower::NewestChangeId() {
  FUSELINE_ASSIGN_OR_FAIL(const RedisReply reply, redis_->Command({"XREVRANGE", keys_.changes(), "+", "-", "COUNT", "1"}));
  if (reply.elements.empty() || reply.elements[0].elements.empty()) return "0";
  return reply.elements[0].elements[0].text;
}

// Errors: only those of the connection. A version that is refused is no reason to leave it.
Status VersionFollower::ReadAlias(std::stop_token stop) {
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

Status VersionFollower::Take(const v1::AliasChange& change, std::stop_token stop) {
  if (last_.to_version() == change.to_version() && last_.manifest_sha256() == change.manifest_sha256()) {
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
  auto taken = taker_.Take(*version, change);
  if (!taken) return Refused(taken.error().reason, taken.error().status);

  Took(version->manifest, change);
  fetcher_.Hold(*std::move(version));
  return OkStatus();
}

Status VersionFollower::TakeForEver(const PolicyVersion& version) {
  v1::AliasChange change;
  change.set_to_version(version.manifest.version());
  auto taken = taker_.Take(version, change);
  if (!taken) return std::move(taken).error().status;
  Took(version.manifest, change);
  return OkStatus();
}

void VersionFollower::Took(const v1::PolicyManifest& manifest, const v1::AliasChange& change) {
  const std::int64_t wall_ms = clock_.wall_ms();
  last_ = change;
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
  log_.Info("serving_bridge.version_taken", "policy", what_.policy, "version", last_.to_version(), "epoch", last_.epoch(), "change",
            last_.change());
  if (what_.on_version) what_.on_version(manifest, last_, wall_ms);
}

// Errors: only those that leave the connection; the word is said by the next one then. A Redis that refuses it (no
// right, no memory) is asked again, and followed all the same.
Status VersionFollower::Acknowledge() {
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
    log_.Warn("serving_bridge.acknowledgement_refused", "policy", what_.policy, "why", reply.error().message);
  return OkStatus();
}

Status VersionFollower::NotFetched(const Refusal& refusal) {
  if (refusal.status.code != Code::kUnavailable) return Refused(refusal.reason, refusal.status);
  alias_bytes_.clear();  // Not looked at yet.
  return refusal.status;
}

Status VersionFollower::Refused(std::string_view reason, const Status& status) {
  MetricLabels labels = what_.labels;
  labels["reason"] = reason;
  metrics_.GetCounter("fuseline_serving_bridge_versions_refused_total", "versions that were not allowed to serve", labels).Increment();
  log_.Error("serving_bridge.version_refused", "policy", what_.policy, "reason", reason, "why", status.message, "serving", last_.to_version());
  status_.With([](RankerStatus& figures) { ++figures.refused; });
  retry_at_us_ = clock_.monotonic_us() + retry_.NextMs() * kMicrosPerMilli;
  return OkStatus();
}

// Says each outage and each return once.
void VersionFollower::SetConnected(bool connected, const Status& why) {
  const bool was = status_.With([&](RankerStatus& status) { return std::exchange(status.redis_connected, connected); });
  connected_gauge_.Set(connected ? 1 : 0);
  if (connected && !was) log_.Info("serving_bridge.redis_connected", "policy", what_.policy);
  if (!connected && (was || !said_outage_)) {
    lost_total_.Increment();
    log_.Warn("serving_bridge.redis_lost", "policy", what_.policy, "why", why.message, "serving", last_.to_version());
    said_outage_ = true;
  }
}

}  // namespace fuseline
