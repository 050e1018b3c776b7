#include <cmath>
#include <functional>
#include <map>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "command.h"
#include "experiment_text.h"

#include "fuseline/core/clock.h"
#include "fuseline/core/file.h"
#include "fuseline/policy_store/aliases.h"
#include "fuseline/policy_store/experiments.h"
#include "fuseline/proto/experiment_file.h"
#include "fuseline/rollout/experiment.h"
#include "fuseline/serving_bridge/redis_options.h"
#include "version_desk.h"

namespace fuseline {
namespace {

struct ExperimentOptions {
  SettingsOptions settings;
  std::string name, file, user, reason;
  double to_percent = 0;  // 0: the next stage.
  bool execute = false, json = false, resume = false;
};

struct Desk {
  v1::Config config;
  PolicyKeys keys;
  RedisConnection redis;
  std::map<std::string, v1::Experiment> experiments;
  std::size_t unreadable = 0;
  std::uint64_t epoch = 0;

  static Result<Desk> Open(const v1::Config& config) {
    FUSELINE_FAIL_IF_ERROR(ValidatePolicyName(config.policy().name()));
    PolicyKeys keys(config.policy().name());
    FUSELINE_ASSIGN_OR_FAIL(RedisConnection redis, RedisConnection::Connect(RedisOptionsOf(config.redis())));
    std::map<std::string, std::string> unreadable;
    FUSELINE_ASSIGN_OR_FAIL(auto experiments, ReadExperiments(redis, keys, &unreadable));
    for (const auto& [name, bytes] : unreadable) std::cerr << "fuseline: experiment in Redis cannot be read: " << name << '\n';
    FUSELINE_ASSIGN_OR_FAIL(const v1::AliasState aliases, ReadAliases(redis, keys));
    return Desk{config, std::move(keys), std::move(redis), std::move(experiments), unreadable.size(), aliases.epoch()};
  }

  Result<v1::Experiment> Find(const std::string& name) const {
    const auto found = experiments.find(name);
    if (found == experiments.end()) return Error(Code::kNotFound, "no such experiment (fuseline experiment status lists them):", name);
    return found->second;
  }

