#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "closed_loop.h"
#include "command.h"
#include "comparison_plan.h"
#include "fuseline/comparison/charts.h"
#include "fuseline/comparison/tables.h"
#include "fuseline/core/child_process.h"
#include "fuseline/core/file.h"
#include "fuseline/core/stage.h"
#include "fuseline/learner/algorithms.h"
#include "fuseline/proto/settings.h"
#include "opening.h"
#include "progress_line.h"
#include "stop_signal.h"

namespace fuseline {
namespace {

constexpr std::int64_t kStopPatienceMs = 20'000;
constexpr std::int64_t kLookEveryMs = 100;
constexpr const char* kProgressFile = "progress";
constexpr const char* kLogFile = "log";

struct CompareOptions {
  SettingsOptions settings;
  std::string world;
  std::vector<std::string> algorithms;
  std::string seeds = "5";
  std::string preset = "small";
  std::uint64_t sessions = 40'000;
  std::uint64_t points = 20;
  std::uint64_t jobs = 1;
  std::string out;
  std::string run;
  bool dry_run = false;
};

// Settings in which a comparison differs from production, the same in every world; each algorithm's own were tried out with like
// effort. docs/results.md says how they were found; --set wins.
std::vector<std::string> ComparisonSettings(const CompareOptions& options) {
  std::vector<std::string> sets = {
      "fuseline.log_level=error",
      "ranker.exploration_form=box",
      "learner.preset=" + options.preset,
      "policy.box_lower=-0.5",
      "policy.box_upper=0.5",
      "learner.gamma=0.2",
      "learner.actor_delay_steps=300",
      "learner.actor_rate=0.001",
      "learner.critic_rate=0.001",
      "learner.steps_per_transition=0.06",
      "learner.version_every_steps=250",
      "learner.td=item",
      "learner.critic_state=without_scores",
      "learner.actor_state=without_scores",
      "learner.box_rounds=0",
      "learner.inside_pull=0.4",
      "learner.power_sum_pull=3",
      "learner.actor_aim=selection",
      "es.rate=0.004",
      "ddpg.actor_rate=0.00001",
      "td3.actor_rate=0.00003",
      "iql.actor_rate=0.001",
      "iql.critic_rate=0.001",
      "iql.value_rate=0.001",
      "iql.expectile=0.9",
      "cql_sac.conservative_weight=0.5",
      "batch_rl.gamma=0.2",
      "batch_rl.critic_rate=0.001",
      "batch_rl.perturbation_rate=0.001",
      "batch_rl.rho=0.3",
  };
  sets.insert(sets.end(), options.settings.sets.begin(), options.settings.sets.end());
  return sets;
}

Result<ComparisonPlan> PlanOf(const CompareOptions& options) {
  SettingsSources sources;
  sources.file = options.settings.file;
  sources.environment = SettingsEnvironment();
  sources.flags = ComparisonSettings(options);
  ComparisonPlan plan{.world = options.world,
                      .algorithms = options.algorithms,
                      .seeds = {},
                      .sessions = options.sessions,
                      .points = std::min(options.points, options.sessions),
                      .folder = options.out.empty() ? "comparison-" + std::filesystem::path(options.world).stem().string() : options.out,
                      .build = BuildText(),
                      .config = {}};
  FUSELINE_ASSIGN_OR_FAIL(plan.config, LoadSettings(sources));
  FUSELINE_ASSIGN_OR_FAIL(plan.seeds, ParseSeeds(options.seeds));
  for (auto one = plan.algorithms.begin(); one != plan.algorithms.end(); ++one) {
    if (std::find(plan.algorithms.begin(), one, *one) != one) return Error(Code::kInvalidInput, "--algorithms names one twice:", *one);
    FUSELINE_FAIL_IF_ERROR(CheckAlgorithm(plan.ConfigOf({*one, 1})));
  }
  return plan;
}

// The same comparison again, for a run of its own.
std::vector<std::string> CommandOf(const CompareOptions& options) {
  std::string algorithms;
  for (const std::string& one : options.algorithms) algorithms += (algorithms.empty() ? "" : ",") + one;
  std::vector<std::string> command = {"/proc/self/exe",  "compare",  "--world",    options.world,
                                      "--algorithms",    algorithms, "--seeds",    options.seeds,
                                      "--preset",        options.preset, "--sessions", std::to_string(options.sessions),
                                      "--points",        std::to_string(options.points)};
  if (!options.out.empty()) command.insert(command.end(), {"--out", options.out});
  if (!options.settings.file.empty()) command.insert(command.end(), {"--config", options.settings.file});
  for (const std::string& set : options.settings.sets) command.insert(command.end(), {"--set", set});
  return command;
}

Result<std::unique_ptr<World>> OpenWorldOf(const ComparisonPlan& plan, std::uint64_t seed) {
  return OpenWorld(plan.world, seed, plan.config.rewards());
}

// --- one run, in this process ---

Result<RunRecord> MakeRun(const ComparisonPlan& plan, const RunName& name, StopSignal& stop) {
  FUSELINE_ASSIGN_OR_FAIL(const auto world, OpenWorldOf(plan, name.seed));
  LoopPlan loop{.config = SettingsFor(*world, plan.ConfigOf(name)),
                .sessions = plan.sessions,
                .points = plan.points,
                .folder = plan.WorkOf(name),
                .build = plan.build,
                .progress = {}};
  FUSELINE_ASSIGN_OR_FAIL(const Severity severity, ParseSeverity(loop.config.fuseline().log_level()));
  std::error_code ignored;  // A leftover that cannot be removed fails the stages that meet it.
  std::filesystem::remove_all(loop.folder, ignored);
  FUSELINE_FAIL_IF_ERROR(MakeFolders(loop.folder));
  SystemClock clock;
  std::int64_t told_us = 0;
  loop.progress = [&](std::uint64_t sessions) {
    if (clock.monotonic_us() - told_us < kLookEveryMs * 1'000) return;
    told_us = clock.monotonic_us();
    const auto file = loop.folder / kProgressFile;
    std::ofstream(file.string() + ".new") << sessions << '\n';
    std::filesystem::rename(file.string() + ".new", file, ignored);  // Whoever looks sees one number or the other.
  };
  Log log(severity);
  Metrics metrics;
  FUSELINE_ASSIGN_OR_FAIL(RunRecord record, RunClosedLoop(*world, loop, {log, metrics, clock}, stop.token()));
  record.world = plan.world;
  record.build = plan.build;
  FUSELINE_ASSIGN_OR_FAIL(record.settings_digest, plan.SettingsDigestOfRuns());
  return record;
}

int RunOne(const ComparisonPlan& plan, const std::string& text) {
  const auto name = ParseRunName(text);
  if (!name) return FailUsage(name.error());
  StopSignal stop;
  const auto record = MakeRun(plan, *name, stop);
  if (stop.stopped()) return kExitInterrupted;
  if (!record) return Fail(record.error());
  if (Status made = MakeFolders(plan.FileOf(*name).parent_path()); !made.ok()) return Fail(made);
  if (Status written = WriteFileAtomically(plan.FileOf(*name), PrintRunRecord(*record)); !written.ok()) return Fail(written);
  std::error_code ignored;
  std::filesystem::remove_all(plan.WorkOf(*name), ignored);
  return kExitOk;
}

// --- all runs, each in a process of its own ---

class Jobs {
 public:
  Jobs(const ComparisonPlan& plan, std::vector<std::string> command, std::size_t jobs) : plan_(plan), command_(std::move(command)), jobs_(jobs) {}

  // Makes what is missing. Returns the exit code of the first run that failed, kExitInterrupted after a stop, else kExitOk.
  int Make(std::vector<RunName> missing, std::size_t finished, const StopSignal& stop) {
    std::ranges::reverse(missing);  // Taken from the end.
    finished_ = finished;
    total_ = finished + missing.size();
    begin_us_ = clock_.monotonic_us();
    int code = kExitOk;
    while (code == kExitOk && !stop.stopped() && (!missing.empty() || !running_.empty())) {
      while (!missing.empty() && running_.size() < jobs_ && code == kExitOk) {
        code = Start(missing.back());
        missing.pop_back();
      }
      SleepFor(stop.token(), kLookEveryMs);
      for (auto job = running_.begin(); job != running_.end() && code == kExitOk;) {
        if (job->child.running()) {
          ++job;
          continue;
        }
        code = End(*job);
        job = running_.erase(job);
      }
      if (line_.due()) line_.Show(ProgressText());
    }
    for (Job& job : running_) job.child.Signal(SIGTERM);
    for (Job& job : running_) job.child.Stop(kStopPatienceMs);
    return stop.stopped() ? static_cast<int>(kExitInterrupted) : code;
  }

 private:
  struct Job {
    RunName name;
    ChildProcess child;
  };

  std::filesystem::path LogOf(const RunName& name) const { return plan_.WorkOf(name).string() + "." + kLogFile; }

  int Start(const RunName& name) {
    std::vector<std::string> arguments = command_;
    arguments.insert(arguments.end(), {"--run", name.text()});
    if (Status made = MakeFolders(plan_.WorkOf(name).parent_path()); !made.ok()) return Fail(made);
    std::error_code ignored;
    std::filesystem::remove(LogOf(name), ignored);
    auto child = ChildProcess::Start(arguments, LogOf(name));
    if (!child) return Fail(child.error());
    running_.push_back({name, std::move(*child)});
    return kExitOk;
  }

  int End(Job& job) {
    const int code = job.child.Wait();
    ++finished_;
    made_sessions_ += plan_.sessions;
    std::error_code ignored;
    if (code == kExitOk) {
      std::filesystem::remove(LogOf(job.name), ignored);
      return code;
    }
    std::cerr << "\nfuseline: run " << job.name.text() << " failed:\n" << ReadFile(LogOf(job.name)).value_or("(no output)\n");
    return code;
  }

  std::uint64_t SessionsOf(const Job& job) const {
    std::uint64_t sessions = 0;
    std::ifstream(plan_.WorkOf(job.name) / kProgressFile) >> sessions;
    return std::min(sessions, plan_.sessions);
  }

  std::string ProgressText() const {
    std::string text = "compare: " + std::to_string(finished_) + " of " + std::to_string(total_) + " runs";
    std::uint64_t made = made_sessions_;
    for (const Job& job : running_) {
      const std::uint64_t sessions = SessionsOf(job);
      made += sessions;
      text += ", " + job.name.text() + " " + std::to_string(100 * sessions / plan_.sessions) + " %";
    }
    const double elapsed_s = static_cast<double>(clock_.monotonic_us() - begin_us_) / 1e6;
    const auto done = static_cast<double>(made);
    const auto left = static_cast<double>((total_ - finished_) * plan_.sessions + made_sessions_);
    return text + "; " + RateText(done / std::max(elapsed_s, 1e-3)) + " sessions/s, " + EtaText(done, left, elapsed_s) + " left";
  }

  const ComparisonPlan& plan_;
  const std::vector<std::string> command_;
  const std::size_t jobs_;
  SystemClock clock_;
  ProgressLine line_;
  std::vector<Job> running_;
  std::size_t finished_ = 0, total_ = 0;
  std::uint64_t made_sessions_ = 0;  // Of runs that ended in this process.
  std::int64_t begin_us_ = 0;
};

Status WriteOutputs(const ComparisonPlan& plan, const std::vector<RunRecord>& runs) {
  const ComparisonSummary summary = Summarise(runs);
  const std::string table = MarkdownOf(summary);
  FUSELINE_RETURN_IF_ERROR(WriteFileAtomically(plan.folder / "comparison.md", table));
  FUSELINE_RETURN_IF_ERROR(WriteFileAtomically(plan.folder / "runs.csv", RunsCsv(runs)));
  FUSELINE_RETURN_IF_ERROR(WriteFileAtomically(plan.folder / "curves.csv", CurvesCsv(runs)));
  FUSELINE_RETURN_IF_ERROR(WriteFileAtomically(plan.folder / "curves.svg", CurvesSvg(runs, summary)));
  FUSELINE_RETURN_IF_ERROR(WriteFileAtomically(plan.folder / "gap_closed.svg", GapClosedSvg(summary)));
  std::cout << table << "\nwritten: " << plan.folder.string() << "/{comparison.md,runs.csv,curves.csv,curves.svg,gap_closed.svg}\n";
  return OkStatus();
}

// What is there and what is not. Errors: as ComparisonPlan::Finished.
struct Standing {
  std::vector<RunRecord> finished;
  std::vector<RunName> missing;
};
Result<Standing> Look(const ComparisonPlan& plan) {
  Standing standing;
  FUSELINE_ASSIGN_OR_FAIL(const std::string digest, plan.SettingsDigestOfRuns());
  for (const RunName& name : plan.Runs()) {
    FUSELINE_ASSIGN_OR_FAIL(auto record, plan.Finished(name, digest));
    if (record) standing.finished.push_back(*std::move(record));
    else standing.missing.push_back(name);
  }
  return standing;
}

int Compare(const CompareOptions& options) {
  const auto plan = PlanOf(options);
  if (!plan) return FailUsage(plan.error());
  if (const auto world = OpenWorldOf(*plan, plan->seeds.front()); !world) return FailUsage(world.error());
  if (!options.run.empty()) return RunOne(*plan, options.run);
  auto standing = Look(*plan);
  if (!standing) return Fail(standing.error());
  if (options.dry_run) {
    std::cout << standing->finished.size() << " runs are finished in " << plan->folder.string() << ", " << standing->missing.size()
              << " are to be made:";
    for (const RunName& name : standing->missing) std::cout << ' ' << name.text();
    std::cout << '\n';
    return kExitOk;
  }
  const auto lock = FolderLock::Acquire(plan->folder);
  if (!lock) return Fail(lock.error());
  StopSignal stop;
  const int code = Jobs(*plan, CommandOf(options), options.jobs).Make(standing->missing, standing->finished.size(), stop);
  standing = Look(*plan);
  if (!standing) return Fail(standing.error());
  if (standing->finished.empty()) return code;
  if (Status written = WriteOutputs(*plan, standing->finished); !written.ok()) return Fail(written);
  return code;
}

}  // namespace

void RegisterCompare(Program& program) {
  auto options = std::make_shared<CompareOptions>();
  CLI::App* compare = program.AddSubcommand(
      "compare", "Algorithms side by side: the closed loop for each with the same sessions, a table with intervals over seeds, and curves",
      "fuseline compare --world synthetic --algorithms enhanced_rl,integrated_rl,ddpg,static --seeds 5 --jobs 2");
  options->settings.AddTo(*compare);
  compare->add_option("--world", options->world, "a built-in world, or the YAML file of one")->required();
  compare->add_option("--algorithms", options->algorithms, "which, separated by commas")->delimiter(',')->required();
  compare->add_option("--seeds", options->seeds, "5: 1 to 5; or 101-105; or 1,4,7")->capture_default_str();
  compare->add_option("--preset", options->preset, "small or paper: network sizes and batch")->capture_default_str();
  compare->add_option("--sessions", options->sessions, "finished sessions of a run")->check(CLI::PositiveNumber)->capture_default_str();
  compare->add_option("--points", options->points, "points of a curve")->check(CLI::PositiveNumber)->capture_default_str();
  compare->add_option("--jobs", options->jobs, "runs at once, a process each")->check(CLI::Range(1, 256))->capture_default_str();
  compare->add_option("--out", options->out, "where runs, tables and curves go; what is finished there is not made again")->type_name("FOLDER");
  compare->add_option("--run", options->run, "make this one run and no tables, e.g. on another machine")->type_name("ALGORITHM:SEED");
  compare->add_flag("--dry-run", options->dry_run, "check everything, say which runs would be made, and stop");
  program.SetBody(compare, [options] { return Compare(*options); });
}

}  // namespace fuseline
