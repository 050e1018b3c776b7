#include "version_text.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdio>
#include <map>
#include <sstream>

#include <nlohmann/json.hpp>

#include "fuseline/core/digest.h"
#include "fuseline/proto/settings.h"
#include "time_text.h"

namespace fuseline {
namespace {

using Json = nlohmann::ordered_json;

std::string Formatted(const char* format, auto... values) {
  std::array<char, 512> text{};
  std::snprintf(text.data(), text.size(), format, values...);
  return text.data();
}

std::string AliasesOf(std::uint64_t version, const v1::AliasState& aliases) {
  std::string text;
  for (const v1::AliasChange& alias : aliases.aliases()) {
    if (alias.to_version() != version) continue;
    text += (text.empty() ? "" : " ") + alias.alias() + (alias.pinned() ? "(pinned)" : "");
  }
  return text;
}

std::uint64_t BytesOf(const v1::PolicyManifest& manifest) {
  std::uint64_t bytes = 0;
  for (const v1::Part& part : manifest.parts()) bytes += part.size_bytes();
  return bytes;
}

std::string CauseText(v1::AliasChange::Cause cause) {
  std::string text = v1::AliasChange::Cause_Name(cause);
  for (char& c : text) c = c == '_' ? ' ' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

Json ChangeJson(const v1::AliasChange& change) {
  return {{"alias", change.alias()},       {"version", change.to_version()}, {"from", change.from_version()},
          {"pinned", change.pinned()},     {"change", change.change()},      {"epoch", change.epoch()},
          {"cause", CauseText(change.cause())}, {"who", change.who()},       {"why", change.why()},
          {"wall_ms", change.wall_ms()}};
}

Json AliasesJson(const v1::AliasState& aliases) {
  Json json = Json::array();
  for (const v1::AliasChange& alias : aliases.aliases()) json.push_back(ChangeJson(alias));
  return json;
}

Json AliasNamesJson(std::uint64_t version, const v1::AliasState& aliases) {
  Json json = Json::array();
  for (const v1::AliasChange& alias : aliases.aliases()) {
    if (alias.to_version() == version) json.push_back(alias.alias());
  }
  return json;
}

}  // namespace

std::map<std::string, std::string> SettingLines(const v1::Config& config) {
  std::map<std::string, std::string> lines;
  std::istringstream yaml(PrintSettings(config, /*with_help=*/false));
  std::string section;
  for (std::string line; std::getline(yaml, line);) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos || line.starts_with('#')) continue;
    if (!line.starts_with(' ')) section = line.substr(0, colon);
    else lines[section + '.' + line.substr(2, colon - 2)] = line.substr(std::min(line.size(), colon + 2));
  }
  return lines;
}

namespace {

// What two manifests have different, in words: line → (first, second).
std::map<std::string, std::pair<std::string, std::string>> ManifestDifferences(const v1::PolicyManifest& a, const v1::PolicyManifest& b) {
  std::map<std::string, std::pair<std::string, std::string>> lines;
  const auto add = [&](const std::string& name, const std::string& first, const std::string& second) {
    if (first != second) lines[name] = {first, second};
  };
  const v1::Lineage &from = a.lineage(), &to = b.lineage();
  add("algorithm", a.algorithm(), b.algorithm());
  add("preset", a.preset(), b.preset());
  add("schema", ToHex(a.schema_digest()).substr(0, 16), ToHex(b.schema_digest()).substr(0, 16));
  add("lineage.parent", std::to_string(from.parent()), std::to_string(to.parent()));
  add("lineage.root", from.root(), to.root());
  add("lineage.trajectories_taken", std::to_string(from.trajectories_taken()), std::to_string(to.trajectories_taken()));
  add("lineage.update_steps", std::to_string(from.update_steps()), std::to_string(to.update_steps()));
  add("lineage.seed", std::to_string(from.seed()), std::to_string(to.seed()));
  add("lineage.build", from.build(), to.build());
  add("lineage.blas", from.blas(), to.blas());
  add("lineage.threads", std::to_string(from.threads()), std::to_string(to.threads()));
  add("lineage.device", from.device(), to.device());
  add("lineage.epoch", std::to_string(from.epoch()), std::to_string(to.epoch()));
  add("lineage.rewards", ToHex(from.rewards_sha256()).substr(0, 16), ToHex(to.rewards_sha256()).substr(0, 16));
  add("gate", a.gate().passed() ? "accepted" : "refused", b.gate().passed() ? "accepted" : "refused");
  v1::Config before, after;
  if (!before.ParseFromString(from.settings()) || !after.ParseFromString(to.settings())) return lines;
  const auto old_settings = SettingLines(before), new_settings = SettingLines(after);
  for (const auto& [key, value] : old_settings) {
    const auto found = new_settings.find(key);
    add(key, value, found == new_settings.end() ? "" : found->second);
  }
  return lines;
}

std::map<std::string, std::pair<double, double>> Figures(const v1::PolicyManifest& a, const v1::PolicyManifest& b) {
  std::map<std::string, std::pair<double, double>> figures;
  for (const auto& [name, value] : a.metrics()) figures[name].first = value;
  for (const auto& [name, value] : b.metrics()) figures[name].second = value;
  return figures;
}

}  // namespace

