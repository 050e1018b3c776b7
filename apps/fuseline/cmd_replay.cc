#include <cstdio>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "command.h"
#include "fuseline/core/stage.h"
#include "fuseline/ingest/accounting.h"
#include "fuseline/learner/scorer.h"
#include "fuseline/policy_store/epoch_file.h"
#include "fuseline/proto/settings.h"
#include "learning_input.h"
#include "opening.h"
#include "pipeline.h"
#include "progress_line.h"
#include "reward_comparison.h"
#include "starting_point.h"
#include "state_folder.h"
#include "status_json.h"
#include "stop_signal.h"
#include "stored_status.h"
#include "verification.h"

namespace fuseline {
namespace {

constexpr std::int64_t kPublishPatienceMs = 30'000;

struct ReplayOptions {
  SettingsOptions settings;
  std::vector<std::string> files;
  bool topic = false;
  std::string from = "earliest";
  std::string state;
  std::int64_t gap_ms = -1;
  std::string rewards;
  bool publish = false;
  std::uint64_t verify = 0;
  bool scorer = false;
  std::string archive;
  bool json = false;
};

// The source of a replay: files, or the events topic up to its present end.
Status OpenInput(const ReplayOptions& options, const v1::Config& config, DeadLetterSink* dead_letters, SessionStage& stage) {
  if (options.topic) {
    FUSELINE_ASSIGN_OR_RETURN(const kafka::StartPosition from, ParseStartingPoint(options.from));
    return ReadEventsTopic(config, {.from = from, .until_end = true}, dead_letters, stage);
  }
  return ReadFiles(config, options.files, dead_letters, stage);
}

// Beside the stages: what a person sees of them.
Status ShowProgress(const Pipeline& pipeline, const Clock& clock, std::stop_token stop) {
  ProgressLine line;
  const std::int64_t begin_us = clock.monotonic_us();
  while (SleepFor(stop, 100)) {
    if (!line.due()) continue;
    const PipelineStatus status = pipeline.status();
    const double elapsed_s = static_cast<double>(clock.monotonic_us() - begin_us) / 1e6;
    const v1::Accounting account = status.accounting();
    const auto read = static_cast<double>(account.read());
    std::string text = RateText(read / elapsed_s) + " events/s  " + std::to_string(account.read()) + " read  " +
                       std::to_string(account.sessions()) + " sessions  " + std::to_string(status.learner.steps) + " steps  " +
                       std::to_string(status.learner.versions) + " versions";
    if (status.input.total > 0) text += "  ETA " + EtaText(status.input.done, status.input.total, elapsed_s);
    line.Show(text);
  }
  return OkStatus();
}

void PrintSummary(const PipelineStatus& status) {
  std::cout << "accounting  " << AccountingText(status.accounting()) << '\n'
            << "sessions    " << status.accounting().sessions() << ", of these with an exposure "
            << status.accounting().trajectories() << '\n'
            << "learner     " << status.learner.transitions << " transitions, " << status.learner.steps << " steps, "
            << status.learner.versions << " versions, " << status.learner.versions_accepted << " accepted\n";
  for (const auto& [reason, count] : status.learner.left_out) {
    if (count > 0) std::cout << "            left out, " << reason << ": " << count << '\n';
  }
  if (const auto& scorer = status.learner.scorer) {
    std::cout << "scorer      " << scorer->impressions << " impressions, " << scorer->steps << " steps, " << scorer->versions << " versions, "
              << scorer->versions_accepted << " accepted\n";
  }
  std::cout << "weights     sha256 " << status.weights_sha256 << '\n';
  if (status.publication.epoch > 0) std::cout << "live        version " << status.publication.live_version << '\n';
}

struct ReplayResult {
  PipelineStatus status;
  std::optional<RewardReport> rewards;  // With --rewards.
};

// Shows the learner's trajectories to a second one, until that fails; then everything stops, and `failure` says why.
void LearnBeside(RewardComparison& comparison, Learner& learner, StopSignal& stop, Status& failure) {
  learner.OnMerged([&](const v1::Trajectory& trajectory) {
    if (failure.ok()) failure = comparison.Take(trajectory);
    if (!failure.ok()) stop.RequestStop();
  });
}

Status Replay(const ReplayOptions& options, const v1::Config& config, const std::optional<v1::Rewards>& rewards, StopSignal& stop,
              Instruments instruments, ReplayResult* result) {
  std::string input = DescribeFiles(options.files), from;
  if (options.topic) {
    FUSELINE_ASSIGN_OR_RETURN(const kafka::StartPosition start, ParseStartingPoint(options.from));
    from = FromOf(start);
    FUSELINE_ASSIGN_OR_RETURN(input, DescribeTopic(config, config.kafka().events_topic()));
  }
  FUSELINE_ASSIGN_OR_RETURN(const OpenFolder state, OpenFolder::Open(config, input));
  FUSELINE_ASSIGN_OR_RETURN(auto dead_letters, OpenDeadLetters(config, /*without_kafka=*/true));
  std::uint64_t epoch = 0;
  if (options.publish) {
    FUSELINE_ASSIGN_OR_RETURN(epoch, options.topic ? ClaimEpoch(config) : NextEpoch(state.folders.root));
  }
  Freshness freshness(instruments.metrics);
  Pipeline::Parts parts;
  FUSELINE_ASSIGN_OR_RETURN(parts.sessionizer, OpenSessionizer(config, state.folders, instruments));
  FUSELINE_ASSIGN_OR_RETURN(parts.learner, OpenLearner(config, state.folders, {input, from}, instruments));
  FUSELINE_RETURN_IF_ERROR(RememberSettings(config, state.folders));
  std::unique_ptr<RewardComparison> comparison;
  Status comparison_failure;
  if (rewards) {
    const auto folder = state.folders.root / "proposed";
    FUSELINE_ASSIGN_OR_RETURN(comparison, RewardComparison::Open(config, *rewards, folder, instruments.log, instruments.clock));
    LearnBeside(*comparison, *parts.learner, stop, comparison_failure);
  }
  FUSELINE_ASSIGN_OR_RETURN(parts.publication, OpenPublication(config, epoch, freshness, instruments));
  FUSELINE_ASSIGN_OR_RETURN(parts.scorers, OpenScorerPublication(config, epoch, instruments));
  std::vector<const Publication*> publications{parts.publication.get()};
  if (parts.scorers) publications.push_back(parts.scorers.get());
  Pipeline pipeline(config, std::move(parts), freshness, instruments);
  FUSELINE_RETURN_IF_ERROR(OpenInput(options, config, dead_letters.get(), pipeline.sessions()));
  if (comparison != nullptr) comparison->ExpectPartitions(static_cast<int>(pipeline.sessions().partitions().size()));
  {
    Stage progress("progress", [&](std::stop_token token) { return ShowProgress(pipeline, instruments.clock, token); });
    FUSELINE_RETURN_IF_ERROR(pipeline.Run(stop.token()));
  }
  for (const Publication* publication : publications) {
    if (options.publish && !stop.stopped() && !publication->WaitUntilPublished(kPublishPatienceMs))
      return ErrorStatus(Code::kUnavailable, "versions are in the archive but not in Redis:", publication->status().last_error);
  }
  FUSELINE_RETURN_IF_ERROR(comparison_failure);
  result->status = pipeline.status();
  if (comparison != nullptr) {
    FUSELINE_ASSIGN_OR_RETURN(result->rewards, comparison->Finish(state.folders.versions, result->status.weights_sha256));
  }
  return OkStatus();
}

// Exit code 5 where the derived version is another.
int Verify(const ReplayOptions& options) {
  if (options.topic || options.publish || !options.rewards.empty() || options.gap_ms >= 0)
    return FailUsage(ErrorStatus(Code::kInvalidInput, "--verify reads what the version's lineage names, under its settings: not with",
                                 "--topic, --publish, --rewards or --gap-ms"));
  if (options.state.empty() == options.archive.empty())
    return FailUsage(ErrorStatus(Code::kInvalidInput, "--verify wants the state folder that holds the version (--state), or its archive (--archive)"));
  if (!options.state.empty() && !std::filesystem::exists(options.state))
    return FailUsage(ErrorStatus(Code::kNotFound, "no such state folder:", options.state));
  SettingsOptions settings = options.settings;
  settings.state = options.state;
  const bool of_state = !options.state.empty() && std::filesystem::exists(std::filesystem::path(options.state) / kSettingsFile);
  const auto config = of_state ? settings.LoadOfState() : settings.Load();
  if (!config) return FailUsage(config.error());
  const auto severity = ParseSeverity(config->fuseline().log_level());
  if (!severity) return FailUsage(severity.error());
  const StateFolders folders(options.state);
  const std::string archive = options.archive.empty() ? (options.scorer ? folders.scorers : folders.versions).string() : options.archive;

  StopSignal stop;
  Log log(*severity);
  Metrics metrics;
  SystemClock clock;
  const VerificationOptions what{.version = options.verify, .state = options.state, .archive = archive, .files = options.files};
  const auto verification = VerifyVersion(what, *config, stop, {log, metrics, clock});
  if (stop.stopped()) return kExitInterrupted;
  if (!verification) return Fail(verification.error());
  if (options.json) {
    std::cout << VerificationJson(*verification) << '\n';
  } else {
    std::cout << VerificationText(*verification);
  }
  return verification->equal() ? kExitOk : kExitRefused;
}

int Run(ReplayOptions options) {
  if (options.verify > 0) return Verify(options);
  if (options.scorer) return FailUsage(ErrorStatus(Code::kInvalidInput, "--scorer says of which archive --verify's version is; a replay learns a scorer with --set scorer.learn=true"));
  if (options.topic != options.files.empty()) {
    return FailUsage(ErrorStatus(Code::kInvalidInput, "a replay reads either files or, with --topic, the events topic"));
  }
  for (const std::string& file : options.files) {  // Before anything is made in the state folder.
    if (file == "-" || std::filesystem::exists(file)) continue;
    return FailUsage(ErrorStatus(Code::kNotFound, "no such file:", file));
  }
  std::optional<v1::Rewards> rewards;
  if (!options.rewards.empty()) {
    if (!options.state.empty() || options.publish) {
      return FailUsage(ErrorStatus(Code::kInvalidInput, "--rewards compares from the beginning and publishes nothing: not with",
                                   "--state or --publish"));
    }
    auto loaded = LoadRewards(options.rewards);
    if (!loaded) return FailUsage(loaded.error());
    rewards = *loaded;
  }
  const StateFolder folder(options.state);
  options.settings.sets.push_back("fuseline.state_dir=" + folder.path().string());
  if (options.gap_ms >= 0) options.settings.sets.push_back("sessionizer.gap_ms=" + std::to_string(options.gap_ms));
  auto config = options.settings.Load();
  if (!config) return FailUsage(config.error());
  config->mutable_kafka()->clear_group_id();  // A replay moves no group's offsets.
  const auto severity = ParseSeverity(config->fuseline().log_level());
  if (!severity) return FailUsage(severity.error());
  if (const Status scorer = CheckScorerStream(*config); !scorer.ok()) return FailUsage(scorer);

  StopSignal stop;
  Log log(*severity);
  Metrics metrics;
  SystemClock clock;
  ReplayResult result;
  const Status outcome = Replay(options, *config, rewards, stop, {log, metrics, clock}, &result);
  if (!outcome.ok()) return Fail(outcome);
  if (options.json) {
    std::cout << ReplayJson(result.status, result.rewards ? RewardReportJson(*result.rewards) : "") << '\n';
  } else {
    PrintSummary(result.status);
    if (result.rewards) std::cout << RewardReportText(*result.rewards);
  }
  return stop.stopped() ? static_cast<int>(kExitInterrupted) : static_cast<int>(kExitOk);
}

}  // namespace

void RegisterReplay(Program& program) {
  auto options = std::make_shared<ReplayOptions>();
  CLI::App* replay = program.AddSubcommand(
      "replay", "Learn from a finite log, files or the events topic up to its end, through the same stages as run",
      "fuseline replay week.jsonl.zst --gap-ms 21600000 --state week --json\n"
      "  fuseline replay --topic --rewards likes_count_more.yaml\n"
      "  fuseline replay --verify 40 --state /var/lib/fuseline\n"
      "  fuseline replay --verify 12 --scorer --state /var/lib/fuseline");
  options->settings.AddTo(*replay);
  replay->add_option("files", options->files, "events: .jsonl or .pb, plain, .gz or .zst; - for standard input")->type_name("FILE");
  replay->add_flag("--topic", options->topic, "read the events topic (kafka.events_topic) up to its present end instead");
  replay->add_option("--from", options->from, "with --topic: earliest, latest, offset:N, time:MS")->capture_default_str();
  replay->add_option("--state", options->state, "folder to keep the state in, and to go on from; without: a temporary one")
      ->type_name("DIR");
  replay->add_option("--gap-ms", options->gap_ms, "silence that ends a session (sessionizer.gap_ms)")
      ->check(CLI::NonNegativeNumber)
      ->type_name("MS");
  replay->add_option("--rewards", options->rewards,
                     "learn the same trajectories a second time under the section rewards of this YAML file, and say what differs")
      ->type_name("SPEC");
  replay->add_flag("--publish", options->publish, "publish accepted versions to Redis; without: they stay in the archive");
  replay->add_option("--verify", options->verify,
                     "derive this version again from its lineage and compare digests: exit 0 equal, 5 not, 4 when version, log, or the state at its last change of settings are gone")
      ->check(CLI::PositiveNumber)
      ->type_name("VERSION");
  replay->add_flag("--scorer", options->scorer, "with --verify: a version of the scorer that was learned beside the policy");
  replay->add_option("--archive", options->archive, "with --verify: an archive (STATE/policy) without the state folder that made it")
      ->type_name("DIR");
  replay->add_flag("--json", options->json, "a last line of JSON instead of the table");
  program.SetBody(replay, [options] { return Run(*options); });
}

}  // namespace fuseline
