#include <algorithm>
#include <atomic>
#include <cstdio>
#include <iostream>
#include <memory>
#include <string>

#include "command.h"
#include "demo_report.h"
#include "demo_scorer.h"
#include "demo_world.h"
#include "fuseline/core/stage.h"
#include "fuseline/ingest/accounting.h"
#include "fuseline/kafka/mock_cluster.h"
#include "fuseline/learner/scorer.h"
#include "fuseline/proto/settings.h"
#include "fuseline/rollout/experiment.h"
#include "fuseline/serving_bridge/event_log_kafka.h"
#include "fuseline/simulator/bridge.h"
#include "learning_input.h"
#include "opening.h"
#include "operator_pages.h"
#include "pipeline.h"
#include "policy_values.h"
#include "private_redis.h"
#include "progress_line.h"
#include "state_folder.h"
#include "stop_signal.h"

namespace fuseline {
namespace {

constexpr std::int64_t kStartMs = 1'704'067'200'000;  // 2024-01-01, so that a demo can be repeated.
constexpr std::int64_t kSpreadMs = 6 * 3'600'000;     // Over which users begin.
constexpr int kPartitions = 2;
// The mock cluster keeps 5 MiB of a partition and drops the rest silently: hold back well before.
constexpr std::uint64_t kLagEventsMax = 4'000;
constexpr std::uint64_t kLearnerBacklogMax = 16;
constexpr std::uint64_t kEventsPerLook = 200;
constexpr std::int64_t kSettlingPatienceUs = 60'000'000;  // After the last event; then the table says what is missing.

struct DemoOptions {
  SettingsOptions settings;
  DemoWorldOptions world;
  DemoScorerOptions scorer;
  std::uint64_t events = 1'200'000;
  std::uint64_t seed = 1;
  double seconds_max = 150;
  std::string state;
  std::string log_level = "error";
};

// Settings in which a demo differs from production: quick versions, more steps for each of few transitions, and one action a
// request, whose effect on what is shown can be learned from one noise vector a request (docs/decisions/0007). The box is twice
// the papers': a demo has minutes, not weeks, to see through the noise of users. --set wins.
std::vector<std::string> DemoSettings(const DemoOptions& options, const std::string& state, const std::string& brokers,
                                      const std::string& redis) {
  std::vector<std::string> sets = {
      "fuseline.state_dir=" + state,
      "fuseline.seed=" + std::to_string(options.seed),
      "fuseline.log_level=" + options.log_level,
      "kafka.brokers=" + brokers,
      "redis.address=" + redis,
      "http.address=127.0.0.1:0",
      "sessionizer.commit_records=2000",
      "sessionizer.commit_interval_ms=100",
      "learner.algorithm=integrated_rl",
      "policy.box_lower=-0.3",
      "policy.box_upper=0.3",
      "learner.steps_per_transition=0.08",
      "learner.eta=2.4",
      "learner.actor_delay_steps=600",
      "learner.actor_rate=0.0003",
      "learner.critic_rate=0.001",
      "learner.version_every_steps=800",
      "ranker.poll_interval_ms=50",
      "ranker.event_log_queue=1024",
      "ranker.fetch_jitter_ms=0",
  };
  const std::vector<std::string> of_scorer = options.scorer.Settings();
  sets.insert(sets.end(), of_scorer.begin(), of_scorer.end());
  sets.insert(sets.end(), options.settings.sets.begin(), options.settings.sets.end());
  return sets;
}

// What the simulation's thread tells the others.
struct Watched {
  ArmStatistics now;
  ArmStatistics at_half;
  bool half_reached = false;
  std::uint64_t events = 0;
  std::int64_t event_time_ms = kStartMs;
  std::uint64_t requests = 0, unscored = 0;  // Of these: whose task scores were no scorer's.
};

// Counts what the ranker answers.
class CountingRankService final : public RankService {
 public:
  explicit CountingRankService(Ranker& ranker) : service_(ranker) {}
  Status Rank(const RankingRequest& request, v1::Exposure* exposure) override {
    FUSELINE_RETURN_IF_ERROR(service_.Rank(request, exposure));
    ++requests;
    unscored += exposure->scorer_version() == 0 ? 1 : 0;
    return OkStatus();
  }
  std::uint64_t requests = 0, unscored = 0;

 private:
  BridgeRankService service_;
};

// The simulated users: their requests go to the ranker client, their events through its event log.
class Users {
 public:
  Users(const v1::Config& config, const DemoOptions& options) : config_(config), options_(options) {}