std::string VersionsText(const std::vector<VersionDesk::Row>& rows, const v1::AliasState& aliases) {
  std::string text = Formatted("%-9s %-24s %-8s %-14s %12s %9s %-7s %s\n", "version", "made", "gate", "in", "trajectories", "bytes",
                               "signed", "aliases");
  for (const VersionDesk::Row& row : rows) {
    const v1::PolicyManifest& manifest = row.manifest;
    const char* const where = row.in_archive && row.in_redis ? "archive,redis" : row.in_redis ? "redis" : "archive";
    text += Formatted("%-9llu %-24s %-8s %-14s %12llu %9llu %-7s %s\n", static_cast<unsigned long long>(manifest.version()),
                      TimeText(manifest.created_ms()).c_str(), manifest.gate().passed() ? "accepted" : "refused", where,
                      static_cast<unsigned long long>(manifest.lineage().trajectories_taken()),
                      static_cast<unsigned long long>(BytesOf(manifest)), row.is_signed ? "yes" : "no",
                      AliasesOf(manifest.version(), aliases).c_str());
  }
  text += "epoch " + std::to_string(aliases.epoch()) + ", change " + std::to_string(aliases.change()) + '\n';
  for (const v1::AliasChange& alias : aliases.aliases()) {
    if (alias.pinned()) text += alias.alias() + " is pinned by " + alias.who() + ": " + alias.why() + '\n';
  }
  return text;
}

std::string VersionsJson(const std::vector<VersionDesk::Row>& rows, const v1::AliasState& aliases) {
  Json versions = Json::array();
  for (const VersionDesk::Row& row : rows) {
    const v1::PolicyManifest& manifest = row.manifest;
    versions.push_back({{"version", manifest.version()},
                        {"created_ms", manifest.created_ms()},
                        {"accepted", manifest.gate().passed()},
                        {"in_archive", row.in_archive},
                        {"in_redis", row.in_redis},
                        {"signed", row.is_signed},
                        {"trajectories", manifest.lineage().trajectories_taken()},
                        {"bytes", BytesOf(manifest)},
                        {"aliases", AliasNamesJson(manifest.version(), aliases)}});
  }
  return Json{{"epoch", aliases.epoch()}, {"change", aliases.change()}, {"aliases", AliasesJson(aliases)}, {"versions", versions}}.dump();
}

namespace {

Json ScorerJson(const v1::ScorerForm& form) {
  const v1::ScorerShape& shape = form.shape();
  return {{"backbone", form.backbone()},
          {"tasks", std::vector<std::string>(form.tasks().begin(), form.tasks().end())},
          {"embedding_width", shape.embedding_width()},
          {"bottom", std::vector<std::uint32_t>(shape.bottom().begin(), shape.bottom().end())},
          {"tower", std::vector<std::uint32_t>(shape.tower().begin(), shape.tower().end())},
          {"experts", shape.experts()},
          {"task_experts", shape.task_experts()},
          {"buckets", std::vector<std::uint32_t>(shape.buckets().begin(), shape.buckets().end())},
          {"user_id", shape.user_id()},
          {"item_id", shape.item_id()},
          {"dense_width", shape.dense_width()},
          {"min_frequency", shape.min_frequency()},
          {"rate_prior", shape.rate_prior()},
          {"impressions", form.lineage().impressions()},
          {"steps", form.lineage().steps()},
          {"phase", form.lineage().phase()}};
}

}  // namespace

