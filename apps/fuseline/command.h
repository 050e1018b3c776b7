#pragma once

#include <functional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "fuseline/core/status.h"
#include "fuseline/v1/config.pb.h"

namespace fuseline {

// Exit codes of the program; documented in README.md.
enum ExitCode : int {
  kExitOk = 0,
  kExitInternal = 1,
  kExitUsage = 2,
  kExitUnreachable = 3,
  kExitInvalidData = 4,
  kExitRefused = 5,       // A gate or a guardrail said no, or somebody else holds what was asked for.
  kExitInterrupted = 130,  // After a clean checkpoint.
};

// Says what went wrong on standard error, and gives the exit code that belongs to it.
int Fail(const Status& status);

// The same for a bad setting or argument, a file that is not there among them: kInvalidInput is then kExitUsage.
int FailUsage(const Status& status);

// Where settings come from; every subcommand that reads settings offers it.
struct SettingsOptions {
  std::string file;
  std::vector<std::string> sets;
  std::string state;

  void AddTo(CLI::App& subcommand);
  // The settings in force. `fuseline.yaml` is read where it exists and no file was named.
  Result<v1::Config> Load() const;

  // Of a command that looks at a state folder: --state, and the settings by which that folder was made, unless a file is named.
  void AddStateTo(CLI::App& subcommand);
  Result<v1::Config> LoadOfState() const;

 private:
  Result<v1::Config> LoadFrom(const std::string& settings_file) const;
};

// The program's command line. Each cmd_*.cc registers one subcommand: its options are kept alive by the lambda, and
// its body runs after everything was parsed.
class Program {
 public:
  Program();

  // `example`: one line that a newcomer can copy. Returns the subcommand to add options to.
  CLI::App* AddSubcommand(const std::string& name, const std::string& help, const std::string& example,
                          CLI::App* parent = nullptr);
  // Runs `body` when `subcommand` was the one chosen.
  void SetBody(CLI::App* subcommand, std::function<int()> body);

  int Run(int argc, char** argv);

 private:
  CLI::App app_;
  std::function<int()> chosen_;
};

// One function per cmd_*.cc, called by main.cc.
void RegisterAssign(Program& program);
void RegisterBroker(Program& program);
void RegisterCompare(Program& program);
void RegisterConfig(Program& program);
void RegisterConfigApply(Program& program, CLI::App* config);  // Under `config`.
void RegisterDeadLetters(Program& program);
void RegisterDemo(Program& program);
void RegisterEvaluate(Program& program);
void RegisterEvaluatePolicy(Program& program, CLI::App* evaluate);  // Under `evaluate`.
void RegisterEvents(Program& program);
void RegisterExperiment(Program& program);
void RegisterExplain(Program& program);
void RegisterImport(Program& program);
void RegisterLearn(Program& program);
void RegisterReplay(Program& program);
void RegisterRun(Program& program);
void RegisterSessionize(Program& program);
void RegisterSessions(Program& program);
void RegisterStatus(Program& program);
void RegisterTrainScorer(Program& program);
void RegisterVersions(Program& program);
void RegisterWorld(Program& program);

}  // namespace fuseline
