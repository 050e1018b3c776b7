#include "fuseline/policy_store/publisher.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "alias_moves.h"
#include "fuseline/core/check.h"
#include "fuseline/core/digest.h"
#include "fuseline/fusion/policy_keys.h"
#include "fuseline/fusion/version_delta.h"
#include "fuseline/policy_store/aliases.h"
#include "fuseline/policy_store/fetch.h"
#include "fuseline/proto/schema.h"
#include "scripts.h"
#include "upload.h"

namespace fuseline {
namespace {

// Room for alias moves by operators that Redis forgot before this publisher saw them.
constexpr std::uint64_t kRestoreMargin = 1000;

// A server that may evict loses parts and pointers without a word.
Status CheckNeverEvicts(RedisConnection& redis) {
  FUSELINE_ASSIGN_OR_RETURN(const RedisReply info, redis.Command({"INFO", "memory"}));
  const std::string_view policy = RedisInfoField(info.text, "maxmemory_policy");
  if (policy == "noeviction") return OkStatus();
  return ErrorStatus(Code::kInvalidInput, "redis may evict keys; run CONFIG SET maxmemory-policy noeviction, and set it in redis.conf; now:",
                     policy);
}

// How far a history of alias changes has come. The epoch goes first: a writer that was replaced may have filled an emptied
// Redis again, with numbers as high as it pleased.
std::pair<std::uint64_t, std::uint64_t> PositionOf(const v1::AliasState& state) {
  std::uint64_t epoch = 0;
  for (const v1::AliasChange& alias : state.aliases()) epoch = std::max(epoch, alias.epoch());
  return {epoch, state.change()};
}

// Redis is a cache: what nobody can read there is lost.
Status AsLoss(const Status& status) {
  return status.code == Code::kCorrupt ? ErrorStatus(Code::kNotFound, "redis holds what cannot be read:", status.message) : status;
}

}  // namespace

struct Publisher::Impl {
  PublisherOptions options;
  PolicyKeys keys;
  Archive& archive;
  RedisFactory connect;
  const Clock& clock;
  Log& log;
  Counter published, deltas, refused, restored, deleted;
  Histogram publish_ms;
  std::optional<RedisConnection> redis;
  std::uint64_t epoch = 0;  // 0: not claimed.
  v1::AliasState known;     // What Redis said last, or what our last script made it.
  std::map<std::uint64_t, std::vector<std::size_t>> sizes_of;  // Manifest, signature and parts of the versions pointed to; as Check needs them.

  Impl(PublisherOptions given, Archive& to, RedisFactory factory, const Clock& a_clock, Log& a_log, Metrics& metrics);

