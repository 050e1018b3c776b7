#include "alias_moves.h"

#include <algorithm>
#include <utility>

#include "fuseline/proto/schema.h"
#include "scripts.h"

namespace fuseline {

AliasMoves::AliasMoves(v1::AliasState seen, std::uint64_t epoch, std::uint64_t first_change)
    : seen_change_(seen.change()), next_change_(first_change), after_(std::move(seen)) {
  after_.set_epoch(epoch);
}

void AliasMoves::Add(const AliasMove& move, std::string manifest_sha256) {
  auto& aliases = *after_.mutable_aliases();
  const auto at = std::lower_bound(aliases.begin(), aliases.end(), move.alias,
                                   [](const v1::AliasChange& change, const std::string& alias) { return change.alias() < alias; });
  const bool is_known = at != aliases.end() && at->alias() == move.alias;
  v1::AliasChange change;
  change.set_change(next_change_++);
  change.set_epoch(after_.epoch());
  change.set_alias(move.alias);
  change.set_from_version(is_known ? at->to_version() : 0);
  change.set_to_version(move.to_version);
  change.set_manifest_sha256(std::move(manifest_sha256));
  change.set_who(move.who);
  change.set_why(move.why);
  change.set_wall_ms(move.wall_ms);

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

}  // namespace fuseline