std::string VersionJson(const ArchivedVersion& version, const v1::AliasState& aliases) {
  const v1::PolicyManifest& manifest = version.version.manifest;
  const v1::Lineage& lineage = manifest.lineage();
  Json parts = Json::array(), metrics = Json::object(), figures = Json::object(), reasons = Json::array();
  for (const v1::Part& part : manifest.parts()) parts.push_back({{"bytes", part.size_bytes()}, {"sha256", ToHex(part.sha256())}});
  for (const auto& [name, value] : std::map<std::string, double>(manifest.metrics().begin(), manifest.metrics().end())) metrics[name] = value;
  for (const auto& [name, value] : std::map<std::string, double>(manifest.gate().figures().begin(), manifest.gate().figures().end())) {
    figures[name] = value;
  }
  for (const std::string& reason : manifest.gate().reasons()) reasons.push_back(reason);
  Json regimes = Json::array();
  for (const v1::Regime& regime : lineage.regimes()) {
    regimes.push_back({{"first_trajectory", regime.first_trajectory()},
                       {"first_step", regime.first_step()},
                       {"settings_sha256", ToHex(regime.settings_sha256())},
                       {"build", regime.build()},
                       {"blas", regime.blas()},
                       {"threads", regime.threads()},
                       {"device", regime.device()}});
  }
  Json json{{"version", manifest.version()},
              {"policy", manifest.policy()},
              {"algorithm", manifest.algorithm()},
              {"preset", manifest.preset()},
              {"created_ms", manifest.created_ms()},
              {"aliases", AliasNamesJson(manifest.version(), aliases)},
              {"manifest_sha256", ToHex(Sha256Of(version.manifest_bytes))},
              {"weights_sha256", ToHex(manifest.weights_sha256())},
              {"signature", ToHex(version.version.signature)},
              {"schema_digest", ToHex(manifest.schema_digest())},
              {"parts", parts},
              {"gate", {{"accepted", manifest.gate().passed()}, {"reasons", reasons}, {"figures", figures}}},
              {"metrics", metrics},
              {"lineage",
               {{"parent", lineage.parent()},
                {"root", lineage.root()},
                {"trajectories_taken", lineage.trajectories_taken()},
                {"update_steps", lineage.update_steps()},
                {"seed", lineage.seed()},
                {"build", lineage.build()},
                {"blas", lineage.blas()},
                {"threads", lineage.threads()},
                {"device", lineage.device()},
                {"epoch", lineage.epoch()},
                {"settings_sha256", ToHex(lineage.settings_sha256())},
                {"rewards_sha256", ToHex(lineage.rewards_sha256())},
                {"started_from", lineage.started_from()},
                {"regimes", regimes}}}};
  if (manifest.has_scorer()) json["scorer"] = ScorerJson(manifest.scorer());
  return json.dump();
}

std::string VersionText(const ArchivedVersion& version, const v1::AliasState& aliases) {
  const Json json = Json::parse(VersionJson(version, aliases));
  std::ostringstream out;
  for (const auto& [name, value] : json.items()) {
    if (!value.is_object()) {
      out << Formatted("%-18s", name.c_str()) << (value.is_string() ? value.get<std::string>() : value.dump()) << '\n';
      continue;
    }
    for (const auto& [inner, leaf] : value.items()) {
      out << Formatted("%-18s%-32s", name.c_str(), inner.c_str()) << (leaf.is_string() ? leaf.get<std::string>() : leaf.dump()) << '\n';
    }
  }
  return out.str();
}

