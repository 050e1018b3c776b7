#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "command.h"
#include "explanation.h"
#include "fuseline/learner/learner.h"
#include "fuseline/proto/trajectory_name.h"
#include "starting_point.h"
#include "stop_signal.h"

namespace fuseline {
namespace {

struct ExplainOptions {
  SettingsOptions settings;
  std::string name;
  std::vector<std::string> files;
  std::string from = "earliest";
  bool json = false;
};

Result<Explanation> Explain(const v1::Config& config, const TrajectoryLog& log, const v1::TrajectoryName& name,
                            const std::stop_token& stop) {
  FUSELINE_ASSIGN_OR_FAIL(FoundTrajectory found, FindTrajectory(config, log, name, stop));
  auto events = EventsOf(config, log, found.trajectory, stop);
  FUSELINE_ASSIGN_OR_FAIL(auto learned, FindLearner(config, name));
  const bool held_back = IsHeldBack(config, found.trajectory.user_id());
  return Explanation{std::move(found), std::move(events), std::move(learned), held_back};
}

int Run(const ExplainOptions& options) {
  const auto config = options.settings.LoadOfState();
  if (!config) return FailUsage(config.error());
  const auto name = ParseName(options.name);
  if (!name) return FailUsage(name.error());
  const auto from = ParseStartingPoint(options.from);
  if (!from) return FailUsage(from.error());
  StopSignal stop;
  const auto explanation = Explain(*config, {options.files, *from}, *name, stop.token());
  if (stop.stopped()) return kExitInterrupted;
  if (!explanation) return Fail(explanation.error());
  std::cout << (options.json ? ExplanationJson(*explanation, *config) + '\n'
                             : ExplanationText(*explanation, *config));
  return kExitOk;
}

}  // namespace

void RegisterExplain(Program& program) {
  auto options = std::make_shared<ExplainOptions>();
  CLI::App* explain = program.AddSubcommand(
      "explain", "A closed session by its name: its events, what each item earned, and which version learned it",
      "fuseline explain 3-991-0 --state .fuseline\n  fuseline explain 0-4711-0 events.jsonl.gz");
  options->settings.AddTo(*explain);
  options->settings.AddStateTo(*explain);
  explain->add_option("name", options->name, "PARTITION-OFFSET-ORDINAL, as logs and status write it")
      ->required()
      ->type_name("NAME");
  explain->add_option("files", options->files, "the files of events that it came from; without: the topics")
      ->type_name("FILE");
  explain
      ->add_option("--from", options->from,
                   "where the events topic is read from if sessions must be built again: earliest, offset:N, time:MS")
      ->capture_default_str();
  explain->add_flag("--json", options->json, "one line of JSON");
  program.SetBody(explain, [options] { return Run(*options); });
}

}  // namespace fuseline
