#include "version_fetcher.h"

#include <utility>
#include <vector>

#include "fuseline/fusion/version_delta.h"

namespace fuseline {
namespace {

constexpr const char* kFetched = "fuseline_serving_bridge_versions_fetched_total";
constexpr const char* kFetchedHelp = "versions that came whole, by what was read";

tl::unexpected<Refusal> Refuse(Status status) {
  const bool is_damaged = status.code == Code::kCorrupt;
  const std::string_view reason = status.code == Code::kNotFound ? "absent" : is_damaged ? "digest" : "reply";
  return tl::unexpected<Refusal>(Refusal{reason, std::move(status)});
}

std::string TextOf(RedisReply& reply) { return reply.is_string() ? std::move(reply.text) : std::string(); }

MetricLabels With(MetricLabels labels, const std::string& name, const std::string& value) {
  labels[name] = value;
  return labels;
}

}  // namespace

VersionFetcher::VersionFetcher(const std::string& policy, const MetricLabels& labels, const PublicKeys& public_keys, Log& log,
                               Metrics& metrics)
    : keys_(policy),
      public_keys_(public_keys),
      log_(log),
      by_delta_total_(metrics.GetCounter(kFetched, kFetchedHelp, With(labels, "by", "delta"))),
      by_parts_total_(metrics.GetCounter(kFetched, kFetchedHelp, With(labels, "by", "parts"))),
      deltas_refused_total_(metrics.GetCounter("fuseline_serving_bridge_deltas_refused_total",
                                               "deltas of no use, in whose place the parts were read", labels)) {}

tl::expected<PolicyVersion, Refusal> VersionFetcher::Fetch(RedisConnection& redis, const v1::AliasChange& change) {
  const std::uint64_t number = change.to_version();
  auto head = ReadHead(redis, number);
  if (!head) return Refuse(std::move(head).error());
  if (head->manifest.empty()) return Refuse(ErrorStatus(Code::kNotFound, "manifest is not in Redis, version:", number));
  if (!public_keys_.empty() && !public_keys_.Verify(head->manifest, head->signature)) {
    const std::string_view why = head->signature.empty() ? "version is not signed:" : "version is not signed by one of policy_store.public_keys:";
    return tl::unexpected<Refusal>(Refusal{"signature", ErrorStatus(Code::kCorrupt, why, number)});
  }
  auto manifest = DecodeManifest(head->manifest, change.manifest_sha256(), number);
  if (!manifest) return Refuse(std::move(manifest).error());
  if (!head->delta.empty()) {
    if (auto version = ByDelta(head->delta, *manifest)) {
      by_delta_total_.Increment();
      return *std::move(version);
    }
  }
  auto version = ByParts(redis, *std::move(manifest));
  if (!version) return Refuse(std::move(version).error());
  by_parts_total_.Increment();
  return *std::move(version);
}

// Errors: those of the connection.
Result<VersionFetcher::Head> VersionFetcher::ReadHead(RedisConnection& redis, std::uint64_t version) {
  const std::string manifest = keys_.manifest(version), signature = keys_.signature(version), delta = keys_.delta(version);
  const std::string base = held_ ? std::to_string(held_->manifest.version()) : std::string();
  std::vector<RedisCommand> commands = {{"GET", manifest}, {"GET", signature}};
  if (held_) commands.push_back({"HGET", delta, base});
  FUSELINE_ASSIGN_OR_FAIL(std::vector<RedisReply> replies, redis.Pipeline(commands));
  return Head{TextOf(replies[0]), TextOf(replies[1]), held_ ? TextOf(replies[2]) : std::string()};
}

// Nothing, said and counted, if the delta is of no use. REQUIRES: held_.
std::optional<PolicyVersion> VersionFetcher::ByDelta(const std::string& bytes, const v1::PolicyManifest& manifest) {
  v1::VersionDelta delta;
  auto version = delta.ParseFromString(bytes) ? ApplyDelta(delta, *held_, manifest) : Error(Code::kCorrupt, "not a delta, bytes:", bytes.size());
  if (version) return *std::move(version);
  deltas_refused_total_.Increment();
  log_.Warn("serving_bridge.delta_refused", "version", manifest.version(), "base", held_->manifest.version(), "why", version.error().message);
  return std::nullopt;
}

// The manifest's sizes are within limits, and no part is kept that has another one: so this holds no more than was
// promised and one reply. Errors: those of the connection; kNotFound if a part is not there; kCorrupt if a size or
// digest differs.
Result<PolicyVersion> VersionFetcher::ByParts(RedisConnection& redis, v1::PolicyManifest manifest) {
  const std::uint64_t number = manifest.version();
  std::vector<std::string> parts;
  for (int i = 0; i < manifest.parts_size(); ++i) {
    FUSELINE_ASSIGN_OR_FAIL(RedisReply part, redis.Command({"GET", keys_.part(number, static_cast<std::size_t>(i))}));
    if (!part.is_string()) return Error(Code::kNotFound, "part is not in Redis, version and part:", number, i);
    if (part.text.size() != manifest.parts(i).size_bytes()) {
      return Error(Code::kCorrupt, "part has another size than the manifest says, version and part:", number, i);
    }
    parts.push_back(std::move(part.text));
  }
  return AssembleVersion(std::move(manifest), parts);
}

}  // namespace fuseline