  // Writes it, or says what would be written.
  Status Put(const v1::Experiment* seen, const v1::Experiment& next, bool execute) {
    const auto among = seen == nullptr ? std::optional(experiments.size() + unreadable) : std::nullopt;  // A new one was compared with all.
    if (execute) FUSELINE_RETURN_IF_ERROR(WriteExperiment(redis, keys, epoch, seen, next, config.policy_store().changes_kept(), among));
    std::cout << (execute ? "" : "would be (--execute does it): ") << "experiment " << next.name() << ' '
              << v1::Experiment::State_Name(next.state()) << " at " << next.coverage() / 100.0 << " %, revision " << next.revision() << '\n';
    return OkStatus();
  }
};

Status Create(const ExperimentOptions& options, Desk& desk) {
  FUSELINE_ASSIGN_OR_RETURN(const std::string text, ReadFile(options.file));
  FUSELINE_ASSIGN_OR_RETURN(v1::Experiment experiment, ReadExperimentFile(options.file, text));
  if (experiment.guardrails().empty()) experiment.add_guardrails();  // The session reward, to be rolled back.
  if (experiment.coverage() == 0) experiment.set_coverage(kRampStages[0]);
  if (const Status valid = ValidateExperiment(experiment); !valid.ok()) return ErrorStatus(valid.code, options.file + ':', valid.message);
  if (desk.experiments.contains(experiment.name()))
    return ErrorStatus(Code::kConflict, "there is one of this name, whose figures would be mixed with this one's:", experiment.name());
  for (const auto& [name, other] : desk.experiments) {
    if (!IsServing(other) || !MayShareUsers(experiment, other)) continue;
    return ErrorStatus(Code::kConflict, "users would be in another experiment too: stop that one first, or give both disjoint parts of one namespace "
                       "(within):", name);
  }
  FUSELINE_ASSIGN_OR_RETURN(const v1::AliasState aliases, ReadAliases(desk.redis, desk.keys));
  for (const v1::Arm& arm : experiment.arms()) {
    if (!arm.alias().empty() && FindAlias(aliases, arm.alias()) == nullptr)
      std::cerr << "fuseline: alias " << arm.alias() << " points nowhere yet: rankers begin once it does\n";
  }
  FUSELINE_ASSIGN_OR_RETURN(const v1::Experiment first, Changed(experiment, v1::Experiment::RUNNING, experiment.coverage(), UserAtHost(),
                                                                options.reason, SystemClock().wall_ms()));
  return desk.Put(nullptr, first, options.execute);
}

Status Ramp(const ExperimentOptions& options, Desk& desk) {
  FUSELINE_ASSIGN_OR_RETURN(const v1::Experiment seen, desk.Find(options.name));
  if (seen.state() == v1::Experiment::PAUSED && !options.resume)
    return ErrorStatus(Code::kConflict, "experiment is paused (experiment status says why); --resume goes on:", seen.name());
  const auto wanted = static_cast<std::uint32_t>(std::lround(options.to_percent * 100));
  const std::uint32_t coverage = wanted > 0 ? wanted : options.resume ? seen.coverage() : NextStage(seen);
  if (coverage == seen.coverage() && !options.resume) return ErrorStatus(Code::kConflict, "experiment is at this coverage already:", coverage / 100.0);
  FUSELINE_ASSIGN_OR_RETURN(const v1::Experiment next, Changed(seen, v1::Experiment::RUNNING, coverage, UserAtHost(), options.reason,
                                                               SystemClock().wall_ms()));
  return desk.Put(&seen, next, options.execute);
}

Status Stop(const ExperimentOptions& options, Desk& desk) {
  FUSELINE_ASSIGN_OR_RETURN(const v1::Experiment seen, desk.Find(options.name));
  FUSELINE_ASSIGN_OR_RETURN(const v1::Experiment next, Changed(seen, v1::Experiment::STOPPED, seen.coverage(), UserAtHost(), options.reason,
                                                               SystemClock().wall_ms()));
  return desk.Put(&seen, next, options.execute);
}

Status PrintStatus(const ExperimentOptions& options, Desk& desk) {
  if (!options.name.empty()) {
    FUSELINE_ASSIGN_OR_RETURN([[maybe_unused]] const v1::Experiment named, desk.Find(options.name));
  }
  if (desk.experiments.empty()) std::cerr << "fuseline: no experiments\n";
  FUSELINE_ASSIGN_OR_RETURN(const std::uint64_t left_out, ReadLeftOut(desk.redis, desk.keys));
  if (left_out > 0 && !options.json)
    std::cout << left_out << " sessions are in no experiment's figures: no room (rollout.max_users), or more than 20 arms\n";
  for (const auto& [name, experiment] : desk.experiments) {
    if (!options.name.empty() && name != options.name) continue;
    FUSELINE_RETURN_IF_ERROR(ValidateExperiment(experiment));
    FUSELINE_ASSIGN_OR_RETURN(const v1::ExperimentTotals totals, ReadFigures(desk.redis, desk.keys, name));
    const Judgement judgement = Judge(experiment, &totals, desk.config.rollout());
    if (options.json) std::cout << ExperimentJson(experiment, totals, judgement, left_out) << '\n';
    else std::cout << ExperimentText(experiment, totals, judgement, desk.config.rollout());
  }
  return OkStatus();
}

Status Explain(const ExperimentOptions& options, Desk& desk) {
  for (const auto& [name, experiment] : desk.experiments) std::cout << PlacementText(experiment, options.user) << '\n';
  if (desk.experiments.empty()) std::cerr << "fuseline: no experiments: what is live serves\n";
  return OkStatus();
}

using Body = std::function<Status(const ExperimentOptions&, Desk&)>;

int Run(const ExperimentOptions& options, const Body& body) {
  const auto config = options.settings.Load();
  if (!config) return FailUsage(config.error());
  if (const Status said = CheckReason(options.execute, options.reason); !said.ok()) return FailUsage(said);
  auto desk = Desk::Open(*config);
  if (!desk) return Fail(desk.error());
  const Status done = body(options, *desk);
  if (done.ok()) return kExitOk;
  const bool named = done.code == Code::kInvalidInput || done.code == Code::kNotFound;  // What the person wrote.
  return named ? FailUsage(done) : Fail(done);
}

}  // namespace

void RegisterExperiment(Program& program) {
  CLI::App* experiment = program.AddSubcommand("experiment", "Users in arms: begin, ramp, judge and end experiments",
                                               "fuseline experiment status");
  experiment->require_subcommand(1);
  const auto add = [&](const char* name, const char* help, const char* example, const Body& body) {
    auto options = std::make_shared<ExperimentOptions>();
    CLI::App* const command = program.AddSubcommand(name, help, example, experiment);
    options->settings.AddTo(*command);
    program.SetBody(command, [options, body] { return Run(*options, body); });
    return std::pair(command, options);
  };
  const auto changes = [](const std::pair<CLI::App*, std::shared_ptr<ExperimentOptions>>& command) {
    command.first->add_flag("--execute", command.second->execute, "do it; without: say what would be done");
    command.first->add_option("--reason", command.second->reason, "why; for the audit trail")->type_name("TEXT");
  };
  const auto create = add("create", "Begin an experiment as its file says, at 1 % unless it says another coverage",
                          "fuseline experiment create canary.yaml --reason 'first look at version 7' --execute", Create);
  create.first->add_option("file", create.second->file, "the experiment (docs/rollout.md)")->required()->type_name("FILE");
  changes(create);
  const auto ramp = add("ramp", "Let more users in: the next of 1, 5, 10, 25, 50, 100 %; nobody leaves an arm",
                        "fuseline experiment ramp canary --reason 'no harm seen' --execute", Ramp);
  ramp.first->add_option("name", ramp.second->name, "the experiment")->required();
  ramp.first->add_option("--to", ramp.second->to_percent, "another coverage, larger than now, in percent")->check(CLI::Range(0.01, 100.0));
  ramp.first->add_flag("--resume", ramp.second->resume, "go on with one that is paused");
  changes(ramp);
  const auto stop = add("stop", "End an experiment: what is live serves everybody again", "fuseline experiment stop canary --reason 'decided' --execute", Stop);
  stop.first->add_option("name", stop.second->name, "the experiment")->required();
  changes(stop);
  const auto status = add("status", "How experiments stand: figures of each arm, confidence sequences, sample ratio, history",
                          "fuseline experiment status canary --json", PrintStatus);
  status.first->add_option("name", status.second->name, "the experiment; without: all");
  status.first->add_flag("--json", status.second->json, "a JSON object a line");
  const auto explain = add("explain", "In which arm a user is, and why", "fuseline experiment explain u42", Explain);
  explain.first->add_option("user", explain.second->user, "the user's id")->required()->type_name("USER");
}

}  // namespace fuseline
