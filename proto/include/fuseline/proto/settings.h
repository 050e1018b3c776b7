#pragma once

#include <map>
#include <string>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/v1/config.pb.h"

namespace fuseline {

// Where settings come from; later wins: default, file, environment, flag.
struct SettingsSources {
  std::string file;                                // YAML; empty: none.
  std::map<std::string, std::string> environment;  // FUSELINE_SECTION__KEY; others are ignored.
  std::vector<std::string> flags;                  // "section.key=value".
};

// Every variable of this process that starts with FUSELINE_ and holds "__".
std::map<std::string, std::string> SettingsEnvironment();

// The settings in force, checked: unknown key, wrong type, out of range, a name that is not among the choices, and rules
// between settings (lateness_ms >= max_future_ms, box, ranges, schema).
// Errors: kInvalidInput; the message names key, file and line (or variable, or flag), and suggests the nearest key.
//         kNotFound if the file is absent.
Result<v1::Config> LoadSettings(const SettingsSources& sources);

v1::Config DefaultSettings();

// The schema of the settings, or DefaultSchema() where they have none.
v1::FeatureSchema SchemaOf(const v1::Config& config);

// YAML that LoadSettings reads back; secrets as "***" and commented out. `with_help`: unit, range and help as comments.
std::string PrintSettings(const v1::Config& config, bool with_help);

// Lines "section.key=value (default, unit, range): help", for --help.
std::string SettingsHelp();

// What shapes weights, and nothing else: sessionizer, rewards, policy, learner, gate, the algorithms' own sections, seed and schema.
v1::Config ShapingSettings(const v1::Config& config);
// SHA-256 over its canonical bytes.
std::string SettingsDigest(const v1::Config& config);

// A reward specification: a YAML file with the section `rewards` alone, keys and checks as in a settings file. A key that is absent
// has its default, not what other settings say: the file alone says what it means.
// Errors: kInvalidInput, naming key, file and line; kNotFound if the file is absent.
Result<v1::Rewards> LoadRewards(const std::string& file);

// SHA-256 (32 bytes) of the canonical bytes of a reward specification: its version, by which lineages name it.
std::string RewardsDigest(const v1::Rewards& rewards);

}  // namespace fuseline
