#include "alias_moves.h"

#include <algorithm>
#include <utility>

#include "fuseline/proto/schema.h"
#include "scripts.h"

namespace fuseline {
namespace {

constexpr std::string_view kRestored = "restored from the archive; ";

}  // namespace

AliasMoves::AliasMoves(v1::AliasState seen, std::uint64_t epoch, std::uint64_t first_change)
    : seen_change_(seen.change()), next_change_(first_change), after_(std::move(seen)) {
  after_.set_epoch(epoch);
}

void AliasMoves::Add(const AliasMove& move, std::string manifest_sha256) {
  const v1::AliasChange* const found = FindAlias(after_, move.alias);
  const v1::AliasChange before = found == nullptr ? v1::AliasChange() : *found;
  v1::AliasChange change;
  change.set_alias(move.alias);
  change.set_to_version(move.to_version);
  change.set_manifest_sha256(std::move(manifest_sha256));
  change.set_who(move.who);
  change.set_why(move.why);
  change.set_wall_ms(move.wall_ms);
  change.set_cause(move.cause);
  change.set_pinned(move.pinned);
  Append(change);
  if (move.alias != kLiveAlias || before.to_version() == 0 || before.to_version() == move.to_version) return;

  if (move.cause == v1::AliasChange::ROLLED_BACK) {
    Follow(kLastGoodAlias, change, v1::AliasChange::ROLLED_BACK);
    // What was to prove itself may have the fault of what is rolled back.
    if (FindAlias(after_, kProvingAlias) != nullptr) Follow(kProvingAlias, change, v1::AliasChange::FOLLOWED);
    return;
  }
  const v1::AliasChange* const last_good = FindAlias(after_, kLastGoodAlias);
  const bool has_evidence = last_good != nullptr && last_good->cause() != v1::AliasChange::FOLLOWED;
  if (!has_evidence) Follow(kLastGoodAlias, before, v1::AliasChange::FOLLOWED);
}

// `where`: a change of `live`.
void AliasMoves::Follow(std::string_view alias, const v1::AliasChange& where, v1::AliasChange::Cause cause) {
  const v1::AliasChange* const now = FindAlias(after_, alias);
  if (now != nullptr && now->to_version() == where.to_version()) return;
  const v1::AliasChange* const live = FindAlias(after_, kLiveAlias);
  v1::AliasChange change;
  change.set_alias(std::string(alias));
  change.set_to_version(where.to_version());
  change.set_manifest_sha256(where.manifest_sha256());
  change.set_who(live->who());
  change.set_why("live moved to " + std::to_string(live->to_version()));
  change.set_wall_ms(live->wall_ms());
  change.set_cause(cause);
  Append(std::move(change));
}

void AliasMoves::Restate(const v1::AliasChange& change) {
  v1::AliasChange again = change;
  if (!again.why().starts_with(kRestored)) again.set_why(std::string(kRestored) + again.why());
  Append(std::move(again));
}

void AliasMoves::Append(v1::AliasChange change) {
  auto& aliases = *after_.mutable_aliases();
  const auto at = std::lower_bound(aliases.begin(), aliases.end(), change.alias(),
                                   [](const v1::AliasChange& other, const std::string& alias) { return other.alias() < alias; });
  const bool is_known = at != aliases.end() && at->alias() == change.alias();
  change.set_change(next_change_++);
  change.set_epoch(after_.epoch());
  change.set_from_version(is_known ? at->to_version() : 0);

  // An alias that is set to where it is leaves nothing.
  const std::uint64_t left = change.from_version() == change.to_version() ? 0 : change.from_version();
  words_.insert(words_.end(), {std::to_string(change.change()), change.alias(), CanonicalBytes(change), std::to_string(left)});
  versions_.push_back(change.to_version());
  after_.set_change(change.change());
  if (is_known) {
    *at = std::move(change);
    return;
  }
  *aliases.Add() = std::move(change);
  std::sort(aliases.begin(), aliases.end(), [](const auto& a, const auto& b) { return a.alias() < b.alias(); });
}

void AliasMoves::AppendWords(std::vector<std::string_view>& arguments) const {
  arguments.insert(arguments.end(), words_.begin(), words_.end());
}

Status AliasMoves::Run(RedisConnection& redis, const PolicyKeys& keys, std::int64_t changes_kept) const {
  std::vector<std::string> names = {keys.epoch(), keys.change(), keys.aliases(), keys.changes(), keys.left()};
  for (const std::uint64_t version : versions_) names.push_back(keys.manifest(version));
  const std::string epoch = std::to_string(after_.epoch());
  const std::string seen = std::to_string(seen_change_);
  const std::string kept = std::to_string(changes_kept);
  std::vector<std::string_view> arguments = {epoch, seen, kept};
  AppendWords(arguments);
  FUSELINE_ASSIGN_OR_RETURN([[maybe_unused]] const RedisReply reply, redis.Eval(MoveScript(), names, arguments));
  return OkStatus();
}

std::string NoteBytes(const ChangeNote& note, v1::AliasChange::Cause cause, const v1::AliasState& seen, std::uint64_t from,
                      std::uint64_t to) {
  v1::AliasChange change;
  change.set_change(seen.change());
  change.set_epoch(seen.epoch());
  change.set_from_version(from);
  change.set_to_version(to);
  change.set_who(note.who);
  change.set_why(note.why);
  change.set_wall_ms(note.wall_ms);
  change.set_cause(cause);
  return CanonicalBytes(change);
}

}  // namespace fuseline