  Status Live(const World& world, Ranker& ranker, EventLog& event_log, const Clock& clock, std::stop_token stop) {
    CountingRankService service(ranker);
    BridgeEventSink sink(event_log);
    Simulation simulation(world, service, sink, kStartMs, kSpreadMs, {}, options_.scorer.learns() ? ScoresOf::kRanker : ScoresOf::kWorld);
    const std::int64_t end_us = clock.monotonic_us() + static_cast<std::int64_t>(options_.seconds_max * 1e6);
    while (simulation.events() < options_.events && clock.monotonic_us() < end_us && !stop.stop_requested()) {
      const auto made = simulation.RunUntil({.max_events = kEventsPerLook}, stop);
      if (!made) return made.error();
      Tell(simulation, service);
    }
    FUSELINE_RETURN_IF_ERROR(simulation.Drain());
    Tell(simulation, service);
    return event_log.Close();
  }

  Watched watched() const { return watched_.Copy(); }

 private:
  void Tell(const Simulation& simulation, const CountingRankService& service) {
    watched_.With([&](Watched& watched) {
      watched.requests = service.requests;
      watched.unscored = service.unscored;
      watched.now = simulation.statistics();
      watched.events = simulation.events();
      watched.event_time_ms = simulation.now_ms();
      if (watched.half_reached || watched.events < options_.events / 2) return;
      watched.half_reached = true;
      watched.at_half = watched.now;
    });
  }