  Status Connect();
  Status Adopt(v1::AliasState state);
  Status Refresh();
  Status PutParts(const ArchivedVersion& stored) { return fuseline::PutParts(*redis, keys, epoch, stored); }
  Result<bool> Complete(const ArchivedVersion& stored, const v1::AliasState& seen, const AliasMoves* moves) {
    return CompleteVersion(*redis, keys, seen, epoch, stored, moves, options.changes_kept);
  }
  Result<std::size_t> PutDelta(const ArchivedVersion& stored, std::uint64_t base);
  // The versions that aliases point to and that are not whole in Redis.
  Result<std::set<std::uint64_t>> Incomplete();
  Result<Published> Publish(const ArchivedVersion& stored, PointLive point);
  Status ForgetUnreadable();
  Status Spare(std::uint64_t version);
  Status Upload(const std::set<std::uint64_t>& versions, const v1::AliasState& seen);
  Status RestoreFrom(const v1::AliasState& saved, const v1::AliasState& seen);
  // What follows a script for which `after` was saved ahead. An error that leaves its effect open changes nothing here:
  // the next Refresh sees what became of it.
  Status Settle(const Status& answer, const v1::AliasState& after);
};

Publisher::Impl::Impl(PublisherOptions given, Archive& to, RedisFactory factory, const Clock& a_clock, Log& a_log, Metrics& metrics)
    : options(std::move(given)),
      keys(options.policy),
      archive(to),
      connect(std::move(factory)),
      clock(a_clock),
      log(a_log),
      published(metrics.GetCounter("fuseline_policy_store_published_total", "versions made complete in Redis")),
      deltas(metrics.GetCounter("fuseline_policy_store_deltas_total", "versions published as what changed, too")),
      refused(metrics.GetCounter("fuseline_policy_store_refused_total", "publications that Redis' scripts refused")),
      restored(metrics.GetCounter("fuseline_policy_store_restored_total", "restorations of Redis from the archive")),
      deleted(metrics.GetCounter("fuseline_policy_store_deleted_total", "versions deleted from Redis by retention")),
      publish_ms(metrics.GetHistogram("fuseline_policy_store_publish_ms", "archive and Redis, of one version",
                                      {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000})) {}

Status Publisher::Impl::Connect() {
  if (redis && redis->connected()) return OkStatus();
  FUSELINE_ASSIGN_OR_RETURN(redis, connect());
  // Of a cluster, the node that has the keys is the one to be checked: the first word about a key leads there.
  FUSELINE_ASSIGN_OR_RETURN([[maybe_unused]] const RedisReply reply, redis->Command({"GET", keys.epoch()}));
  const Status checked = CheckNeverEvicts(*redis);
  if (!checked.ok()) redis.reset();
  return checked;
}

// Redis decides about the aliases. What they point to must be restorable from here, so it is fetched before it is believed.
Status Publisher::Impl::Adopt(v1::AliasState state) {
  FUSELINE_ASSIGN_OR_RETURN(const std::vector<std::uint64_t> stored, archive.List());
  for (const v1::AliasChange& alias : state.aliases()) {
    if (std::binary_search(stored.begin(), stored.end(), alias.to_version())) continue;
    const auto version = FetchVersion(*redis, keys, alias.to_version(), alias.manifest_sha256(), options.trusted);
    if (!version && (version.error().code == Code::kNotFound || version.error().code == Code::kCorrupt)) {
      return ErrorStatus(Code::kNotFound, "alias points to what cannot be used:", alias.alias(), version.error().message);
    }
    if (!version) return version.error();
    FUSELINE_RETURN_IF_ERROR(archive.Put(version->version));
  }
  FUSELINE_RETURN_IF_ERROR(archive.SaveAliases(state));
  known = std::move(state);
  return OkStatus();
}

Status Publisher::Impl::Refresh() {
  FUSELINE_CHECK(epoch != 0);
  FUSELINE_RETURN_IF_ERROR(Connect());
  auto read = ReadAliases(*redis, keys);
  if (!read) return AsLoss(read.error());
  v1::AliasState seen = *std::move(read);
  if (seen.epoch() > epoch) return ErrorStatus(Code::kConflict, "fenced: epoch", epoch, "was followed by", seen.epoch());
  if (seen.epoch() < epoch) return ErrorStatus(Code::kNotFound, "unfenced: redis has lost epoch", epoch);
  if (PositionOf(seen) < PositionOf(known)) {
    return ErrorStatus(Code::kNotFound, "behind: redis has lost change", known.change());
  }
  return CanonicalBytes(seen) == CanonicalBytes(known) ? OkStatus() : Adopt(std::move(seen));
}

Result<std::set<std::uint64_t>> Publisher::Impl::Incomplete() {
  std::vector<std::pair<std::uint64_t, std::size_t>> asked;  // Version and size, parallel to the commands.
  std::vector<std::string> names, versions;
  std::map<std::uint64_t, std::vector<std::size_t>> still;
  for (const v1::AliasChange& alias : known.aliases()) {
    const std::uint64_t number = alias.to_version();
    if (still.contains(number)) continue;
    auto sizes = sizes_of.find(number);
    if (sizes == sizes_of.end()) {
      FUSELINE_ASSIGN_OR_FAIL(const ArchivedVersion stored, archive.Get(number));
      std::vector<std::size_t> made = {stored.manifest_bytes.size(), stored.version.signature.size()};
      for (const v1::Part& part : stored.version.manifest.parts()) made.push_back(part.size_bytes());
      sizes = sizes_of.emplace(number, std::move(made)).first;
    }
    still.emplace(number, sizes->second);
    for (std::size_t i = 0; i < sizes->second.size(); ++i) {
      asked.emplace_back(number, sizes->second[i]);
      names.push_back(i == 0 ? keys.manifest(number) : i == 1 ? keys.signature(number) : keys.part(number, i - 2));
    }
    versions.push_back(std::to_string(number));
  }
  sizes_of = std::move(still);

  std::vector<RedisCommand> commands;
  const std::string sorted_set = keys.versions();
  for (const std::string& name : names) commands.push_back({"STRLEN", name});
  for (const std::string& version : versions) commands.push_back({"ZSCORE", sorted_set, version});
  std::set<std::uint64_t> incomplete;
  if (commands.empty()) return incomplete;
  FUSELINE_ASSIGN_OR_FAIL(const std::vector<RedisReply> replies, redis->Pipeline(commands));
  for (std::size_t i = 0; i < asked.size(); ++i) {
    const bool is_asked = asked[i].second > 0;  // Not for a signature that the archive has not.
    if (is_asked && static_cast<std::size_t>(replies[i].integer) != asked[i].second) incomplete.insert(asked[i].first);
  }
  for (std::size_t i = 0; i < versions.size(); ++i) {
    if (!replies[asked.size() + i].is_string()) incomplete.insert(std::stoull(versions[i]));
  }
  return incomplete;
}

// Returns the delta's size; 0 where there is none: it would save little, or the base has another shape or cannot be read.
Result<std::size_t> Publisher::Impl::PutDelta(const ArchivedVersion& stored, std::uint64_t base) {
  const std::size_t whole = stored.version.weights.size();
  if (options.delta_min_bytes == 0 || whole < static_cast<std::size_t>(options.delta_min_bytes)) return 0;
  if (base == 0 || base == stored.version.manifest.version()) return 0;
  const auto from = archive.Get(base);
  if (!from) return 0;
  const auto delta = MakeDelta(from->version, stored.version);
  if (!delta || delta->difference().size() > whole / 4 * 3) return 0;
  FUSELINE_FAIL_IF_ERROR(fuseline::PutDelta(*redis, keys, epoch, stored, *delta));
  deltas.Increment();
  return delta->difference().size();
}

Status Publisher::Impl::Settle(const Status& answer, const v1::AliasState& after) {
  if (answer.ok()) known = after;
  if (answer.code == Code::kConflict || answer.code == Code::kNotFound) FUSELINE_RETURN_IF_ERROR(archive.SaveAliases(known));
  return answer;
}

Result<Published> Publisher::Impl::Publish(const ArchivedVersion& stored, PointLive point) {
  FUSELINE_FAIL_IF_ERROR(Refresh());
  if (point == PointLive::kAgain) FUSELINE_FAIL_IF_ERROR(Spare(stored.version.manifest.version()));
  FUSELINE_FAIL_IF_ERROR(PutParts(stored));
  const v1::AliasChange* const live = FindAlias(known, kLiveAlias);
  if (point != PointLive::kYes || (live != nullptr && live->pinned())) {
    FUSELINE_ASSIGN_OR_FAIL(const bool was_there, Complete(stored, known, nullptr));
    return Published{.was_there = was_there, .change = known.change()};
  }
  AliasMoves moves(known, epoch, known.change() + 1);
  moves.Add({.alias = std::string(kLiveAlias),
             .to_version = stored.version.manifest.version(),
             .who = options.who,
             .why = "published",
             .wall_ms = clock.wall_ms(),
             .cause = v1::AliasChange::PUBLISHED},
            Sha256Of(stored.manifest_bytes));
  FUSELINE_ASSIGN_OR_FAIL(const std::size_t delta_bytes, PutDelta(stored, live == nullptr ? 0 : live->to_version()));
  // Remembered ahead of Redis, so that no change number that a ranker may have seen is ever given again.
  FUSELINE_FAIL_IF_ERROR(archive.SaveAliases(moves.after()));
  const auto was_there = Complete(stored, known, &moves);
  if (was_there && *was_there) {
    FUSELINE_FAIL_IF_ERROR(archive.SaveAliases(known));
    return Published{.was_there = true, .change = known.change()};
  }
  FUSELINE_FAIL_IF_ERROR(Settle(was_there ? OkStatus() : was_there.error(), moves.after()));
  return Published{.was_there = false, .change = known.change(), .delta_bytes = delta_bytes};
}

// What is taken out here comes back from the archive as all that is lost does.
Status Publisher::Impl::ForgetUnreadable() {
  FUSELINE_ASSIGN_OR_RETURN(const RedisReply aliases, redis->Command({"HGETALL", keys.aliases()}));
  FUSELINE_ASSIGN_OR_RETURN(const std::vector<std::uint64_t> versions, PublishedVersions(*redis, keys));
  std::vector<std::string> names = {keys.epoch(), keys.change(), keys.aliases(), keys.versions()};
  std::vector<std::string> words = {std::to_string(epoch)};
  for (const std::uint64_t version : versions) {
    FUSELINE_ASSIGN_OR_RETURN(const RedisReply bytes, redis->Command({"GET", keys.manifest(version)}));
    if (bytes.is_nil() || DecodeManifest(bytes.text, {}, version)) continue;
    names.push_back(keys.manifest(version));
    words.push_back(std::to_string(version));
  }
  for (std::size_t i = 0; i + 1 < aliases.elements.size(); i += 2) {
    if (DecodeAliasChange(aliases.elements[i + 1].text)) continue;
    words.insert(words.end(), {aliases.elements[i].text, aliases.elements[i + 1].text});
  }
  const std::vector<std::string_view> arguments(words.begin(), words.end());
  FUSELINE_ASSIGN_OR_RETURN([[maybe_unused]] const RedisReply reply, redis->Eval(ForgetScript(), names, arguments));
  return OkStatus();
}

// Redis has forgotten when an alias left it: perhaps just now.
Status Publisher::Impl::Spare(std::uint64_t version) {
  const std::string mine = std::to_string(epoch), number = std::to_string(version);
  FUSELINE_ASSIGN_OR_RETURN([[maybe_unused]] const RedisReply reply,
                            redis->Eval(SpareScript(), {keys.epoch(), keys.left()}, {mine, number}));
  return OkStatus();
}

Status Publisher::Impl::Upload(const std::set<std::uint64_t>& versions, const v1::AliasState& seen) {
  for (const std::uint64_t version : versions) {
    FUSELINE_ASSIGN_OR_RETURN(const ArchivedVersion stored, archive.Get(version));
    FUSELINE_RETURN_IF_ERROR(Spare(version));
    FUSELINE_RETURN_IF_ERROR(PutParts(stored));
    FUSELINE_ASSIGN_OR_RETURN([[maybe_unused]] const bool was_there, Complete(stored, seen, nullptr));
  }
  return OkStatus();
}

Status Publisher::Impl::RestoreFrom(const v1::AliasState& saved, const v1::AliasState& seen) {
  AliasMoves moves(seen, epoch, std::max(saved.change(), seen.change()) + kRestoreMargin);
  std::set<std::uint64_t> versions;
  for (const v1::AliasChange& alias : saved.aliases()) versions.insert(alias.to_version());
  FUSELINE_RETURN_IF_ERROR(Upload(versions, seen));
  for (const v1::AliasChange& alias : saved.aliases()) moves.Restate(alias);
  FUSELINE_RETURN_IF_ERROR(archive.SaveAliases(moves.after()));
  known = saved;  // What the file goes back to, should the script refuse.
  return Settle(moves.Run(*redis, keys, options.changes_kept), moves.after());
}

Publisher::Publisher(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Publisher::Publisher(Publisher&&) noexcept = default;
Publisher& Publisher::operator=(Publisher&&) noexcept = default;
Publisher::~Publisher() = default;

const v1::AliasState& Publisher::aliases() const { return impl_->known; }

Result<Publisher> Publisher::Open(PublisherOptions options, Archive& archive, RedisFactory connect, const Clock& clock, Log& log,
                                  Metrics& metrics) {
  FUSELINE_FAIL_IF_ERROR(ValidatePolicyName(options.policy));
  if (options.retention.keep_versions < 1) return Error(Code::kInvalidInput, "policy_store.keep_versions must be 1 or more");
  auto impl = std::make_unique<Impl>(std::move(options), archive, std::move(connect), clock, log, metrics);
  FUSELINE_ASSIGN_OR_FAIL(impl->known, archive.LoadAliases());
  FUSELINE_FAIL_IF_ERROR(impl->Connect());
  return Publisher(std::move(impl));
}

Status Publisher::Claim(std::uint64_t epoch) {
  if (epoch == 0) return ErrorStatus(Code::kInvalidInput, "an epoch is 1 or later");
  FUSELINE_RETURN_IF_ERROR(impl_->Connect());
  const std::string text = std::to_string(epoch);
  FUSELINE_ASSIGN_OR_RETURN([[maybe_unused]] const RedisReply reply,
                            impl_->redis->Eval(ClaimScript(), {impl_->keys.epoch()}, {text}));
  impl_->epoch = epoch;
  impl_->log.Info("policy_store.policy_claimed", "policy", impl_->options.policy, "epoch", epoch);
  return impl_->Refresh();
}

Result<Published> Publisher::Publish(const PolicyVersion& version, PointLive point) {
  const std::int64_t start_us = impl_->clock.monotonic_us();
  FUSELINE_FAIL_IF_ERROR(impl_->archive.Put(version, impl_->options.signing_key));
  // From here on the archive's bytes are the version: its manifest has the parts.
  FUSELINE_ASSIGN_OR_FAIL(const ArchivedVersion stored, impl_->archive.Get(version.manifest.version()));
  auto published = impl_->Publish(stored, point);
  if (!published && published.error().code == Code::kConflict) impl_->refused.Increment();
  if (!published) return published;
  impl_->publish_ms.Observe(static_cast<double>(impl_->clock.monotonic_us() - start_us) / 1000);
  if (!published->was_there) impl_->published.Increment();
  impl_->log.Info("policy_store.version_published", "version", version.manifest.version(), "live", point == PointLive::kYes,
                  "change", published->change, "was_there", published->was_there, "delta_bytes", published->delta_bytes);
  return published;
}

Status Publisher::Check() {
  FUSELINE_RETURN_IF_ERROR(impl_->Refresh());
  FUSELINE_ASSIGN_OR_RETURN(const std::set<std::uint64_t> incomplete, impl_->Incomplete());
  if (incomplete.empty()) return OkStatus();
  return ErrorStatus(Code::kNotFound, "redis lacks a part of version", *incomplete.begin());
}

Status Publisher::Restore() {
  FUSELINE_CHECK(impl_->epoch != 0);
  if (const Status claimed = Claim(impl_->epoch); !claimed.ok() && claimed.code != Code::kNotFound) return claimed;
  FUSELINE_RETURN_IF_ERROR(impl_->ForgetUnreadable());
  const Status whole = impl_->Refresh();
  if (!whole.ok() && whole.code != Code::kNotFound) return whole;
  if (whole.ok()) {
    FUSELINE_ASSIGN_OR_RETURN(const std::set<std::uint64_t> incomplete, impl_->Incomplete());
    FUSELINE_RETURN_IF_ERROR(impl_->Upload(incomplete, impl_->known));
    if (incomplete.empty()) return OkStatus();  // Nothing was lost but, perhaps, the claim.
  } else {
    FUSELINE_ASSIGN_OR_RETURN(const v1::AliasState saved, impl_->archive.LoadAliases());
    const auto seen = ReadAliases(*impl_->redis, impl_->keys);
    if (!seen) return AsLoss(seen.error());
    FUSELINE_RETURN_IF_ERROR(impl_->RestoreFrom(saved, *seen));
  }
  impl_->restored.Increment();
  impl_->log.Warn("policy_store.redis_restored", "policy", impl_->options.policy, "aliases", impl_->known.aliases_size(), "change",
                  impl_->known.change());
  return OkStatus();
}

Result<std::vector<std::uint64_t>> Publisher::Retain() {
  FUSELINE_FAIL_IF_ERROR(impl_->Refresh());
  FUSELINE_ASSIGN_OR_FAIL(std::vector<std::uint64_t> deleted,
                          DeleteOldVersions(*impl_->redis, impl_->keys, impl_->known, impl_->epoch, impl_->options.retention,
                                            /*note=*/nullptr));
  impl_->deleted.Increment(static_cast<double>(deleted.size()));
  FUSELINE_ASSIGN_OR_FAIL(const std::vector<std::uint64_t> left, PublishedVersions(*impl_->redis, impl_->keys));
  std::set<std::uint64_t> kept;
  for (const v1::AliasChange& alias : impl_->known.aliases()) kept.insert(alias.to_version());
  kept.insert(left.begin(), left.end());
  const auto keep = static_cast<std::uint64_t>(impl_->options.retention.keep_versions);
  FUSELINE_ASSIGN_OR_FAIL([[maybe_unused]] const auto pruned, impl_->archive.Prune(keep, kept));
  return deleted;
}

}  // namespace fuseline
