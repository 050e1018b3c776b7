#include "fuseline/policy_store/retention.h"

#include <charconv>
#include <map>
#include <set>
#include <string>
#include <string_view>

#include "alias_moves.h"
#include "fuseline/policy_store/experiments.h"
#include "number.h"
#include "scripts.h"

namespace fuseline {
namespace {

// The script has the last word.
Result<bool> Delete(RedisConnection& redis, const PolicyKeys& keys, std::uint64_t version, const v1::AliasState& seen,
                    std::uint64_t epoch, const RetentionRule& rule, const ChangeNote* note) {
  const std::string manifest_key = keys.manifest(version);
  FUSELINE_ASSIGN_OR_FAIL(const RedisReply bytes, redis.Command({"GET", manifest_key}));
  std::vector<std::string> names = {keys.epoch(), keys.change(), keys.versions(), keys.left(), keys.changes(), manifest_key,
                                    keys.signature(version), keys.delta(version)};
  if (!bytes.is_nil()) {
    FUSELINE_ASSIGN_OR_FAIL(const v1::PolicyManifest manifest, DecodeManifest(bytes.text, {}, version));
    for (int i = 0; i < manifest.parts_size(); ++i) names.push_back(keys.part(version, static_cast<std::size_t>(i)));
  }
  const std::string epoch_text = std::to_string(epoch), change = std::to_string(seen.change());
  const std::string version_text = std::to_string(version), keep_ms = std::to_string(rule.keep_pointed_ms);
  const std::string kept = std::to_string(note == nullptr ? 0 : note->changes_kept);
  const std::string note_bytes = note == nullptr ? std::string() : NoteBytes(*note, v1::AliasChange::DELETED, seen, /*from=*/version, /*to=*/0);
  FUSELINE_ASSIGN_OR_FAIL(const RedisReply reply,
                          redis.Eval(DeleteScript(), names, {epoch_text, change, version_text, keep_ms, kept, note_bytes}));
  return reply.integer == 1;
}

// Whether what an alias left at `left_ms` (as Redis holds it: any number at all, or none) must stay at `now_ms`. In
// floating point, as the script that deletes: nothing overflows. What is no time keeps its version: it takes more
// than garbage to delete one.
bool MustStay(std::string_view left_ms, double now_ms, const RetentionRule& rule) {
  double left = 0;
  const auto [end, error] = std::from_chars(left_ms.data(), left_ms.data() + left_ms.size(), left);
  if (error != std::errc() || end != left_ms.data() + left_ms.size()) return true;
  return !(now_ms - left >= static_cast<double>(rule.keep_pointed_ms));
}

// An arm may serve a version that no alias points to.
Status KeepThoseOfExperiments(RedisConnection& redis, const PolicyKeys& keys, std::set<std::uint64_t>& kept) {
  std::map<std::string, std::string> unreadable;
  FUSELINE_ASSIGN_OR_RETURN(const auto experiments, ReadExperiments(redis, keys, &unreadable));
  if (!unreadable.empty()) {
    return ErrorStatus(Code::kCorrupt, "nothing is deleted while nobody can say what an experiment serves; it cannot be read:",
                       unreadable.begin()->first);
  }
  for (const auto& [name, experiment] : experiments) {
    if (experiment.state() != v1::Experiment::RUNNING && experiment.state() != v1::Experiment::PAUSED) continue;
    for (const v1::Arm& arm : experiment.arms()) kept.insert(arm.version());
    for (const v1::Arm& shadow : experiment.shadows()) kept.insert(shadow.version());
  }
  return OkStatus();
}

}  // namespace

Result<std::vector<std::uint64_t>> OldVersions(RedisConnection& redis, const PolicyKeys& keys, const v1::AliasState& seen,
                                               const RetentionRule& rule) {
  const std::string versions = keys.versions(), left = keys.left();
  const std::string last = std::to_string(-rule.keep_versions - 1);
  FUSELINE_ASSIGN_OR_FAIL(
      const std::vector<RedisReply> replies,
      redis.Pipeline({{"ZRANGE", versions, "0", last}, {"ZRANGE", left, "0", "-1", "WITHSCORES"}, {"TIME"}}));
  std::set<std::uint64_t> kept;
  for (const v1::AliasChange& alias : seen.aliases()) kept.insert(alias.to_version());
  FUSELINE_FAIL_IF_ERROR(KeepThoseOfExperiments(redis, keys, kept));
  if (replies[2].elements.empty()) return Error(Code::kUnavailable, "Redis does not tell its time");
  FUSELINE_ASSIGN_OR_FAIL(const std::uint64_t now_s, ParseNumber(replies[2].elements[0].text));
  const double now_ms = 1'000 * static_cast<double>(now_s);
  for (std::size_t i = 0; i + 1 < replies[1].elements.size(); i += 2) {
    const auto version = ParseNumber(replies[1].elements[i].text);
    if (version && MustStay(replies[1].elements[i + 1].text, now_ms, rule)) kept.insert(*version);
  }
  std::vector<std::uint64_t> candidates;
  for (const RedisReply& reply : replies[0].elements) {
    const auto version = ParseNumber(reply.text);
    if (version && !kept.contains(*version)) candidates.push_back(*version);
  }
  return candidates;
}

Result<std::vector<std::uint64_t>> DeleteOldVersions(RedisConnection& redis, const PolicyKeys& keys, const v1::AliasState& seen,
                                                     std::uint64_t epoch, const RetentionRule& rule, const ChangeNote* note) {
  FUSELINE_ASSIGN_OR_FAIL(const std::vector<std::uint64_t> candidates, OldVersions(redis, keys, seen, rule));
  std::vector<std::uint64_t> deleted;
  for (const std::uint64_t version : candidates) {
    FUSELINE_ASSIGN_OR_FAIL(const bool is_gone, Delete(redis, keys, version, seen, epoch, rule, note));
    if (is_gone) deleted.push_back(version);
  }
  return deleted;
}

}  // namespace fuseline
