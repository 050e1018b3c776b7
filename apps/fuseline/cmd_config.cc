#include <filesystem>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>

#include "command.h"
#include "fuseline/core/digest.h"
#include "fuseline/core/file.h"
#include "fuseline/proto/settings.h"

namespace fuseline {
namespace {

int InitConfig(const std::string& out) {
  const auto text = PrintSettings(DefaultSettings(), /*with_help=*/true);
  if (out.empty()) {
    std::cout << text;
    return kExitOk;
  }
  std::error_code error;
  if (std::filesystem::exists(out, error)) return Fail(ErrorStatus(Code::kConflict, "file exists and is left alone:", out));
  if (const auto status = WriteFileAtomically(out, text); !status.ok()) return Fail(status);
  std::cerr << "fuseline: wrote " << out << ", every setting at its default\n";
  return kExitOk;
}

// The lines of `config` that say something else than the default, under their section's line.
std::string ChangedLines(const v1::Config& config) {
  std::istringstream given(PrintSettings(config, false));
  std::istringstream usual(PrintSettings(DefaultSettings(), false));
  std::string changed, section, given_line, usual_line;
  while (std::getline(given, given_line)) {
    if (!std::getline(usual, usual_line)) usual_line.clear();  // The schema comes last, and has no default lines.
    if (!given_line.starts_with(' ')) section = given_line + '\n';
    if (given_line == usual_line) continue;
    changed += section + (given_line.starts_with(' ') ? given_line + '\n' : "");
    section.clear();
  }
  return changed;
}

int PrintConfig(const SettingsOptions& sources, bool resolved) {
  auto config = sources.Load();
  if (!config) return FailUsage(config.error());
  if (resolved) *config->mutable_schema() = SchemaOf(*config);
  std::cout << (resolved ? PrintSettings(*config, false) : ChangedLines(*config));
  return kExitOk;
}

int CheckConfig(const SettingsOptions& sources) {
  const auto config = sources.Load();
  if (!config) return FailUsage(config.error());
  std::cout << "settings ok, digest " << ToHex(SettingsDigest(*config)) << ", rewards " << ToHex(RewardsDigest(config->rewards())) << '\n';
  return kExitOk;
}

}  // namespace

void RegisterConfig(Program& program) {
  CLI::App* config = program.AddSubcommand("config", "Write, print, check or apply the settings", "fuseline config check --config fuseline.yaml");
  config->require_subcommand(1);

  auto out = std::make_shared<std::string>();
  CLI::App* init = program.AddSubcommand("init", "Write a settings file with every default and what it means",
                                         "fuseline config init --out fuseline.yaml", config);
  init->add_option("--out", *out, "file to write; standard output without it")->type_name("FILE");
  program.SetBody(init, [out] { return InitConfig(*out); });

  auto print_sources = std::make_shared<SettingsOptions>();
  auto resolved = std::make_shared<bool>(false);
  CLI::App* print = program.AddSubcommand("print", "Print the settings that file, environment and flags change",
                                          "fuseline config print --resolved --set sessionizer.gap_ms=60000", config);
  print_sources->AddTo(*print);
  print->add_flag("--resolved", *resolved, "all settings in force, defaults and schema too");
  program.SetBody(print, [print_sources, resolved] { return PrintConfig(*print_sources, *resolved); });

  auto check_sources = std::make_shared<SettingsOptions>();
  CLI::App* check = program.AddSubcommand("check", "Check the settings without starting anything",
                                          "fuseline config check --config fuseline.yaml", config);
  check_sources->AddTo(*check);
  program.SetBody(check, [check_sources] { return CheckConfig(*check_sources); });
  RegisterConfigApply(program, config);
}

}  // namespace fuseline