std::string DifferenceText(const PolicyVersion& first, const PolicyVersion& second, const VersionDifference& difference) {
  std::string text = Formatted("%-34s %22s %22s\n", "", ("version " + std::to_string(first.manifest.version())).c_str(),
                               ("version " + std::to_string(second.manifest.version())).c_str());
  for (const auto& [name, values] : ManifestDifferences(first.manifest, second.manifest)) {
    text += Formatted("%-34s %22s %22s\n", name.c_str(), values.first.c_str(), values.second.c_str());
  }
  for (const auto& [name, values] : Figures(first.manifest, second.manifest)) {
    if (values.first != values.second) text += Formatted("%-34s %22.6g %22.6g\n", name.c_str(), values.first, values.second);
  }
  text += Formatted("%-34s %14s %14s %14s\n", "tensor", "norm", "distance", "largest");
  for (const auto& [name, tensor] : difference.tensors) {
    text += Formatted("%-34s %14.6g %14.6g %14.6g\n", name.c_str(), tensor.norm, tensor.distance, tensor.largest);
  }
  for (const std::string& name : difference.only_in_first) text += name + ": only in the first, or of another shape\n";
  for (const std::string& name : difference.only_in_second) text += name + ": only in the second, or of another shape\n";
  const ActionDifference* const found = difference.actions ? &*difference.actions : difference.scores ? &*difference.scores : nullptr;
  if (found == nullptr) return text + "actions cannot be compared: the feature schemas differ\n";
  return text + Formatted("%s of %llu random candidates: mean change %.6g, largest %.6g (%s)\n", difference.actions ? "actions" : "scores",
                          static_cast<unsigned long long>(found->candidates), found->mean_absolute, found->largest,
                          difference.actions ? "normalised units" : "shares of the tasks' ranges");
}

std::string DifferenceJson(const PolicyVersion& first, const PolicyVersion& second, const VersionDifference& difference) {
  Json manifest = Json::object(), figures = Json::object(), tensors = Json::object();
  for (const auto& [name, values] : ManifestDifferences(first.manifest, second.manifest)) manifest[name] = {values.first, values.second};
  for (const auto& [name, values] : Figures(first.manifest, second.manifest)) figures[name] = {values.first, values.second};
  for (const auto& [name, tensor] : difference.tensors) {
    tensors[name] = {{"norm", tensor.norm}, {"distance", tensor.distance}, {"largest", tensor.largest}};
  }
  Json json = {{"first", first.manifest.version()}, {"second", second.manifest.version()}, {"differences", manifest}, {"figures", figures},
               {"tensors", tensors}, {"only_in_first", difference.only_in_first}, {"only_in_second", difference.only_in_second},
               {"actions", nullptr}};
  const auto put = [&](const char* name, const std::optional<ActionDifference>& found) {
    if (found) json[name] = {{"candidates", found->candidates}, {"mean_absolute", found->mean_absolute}, {"largest", found->largest}};
  };
  put("actions", difference.actions);
  put("scores", difference.scores);
  return json.dump();
}

std::string MoveText(const VersionDesk::Moved& moved) {
  const v1::AliasChange* const now = FindAlias(moved.before, moved.move.alias);
  const std::string from = now == nullptr ? "nowhere" : std::to_string(now->to_version()) + (now->pinned() ? " (pinned)" : "");
  std::string text = moved.move.alias + ": " + from + " -> " + std::to_string(moved.move.to_version) + (moved.move.pinned ? " (pinned)" : "");
  if (moved.after.change() == 0) return text + "\nnothing was changed; --execute does it\n";
  text += ", change " + std::to_string(FindAlias(moved.after, moved.move.alias)->change()) + '\n';
  const v1::AliasChange* const last_good = FindAlias(moved.after, kLastGoodAlias);
  if (last_good != nullptr) text += "last_good is " + std::to_string(last_good->to_version()) + '\n';
  return text;
}

std::string MoveJson(const VersionDesk::Moved& moved) {
  const v1::AliasChange* const now = FindAlias(moved.before, moved.move.alias);
  const bool executed = moved.after.change() != 0;
  Json json = {{"alias", moved.move.alias},
               {"from", now == nullptr ? 0 : now->to_version()},
               {"to", moved.move.to_version},
               {"was_pinned", now != nullptr && now->pinned()},
               {"pinned", moved.move.pinned},
               {"executed", executed}};
  if (executed) json["change"] = FindAlias(moved.after, moved.move.alias)->change();
  return json.dump();
}

std::string ChangeText(const AuditEntry& entry) {
  const v1::AliasChange& change = entry.change;
  const std::string what = change.alias().empty()
                               ? "version " + std::to_string(change.to_version() == 0 ? change.from_version() : change.to_version())
                               : change.alias() + ' ' + std::to_string(change.from_version()) + " -> " + std::to_string(change.to_version()) +
                                     (change.pinned() ? " (pinned)" : "");
  return Formatted("%-24s %8llu  %-12s %-28s %-20s ", TimeText(change.wall_ms()).c_str(), static_cast<unsigned long long>(change.change()),
                   CauseText(change.cause()).c_str(), what.c_str(), change.who().c_str()) +
         change.why() + '\n';
}

}  // namespace fuseline
