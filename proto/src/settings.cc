#include "fuseline/proto/settings.h"

#include <algorithm>

#include <unistd.h>

#include "fuseline/core/check.h"
#include "fuseline/core/digest.h"
#include "fuseline/core/file.h"
#include "fuseline/proto/schema.h"

#include "setting_field.h"
#include "settings_yaml.h"
#include "text.h"

namespace fuseline {
namespace {

constexpr std::string_view kPrefix = "FUSELINE_";
constexpr std::string_view kSeparator = "__";

bool NamesSetting(std::string_view variable) {
  return variable.starts_with(kPrefix) && variable.find(kSeparator, kPrefix.size()) != std::string_view::npos;
}

std::string KeyOfVariable(std::string_view variable) {
  std::string key(variable.substr(kPrefix.size()));
  key.replace(key.find(kSeparator), kSeparator.size(), ".");
  std::transform(key.begin(), key.end(), key.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return key;
}

Status Assign(const std::string& origin, const std::string& key, std::string_view text, v1::Config* config,
              SettingOrigins* origins) {
  const auto* setting = FindSetting(key);
  if (setting == nullptr) {
    const auto nearest = NearestKey(key);
    return ErrorStatus(Code::kInvalidInput, origin + ": unknown setting " + Shown(key) +
                                                (nearest.empty() ? "" : "; did you mean " + nearest + '?'));
  }
  if (const auto status = AssignSetting(*setting, text, config); !status.ok()) {
    return ErrorStatus(status.code, origin + ':', key, status.message);
  }
  (*origins)[key] = origin;
  return OkStatus();
}

// A rule between settings was broken; whoever set one of `keys` is named, the first that is no default.
Status Broken(const SettingOrigins& origins, const std::vector<std::string>& keys, const std::string& what) {
  for (const auto& key : keys) {
    if (const auto origin = origins.find(key); origin != origins.end()) {
      return ErrorStatus(Code::kInvalidInput, origin->second + ": " + what);
    }
  }
  return ErrorStatus(Code::kInvalidInput, what);
}

Status CheckRules(const v1::Config& config, const SettingOrigins& origins) {
  const auto lateness_ms = config.sessionizer().lateness_ms();
  const auto max_future_ms = config.ingest().max_future_ms();
  if (lateness_ms < max_future_ms) {
    return Broken(origins, {"sessionizer.lateness_ms", "ingest.max_future_ms"},
                  "sessionizer.lateness_ms (" + std::to_string(lateness_ms) + ") must not be less than ingest.max_future_ms (" +
                      std::to_string(max_future_ms) + "), or one fast clock makes everybody late");
  }
  const auto& policy = config.policy();
  if (!(policy.box_lower() < policy.box_upper())) {
    return Broken(origins, {"policy.box_lower", "policy.box_upper"}, "policy.box_lower is not below policy.box_upper");
  }
  const auto schema = SchemaOf(config);
  if (const auto status = ValidateSchema(schema); !status.ok()) {
    return Broken(origins, {"schema"}, "schema: " + status.message);
  }
  if (const auto ranges = ActionRangesOf(policy, schema); !ranges) {
    const auto& message = ranges.error().message;
    std::vector<std::string> keys;
    for (const auto& setting : AllSettings()) {
      if (message.find(setting.key) != std::string::npos) keys.push_back(setting.key);
    }
    return Broken(origins, keys, message);
  }
  return OkStatus();
}

}  // namespace

std::map<std::string, std::string> SettingsEnvironment() {
  std::map<std::string, std::string> found;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const auto equals = text.find('=');
    if (equals != std::string_view::npos && NamesSetting(text.substr(0, equals))) {
      found.emplace(text.substr(0, equals), text.substr(equals + 1));
    }
  }
  return found;
}

Result<v1::Config> LoadSettings(const SettingsSources& sources) {
  v1::Config config = DefaultSettings();
  SettingOrigins origins;
  if (!sources.file.empty()) {
    FUSELINE_ASSIGN_OR_FAIL(const auto text, ReadFile(sources.file));
    FUSELINE_FAIL_IF_ERROR(ReadSettingsYaml(sources.file, text, &config, &origins));
  }
  for (const auto& [variable, value] : sources.environment) {
    if (!NamesSetting(variable)) continue;
    FUSELINE_FAIL_IF_ERROR(Assign(variable, KeyOfVariable(variable), value, &config, &origins));
  }
  for (const auto& flag : sources.flags) {
    const auto equals = flag.find('=');
    if (equals == std::string::npos) return Error(Code::kInvalidInput, "--set is not section.key=value:", Shown(flag));
    const auto key = flag.substr(0, equals);
    FUSELINE_FAIL_IF_ERROR(Assign("--set " + Shown(key), key, std::string_view(flag).substr(equals + 1), &config, &origins));
  }
  FUSELINE_FAIL_IF_ERROR(CheckRules(config, origins));
  return config;
}

v1::Config DefaultSettings() {
  v1::Config config;
  for (const auto& setting : AllSettings()) {
    FUSELINE_CHECK(AssignSetting(setting, setting.options->default_(), &config).ok());
  }
  return config;
}

v1::FeatureSchema SchemaOf(const v1::Config& config) { return config.has_schema() ? config.schema() : DefaultSchema(); }

v1::Config ShapingSettings(const v1::Config& config) {
  v1::Config shaping;
  *shaping.mutable_sessionizer() = config.sessionizer();
  *shaping.mutable_rewards() = config.rewards();
  *shaping.mutable_policy() = config.policy();
  *shaping.mutable_learner() = config.learner();
  *shaping.mutable_gate() = config.gate();
  *shaping.mutable_batch_rl() = config.batch_rl();
  *shaping.mutable_ddpg() = config.ddpg();
  *shaping.mutable_td3() = config.td3();
  *shaping.mutable_cql_sac() = config.cql_sac();
  *shaping.mutable_iql() = config.iql();
  *shaping.mutable_es() = config.es();
  *shaping.mutable_cem() = config.cem();
  if (config.scorer().learn()) *shaping.mutable_scorer() = config.scorer();
  shaping.mutable_fuseline()->set_seed(config.fuseline().seed());
  *shaping.mutable_schema() = SchemaOf(config);
  return shaping;
}

std::string SettingsDigest(const v1::Config& config) { return Sha256Of(CanonicalBytes(ShapingSettings(config))); }

Result<v1::Rewards> LoadRewards(const std::string& file) {
  v1::Config config = DefaultSettings();
  SettingOrigins origins;
  FUSELINE_ASSIGN_OR_FAIL(const auto text, ReadFile(file));
  FUSELINE_FAIL_IF_ERROR(ReadSettingsYaml(file, text, &config, &origins));
  for (const auto& [key, origin] : origins) {
    if (key == "rewards" || key.starts_with("rewards.")) continue;
    return Error(Code::kInvalidInput, origin + ": a reward specification has the section rewards alone, not", key);
  }
  if (origins.empty()) return Error(Code::kInvalidInput, file + ": a reward specification has a section rewards");
  return config.rewards();
}

std::string RewardsDigest(const v1::Rewards& rewards) { return Sha256Of(CanonicalBytes(rewards)); }

}  // namespace fuseline
