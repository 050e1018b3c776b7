#include "command.h"

#include <filesystem>
#include <iostream>

#include "fuseline/learner/algorithms.h"
#include "fuseline/proto/settings.h"
#include "stored_status.h"

namespace fuseline {
namespace {

int ExitCodeOf(Code code) {
  switch (code) {
    case Code::kOk: return kExitOk;
    case Code::kUnavailable: return kExitUnreachable;
    case Code::kConflict: return kExitRefused;
    case Code::kInvalidInput:
    case Code::kNotFound:
    case Code::kCorrupt: return kExitInvalidData;
    case Code::kInternal: return kExitInternal;
  }
  return kExitInternal;
}

}  // namespace

int Fail(const Status& status) {
  std::cerr << "fuseline: " << status.message << '\n';
  return ExitCodeOf(status.code);
}

int FailUsage(const Status& status) {
  const int code = Fail(status);
  return code == kExitInvalidData ? static_cast<int>(kExitUsage) : code;
}

void SettingsOptions::AddTo(CLI::App& subcommand) {
  subcommand.add_option("-c,--config", file, "settings file (YAML); fuseline.yaml where it exists")->type_name("FILE");
  subcommand.add_option("--set", sets, "one setting; wins over environment and file")
      ->type_name("SECTION.KEY=VALUE")
      ->allow_extra_args(false)  // Each takes one: what follows may be a file.
      ->take_all();
}

Result<v1::Config> SettingsOptions::Load() const {
  return LoadFrom(file.empty() && std::filesystem::exists("fuseline.yaml") ? "fuseline.yaml" : file);
}

Result<v1::Config> SettingsOptions::LoadFrom(const std::string& settings_file) const {
  SettingsSources sources;
  sources.file = settings_file;
  sources.environment = SettingsEnvironment();
  sources.flags = sets;
  if (!state.empty()) sources.flags.push_back("fuseline.state_dir=" + state);
  FUSELINE_ASSIGN_OR_FAIL(v1::Config config, LoadSettings(sources));
  FUSELINE_FAIL_IF_ERROR(CheckAlgorithm(config));  // What is built in decides that, which the settings cannot know.
  return config;
}

void SettingsOptions::AddStateTo(CLI::App& subcommand) {
  subcommand.add_option("--state", state, "the state folder (fuseline.state_dir)")->type_name("DIR");
}

Result<v1::Config> SettingsOptions::LoadOfState() const {
  FUSELINE_ASSIGN_OR_FAIL(const v1::Config named, Load());
  const std::filesystem::path made_by = std::filesystem::path(named.fuseline().state_dir()) / kSettingsFile;
  if (!file.empty() || !std::filesystem::exists(made_by)) return named;
  FUSELINE_ASSIGN_OR_FAIL(v1::Config config, LoadFrom(made_by.string()));
  config.mutable_fuseline()->set_state_dir(named.fuseline().state_dir());  // The folder may have been moved.
  return config;
}

Program::Program()
    : app_("Learns a recommender's fusion policy continuously from its live event stream.", "fuseline") {
  app_.require_subcommand(1);
  app_.set_version_flag("--version", std::string("fuseline ") + FUSELINE_VERSION);
  app_.footer(
      "Exit codes: 0 ok, 1 internal, 2 usage or settings, 3 dependency unreachable, 4 data invalid,\n"
      "5 refused: somebody else holds it, or a gate said no, 130 interrupted after a clean checkpoint.");
}

CLI::App* Program::AddSubcommand(const std::string& name, const std::string& help, const std::string& example,
                                 CLI::App* parent) {
  CLI::App* subcommand = (parent != nullptr ? parent : &app_)->add_subcommand(name, help);
  if (!example.empty()) subcommand->footer("Example:\n  " + example);
  return subcommand;
}

void Program::SetBody(CLI::App* subcommand, std::function<int()> body) {
  // The innermost one is called first, and is the one that was meant.
  subcommand->callback([this, body = std::move(body)] {
    if (!chosen_) chosen_ = body;
  });
}

int Program::Run(int argc, char** argv) {
  const auto is_first = [&](const CLI::App* subcommand) { return subcommand->get_name() == argv[1]; };
  if (argc > 1 && argv[1][0] != '-' && app_.get_subcommands(is_first).empty()) {
    return FailUsage(ErrorStatus(Code::kInvalidInput, "no such command (fuseline --help lists them):", argv[1]));
  }
  try {
    app_.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app_.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  return chosen_ ? chosen_() : static_cast<int>(kExitUsage);
}

}  // namespace fuseline