  const v1::Config& config_;
  const DemoOptions& options_;
  Guarded<Watched> watched_;
};

std::string LiveLine(const Watched& watched, const PipelineStatus& pipeline, double elapsed_s) {
  const double learning = watched.now.Summarise("learning").mean_session_reward;
  const double fixed = watched.now.Summarise("static").mean_session_reward;
  const std::uint64_t lag = watched.events - std::min(watched.events, pipeline.ingested);
  std::string scorer;
  if (pipeline.learner.scorer) {
    scorer = "  scorer " + std::to_string(pipeline.scorer_publication ? pipeline.scorer_publication->live_version : 0) + " of " +
             std::to_string(pipeline.learner.scorer->versions);
  }
  char text[256];
  std::snprintf(text, sizeof text, "%s events/s  %llu events  %llu sessions  version %llu of %llu%s  lag %llu  reward/session: learning %.3f, static %.3f",
                RateText(static_cast<double>(watched.events) / std::max(elapsed_s, 1e-3)).c_str(),
                static_cast<unsigned long long>(watched.events),
                static_cast<unsigned long long>(pipeline.accounting().sessions()),
                static_cast<unsigned long long>(pipeline.publication.live_version),
                static_cast<unsigned long long>(pipeline.learner.versions), scorer.c_str(), static_cast<unsigned long long>(lag), learning,
                fixed);
  return text;
}

// Until the users are done and everything they did has been read, or a stop is asked for.
void Watch(const Users& users, const EventLog& event_log, const Pipeline& pipeline, StopSignal& stop, const Stage& loop,
             const Stage& life, const Clock& clock) {
  ProgressLine line;
  const std::int64_t begin_us = clock.monotonic_us();
  while (SleepFor(stop.token(), 50) && !loop.finished() && !life.finished()) {
    if (!line.due()) continue;
    line.Show(LiveLine(users.watched(), pipeline.status(), static_cast<double>(clock.monotonic_us() - begin_us) / 1e6));
  }
  const auto learned = [&] {
    const PipelineStatus status = pipeline.status();
    return status.accounting().read() >= event_log.figures().taken && status.idle && status.learner_backlog() == 0;
  };
  const std::int64_t patience_us = clock.monotonic_us() + kSettlingPatienceUs;
  while (!loop.finished() && !learned() && clock.monotonic_us() < patience_us && SleepFor(stop.token(), 20)) {
  }
}

// Accelerated users wait for the loop: for the broker, which would drop what is not read, and for the learner, or they would
// have lived their lives before the first version. A learner that idles waits for later events, and is never waited for.
bool IsBehind(const PipelineStatus& status, std::uint64_t sent) {
  if (sent > status.ingested + kLagEventsMax) return true;
  return !status.idle && status.learner_backlog() > kLearnerBacklogMax;
}

Result<DemoScorerFigures> ScorerFiguresOf(const v1::Config& config, const Watched& watched, const ScorerProgress& learned,
                                          const RankerStatus& served, const std::filesystem::path& archive) {
  DemoScorerFigures figures{.backbone = config.scorer().backbone(), .weights = config.scorer().weights()};
  figures.phase = learned.phase;
  figures.made = learned.versions;
  figures.accepted = learned.versions_accepted;
  figures.in_use = served.scorer_version;
  figures.requests = watched.requests;
  figures.unscored = watched.unscored;
  FUSELINE_FAIL_IF_ERROR(ReadScorerWindows(archive, &figures));
  return figures;
}

// What the policy in use is worth, by the scores that the ranker had.
Result<PolicyValues> ValuesOf(const World& world, const v1::Config& config, const StateFolders& folders, const RankerStatus& served) {
  if (served.scorer_version == 0) return MeasurePolicies(world, config, folders.versions, served.version, nullptr);
  FUSELINE_ASSIGN_OR_FAIL(const ScorerNetwork scorer, OpenScorer(folders.scorers, served.scorer_version));
  return MeasurePolicies(world, config, folders.versions, served.version, &scorer);
}

// What was seen, once all has ended.
Result<DemoFigures> FiguresOf(const v1::Config& config, const Watched& watched, const PipelineStatus& status, const RankerStatus& served,
                              const StateFolders& folders) {
  DemoFigures figures;
  figures.whole_run = watched.now;
  figures.second_half = watched.half_reached ? watched.now.Since(watched.at_half) : watched.now;
  figures.event_time_h = static_cast<double>(watched.event_time_ms - kStartMs) / 3.6e6;
  figures.pipeline = status;
  figures.version_in_use = served.version;
  if (!status.learner.scorer) return figures;
  FUSELINE_ASSIGN_OR_FAIL(figures.scorer, ScorerFiguresOf(config, watched, *status.learner.scorer, served, folders.scorers));
  return figures;
}

// Everything after the settings and the world: the loop, and the users in it.
Result<DemoFigures> Play(const v1::Config& config, const World& world, const DemoOptions& options, StopSignal& stop,
                         Instruments instruments) {
  FUSELINE_ASSIGN_OR_FAIL(const std::string input, DescribeTopic(config, config.kafka().events_topic()));
  FUSELINE_ASSIGN_OR_FAIL(const OpenFolder state, OpenFolder::Open(config, input));
  FUSELINE_ASSIGN_OR_FAIL(auto dead_letters, OpenDeadLetters(config, /*without_kafka=*/true));
  FUSELINE_ASSIGN_OR_FAIL(const std::uint64_t epoch, ClaimEpoch(config));
  Freshness freshness(instruments.metrics);
  Pipeline::Parts parts;
  FUSELINE_ASSIGN_OR_FAIL(parts.sessionizer, OpenSessionizer(config, state.folders, instruments));
  FUSELINE_ASSIGN_OR_FAIL(parts.learner, OpenLearner(config, state.folders, {.words = input}, instruments));
  FUSELINE_FAIL_IF_ERROR(RememberSettings(config, state.folders));
  FUSELINE_ASSIGN_OR_FAIL(parts.publication, OpenPublication(config, epoch, freshness, instruments));
  FUSELINE_ASSIGN_OR_FAIL(parts.scorers, OpenScorerPublication(config, epoch, instruments));
  Pipeline pipeline(config, std::move(parts), freshness, instruments);
  FUSELINE_FAIL_IF_ERROR(ReadEventsTopic(config, {}, dead_letters.get(), pipeline.sessions()));
  OperatorPages pages([&] { return pipeline.status(); }, freshness, instruments);
  FUSELINE_FAIL_IF_ERROR(pages.Start(config.http().address(), state.folders.root));

  FUSELINE_ASSIGN_OR_FAIL(RankerOptions ranker_options, RankerOptionsOf(config));
  ranker_options.name = "demo-ranker";
  ranker_options.experiments = {LearningBesideStatic("demo", config.simulator().static_share())};
  FUSELINE_ASSIGN_OR_FAIL(const auto ranker,
                          Ranker::Open(std::move(ranker_options), instruments.log, instruments.metrics, instruments.clock));
  KafkaSinkOptions sink_options;
  sink_options.connection = ConnectionOf(config.kafka());
  sink_options.topic = config.kafka().events_topic();
  sink_options.event_time_timestamps = true;
  FUSELINE_ASSIGN_OR_FAIL(auto sink, OpenKafkaSink(sink_options, instruments.log));
  std::atomic<const EventLog*> log_of_events = nullptr;  // Its thread asks before the constructor has returned.
  EventLogOptions log_options;
  log_options.queue_events = static_cast<std::size_t>(config.ranker().event_log_queue());
  std::atomic<bool> loop_over = false;  // Nobody waits for a loop that has failed.
  log_options.hold_back = [&] {
    const EventLog* events = log_of_events;
    return !loop_over && events != nullptr && IsBehind(pipeline.status(), events->figures().taken);
  };
  EventLog event_log(std::move(log_options), std::move(sink), instruments.log, instruments.metrics);
  log_of_events = &event_log;

  Users users(config, options);
  const std::int64_t begin_us = instruments.clock.monotonic_us();
  std::stop_source enough;
  std::cerr << "demo: metrics and status at http://" << pages.address() << "/metrics and /status\n";
  Stage loop("loop", [&](std::stop_token) {
    Status outcome = pipeline.Run(enough.get_token());
    loop_over = true;
    return outcome;
  });
  Stage life("users", [&](std::stop_token token) { return users.Live(world, *ranker, event_log, instruments.clock, token); });
  Watch(users, event_log, pipeline, stop, loop, life, instruments.clock);
  life.RequestStop();
  const Status lived = life.Join();
  enough.request_stop();
  FUSELINE_FAIL_IF_ERROR(loop.Join());
  FUSELINE_FAIL_IF_ERROR(Status(lived));

  const RankerStatus served = ranker->status();
  FUSELINE_ASSIGN_OR_FAIL(DemoFigures figures, FiguresOf(config, users.watched(), pipeline.status(), served, state.folders));
  figures.freshness = freshness.MakeReport();
  figures.produced = event_log.figures().taken;
  figures.wall_s = static_cast<double>(instruments.clock.monotonic_us() - begin_us) / 1e6;
  if (stop.stopped()) return figures;
  FUSELINE_ASSIGN_OR_FAIL(figures.values, ValuesOf(world, config, state.folders, served));
  return figures;
}

Result<DemoFigures> PrepareAndPlay(const DemoOptions& options, StopSignal& stop, Instruments instruments) {
  const StateFolder folder(options.state);
  FUSELINE_ASSIGN_OR_FAIL(const auto cluster, kafka::MockCluster::Start(1));
  FUSELINE_ASSIGN_OR_FAIL(const PrivateRedis redis, PrivateRedis::Start(folder.path() / "redis"));
  SettingsSources sources;
  sources.file = options.settings.file;
  sources.flags = DemoSettings(options, folder.path().string(), cluster->connection().bootstrap_servers, redis.address());
  FUSELINE_ASSIGN_OR_FAIL(v1::Config config, LoadSettings(sources));
  FUSELINE_ASSIGN_OR_FAIL(const auto world, OpenDemoWorld(options.world, folder.path(), &config));
  FUSELINE_FAIL_IF_ERROR(CheckScorerStream(config));
  FUSELINE_FAIL_IF_ERROR(cluster->CreateTopic(config.kafka().events_topic(), kPartitions));
  FUSELINE_FAIL_IF_ERROR(cluster->CreateTopic(config.kafka().claims_topic(), 1));
  return Play(config, *world, options, stop, instruments);
}

int Run(const DemoOptions& options) {
  const auto severity = ParseSeverity(options.log_level);
  if (!severity) return FailUsage(severity.error());
  if (const Status found = CheckDemoWorld(options.world); !found.ok()) return FailUsage(found);
  StopSignal stop;
  Log log(*severity);
  Metrics metrics;
  SystemClock clock;
  const auto figures = PrepareAndPlay(options, stop, {log, metrics, clock});
  if (!figures) return Fail(figures.error());
  const auto table = DemoTable(*figures);
  if (!table) return stop.stopped() ? static_cast<int>(kExitInterrupted) : Fail(table.error());
  std::cout << *table;
  if (stop.stopped()) return kExitInterrupted;
  const v1::Accounting accounting = figures->pipeline.accounting();
  const bool sound = figures->produced == accounting.read() && IsBalanced(accounting);
  return sound ? static_cast<int>(kExitOk) : static_cast<int>(kExitInternal);
}

}  // namespace

void RegisterDemo(Program& program) {
  auto options = std::make_shared<DemoOptions>();
  CLI::App* demo = program.AddSubcommand(
      "demo", "The whole loop with simulated users, a private Redis and an in-process Kafka; ends with a comparison of both arms",
      "fuseline demo --seed 7");
  options->settings.AddTo(*demo);
  options->world.AddTo(*demo);
  demo->add_option("--scorer", options->scorer.name, "none: requests bring the world's predictions; rmtl: features alone, task scores are those of a "
                   "scorer that learns from the same sessions; plain: the same without RMTL's weights")
      ->check(CLI::IsMember({"none", "rmtl", "plain"}))
      ->capture_default_str();
  demo->add_option("--events", options->events, "how many events the users make")->check(CLI::PositiveNumber)->capture_default_str();
  demo->add_option("--seed", options->seed, "seed of the world, the exploration and the learner")->capture_default_str();
  demo->add_option("--seconds-max", options->seconds_max, "stop earlier after so much wall time")->capture_default_str();
  demo->add_option("--state", options->state, "keep the state here; without: a temporary folder")->type_name("DIR");
  demo->add_option("--log-level", options->log_level, "debug, info, warn or error")->capture_default_str();
  program.SetBody(demo, [options] { return Run(*options); });
}

}  // namespace fuseline
