#include "fuseline/policy_store/aliases.h"

#include <algorithm>
#include <utility>

#include "alias_moves.h"
#include "fuseline/core/digest.h"
#include "number.h"
#include "scripts.h"

namespace fuseline {
namespace {

constexpr std::uint64_t kCountedMax = std::uint64_t{1} << 53;  // Beyond it Lua's numbers do not count.

Result<const v1::AliasChange*> LiveOf(const v1::AliasState& seen) {
  const v1::AliasChange* const live = FindAlias(seen, kLiveAlias);
  if (live == nullptr) return Error(Code::kNotFound, "the alias live points nowhere yet");
  return live;
}

AliasMove MoveOfLive(std::uint64_t version, v1::AliasChange::Cause cause, bool pinned) {
  return {.alias = std::string(kLiveAlias), .to_version = version, .cause = cause, .pinned = pinned};
}

}  // namespace

Result<v1::AliasState> ReadAliases(RedisConnection& redis, const PolicyKeys& keys) {
  const std::string epoch = keys.epoch(), change = keys.change(), aliases = keys.aliases();
  // Not MULTI: a server that is out of memory refuses to queue even a GET.
  FUSELINE_ASSIGN_OR_FAIL(const RedisReply reply, redis.Eval(ReadAliasesScript(), {epoch, change, aliases}, {}));
  const std::vector<RedisReply>& values = reply.elements;
  if (values.size() != 3 || !values[2].is_array()) return Error(Code::kCorrupt, "redis keys are not as expected:", aliases);
  v1::AliasState state;
  FUSELINE_ASSIGN_OR_FAIL(const std::uint64_t epoch_number, ParseNumber(values[0].is_nil() ? "0" : values[0].text));
  FUSELINE_ASSIGN_OR_FAIL(const std::uint64_t change_number, ParseNumber(values[1].is_nil() ? "0" : values[1].text));
  if (std::max(epoch_number, change_number) > kCountedMax) {
    return Error(Code::kCorrupt, "redis holds an epoch or change number that nobody has counted to:", epoch_number,
                 change_number);
  }
  state.set_epoch(epoch_number);
  state.set_change(change_number);
  for (std::size_t i = 1; i < values[2].elements.size(); i += 2) {
    FUSELINE_ASSIGN_OR_FAIL(v1::AliasChange alias, DecodeAliasChange(values[2].elements[i].text));
    *state.add_aliases() = std::move(alias);
  }
  std::sort(state.mutable_aliases()->begin(), state.mutable_aliases()->end(),
            [](const auto& a, const auto& b) { return a.alias() < b.alias(); });
  return state;
}

const v1::AliasChange* FindAlias(const v1::AliasState& state, std::string_view alias) {
  for (const v1::AliasChange& change : state.aliases()) {
    if (change.alias() == alias) return &change;
  }
  return nullptr;
}

Result<AliasMove> PlanPromotion(const v1::AliasState& seen, std::string_view alias, std::uint64_t version) {
  if (alias != kLiveAlias && alias != kCanaryAlias && alias != kShadowAlias) {
    return Error(Code::kInvalidInput, "alias must be live, canary or shadow:", alias);
  }
  const v1::AliasChange* const now = FindAlias(seen, alias);
  if (now != nullptr && now->to_version() == version) return Error(Code::kConflict, "alias", alias, "points there already:", version);
  return AliasMove{.alias = std::string(alias), .to_version = version, .pinned = now != nullptr && now->pinned()};
}

Result<AliasMove> PlanRollback(const v1::AliasState& seen, std::uint64_t version) {
  FUSELINE_ASSIGN_OR_FAIL(const v1::AliasChange* const live, LiveOf(seen));
  const v1::AliasChange* const last_good = FindAlias(seen, kLastGoodAlias);
  if (version == 0 && last_good == nullptr) return Error(Code::kNotFound, "no version served before this one: last_good points nowhere");
  const std::uint64_t to = version == 0 ? last_good->to_version() : version;
  if (to == live->to_version()) return Error(Code::kConflict, "live is at that version already; name another, or pin it:", to);
  return MoveOfLive(to, v1::AliasChange::ROLLED_BACK, /*pinned=*/true);
}

Result<AliasMove> PlanPin(const v1::AliasState& seen) {
  FUSELINE_ASSIGN_OR_FAIL(const v1::AliasChange* const live, LiveOf(seen));
  if (live->pinned()) return Error(Code::kConflict, "live is pinned already, by", live->who(), ":", live->why());
  return MoveOfLive(live->to_version(), v1::AliasChange::PINNED, /*pinned=*/true);
}

Result<AliasMove> PlanUnpin(const v1::AliasState& seen, std::uint64_t newest) {
  FUSELINE_ASSIGN_OR_FAIL(const v1::AliasChange* const live, LiveOf(seen));
  if (!live->pinned()) return Error(Code::kConflict, "live is not pinned");
  return MoveOfLive(std::max(newest, live->to_version()), v1::AliasChange::UNPINNED, /*pinned=*/false);
}

Result<v1::AliasState> MoveAlias(RedisConnection& redis, const PolicyKeys& keys, const v1::AliasState& seen, const AliasMove& move,
                                 std::int64_t changes_kept) {
  if (seen.epoch() == 0) return Error(Code::kNotFound, "redis holds no epoch of this policy: unfenced");
  const std::string manifest_key = keys.manifest(move.to_version);
  FUSELINE_ASSIGN_OR_FAIL(const RedisReply manifest, redis.Command({"GET", manifest_key}));
  if (manifest.is_nil()) return Error(Code::kNotFound, "redis has no version", move.to_version);
  AliasMoves moves(seen, seen.epoch(), seen.change() + 1);
  moves.Add(move, Sha256Of(manifest.text));
  FUSELINE_FAIL_IF_ERROR(moves.Run(redis, keys, changes_kept));
  return moves.after();
}

}  // namespace fuseline
