#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>

#include "command.h"
#include "comparison_plan.h"
#include "fuseline/core/clock.h"
#include "fuseline/core/file.h"
#include "fuseline/proto/settings.h"
#include "kuairand_folder.h"
#include "progress_line.h"
#include "scorer_data.h"
#include "scorer_log.h"
#include "scorer_run.h"
#include "scorer_table.h"
#include "starting_point.h"
#include "stop_signal.h"

namespace fuseline {
namespace {

struct TrainOptions {
  SettingsOptions settings;
  KuaiRandFolder log;
  ScorerLog events;  // Where log.data is empty.
  bool topic = false;
  std::filesystem::path out;
  int test_days = 2;
  std::vector<std::string> backbones, weights;
  std::string seeds = "1";
  bool dry_run = false;
};

bool IsKuaiRand(const TrainOptions& options) { return !options.log.data.empty(); }

// The settings of one training: its backbone, weights and seed over those that were given; KuaiRand's log has its own features.
Result<v1::Config> BaseConfig(const TrainOptions& options) {
  FUSELINE_ASSIGN_OR_FAIL(v1::Config config, options.settings.Load());
  if (IsKuaiRand(options)) *config.mutable_schema() = KuaiRandSchema();
  return config;
}

v1::Config ConfigOf(v1::Config config, const std::string& backbone, const std::string& weights, std::uint64_t seed) {
  config.mutable_scorer()->set_backbone(backbone);
  config.mutable_scorer()->set_weights(weights);
  config.mutable_fuseline()->set_seed(seed);
  return config;
}

struct Plan {
  v1::Config config;
  std::vector<std::string> backbones, weights;
  std::vector<std::uint64_t> seeds;
  std::size_t runs() const { return backbones.size() * weights.size() * seeds.size(); }
};

Result<Plan> PlanOf(const TrainOptions& options) {
  Plan plan;
  FUSELINE_ASSIGN_OR_FAIL(plan.config, BaseConfig(options));
  plan.backbones = options.backbones.empty() ? std::vector{plan.config.scorer().backbone()} : options.backbones;
  plan.weights = options.weights.empty() ? std::vector{plan.config.scorer().weights()} : options.weights;
  FUSELINE_ASSIGN_OR_FAIL(plan.seeds, ParseSeeds(options.seeds));
  for (const std::string& name : plan.backbones) FUSELINE_FAIL_IF_ERROR(CheckScorerBackbone(name));
  for (const std::string& name : plan.weights) {
    if (name != "none" && name != "linear" && name != "direct" && name != "constant")
      return Error(Code::kInvalidInput, "scorer.weights is none of none, linear, direct, constant:", name);
  }
  return plan;
}

// "mmoe, seed 2 (3 of 10): critics, epoch 1 of at most 10, 34 of 231 batches, 12.3 k impressions/s, at most 40 s left".
class Shown {
 public:
  void Begin(std::string name) {
    name_ = std::move(name);
    doing_.clear();
  }
  void Show(const v1::Scorer& settings, const ScorerTraining& training, std::string_view doing) {
    const ScorerPosition position = training.position();
    if (doing_ != doing) {
      doing_ = doing;
      begin_us_ = clock_.monotonic_us();
      begin_impressions_ = position.impressions;
    }
    if (!line_.due()) return;
    std::string text = name_ + ": " + std::string(doing);
    if (position.phase != ScorerPhase::kDone) {
      const bool critics = position.phase == ScorerPhase::kCritics;
      const auto epochs = static_cast<double>(critics ? settings.critic_epochs() : settings.epochs());
      const double elapsed_s = std::max(static_cast<double>(clock_.monotonic_us() - begin_us_) / 1e6, 1e-3);
      const auto learned = static_cast<double>(position.impressions - begin_impressions_);
      const auto batches = static_cast<double>(position.batches);
      const double done = static_cast<double>(position.epoch) * batches + static_cast<double>(position.batch);
      // A checkpoint's part was not done in this time.
      const double done_here = learned / static_cast<double>(position.batch_rows);
      const double left = epochs * batches - done;
      text += ", epoch " + std::to_string(position.epoch + 1) + " of at most " +
              std::to_string(static_cast<int>(epochs)) + ", " + std::to_string(position.batch) + " of " +
              std::to_string(position.batches) + " batches, " + RateText(learned / elapsed_s) +
              " impressions/s, at most " + EtaText(done_here, done_here + left, elapsed_s) + " left";
    }
    line_.Show(text);
  }

 private:
  const SystemClock clock_;
  ProgressLine line_;
  std::string name_, doing_;
  std::int64_t begin_us_ = 0;
  std::uint64_t begin_impressions_ = 0;
};

void PrintData(const ScorerData& data) {
  const std::string days = data.train_days > 0 ? " (" + std::to_string(data.train_days) + " local days)" : "";
  std::printf("%-34s %zu%s, %zu to stop by, %zu to judge by\n", "impressions to learn from", data.split.train_end, days.c_str(),
              data.split.validation_end - data.split.train_end, data.rows.size() - data.test_begin);
  std::printf("%-34s %llu repeated, %llu whose outcome came too late\n", "left out",
              static_cast<unsigned long long>(data.duplicate_rows), static_cast<unsigned long long>(data.known_too_late));
  for (const auto& [reason, impressions] : data.left_out)
    std::printf("%-34s %llu, %s\n", "", static_cast<unsigned long long>(impressions), reason.c_str());
  std::printf("%-34s %s\n", data.train_days > 0 ? "sessions (a user's local day)" : "sessions", LengthsText(data.train_sessions).c_str());
  std::printf("%-34s %s\n", data.train_days > 0 ? "sessions of the test days" : "sessions of the test", LengthsText(data.test_sessions).c_str());
}

RatesFigures RatesOf(const ScorerFields& fields, const ScorerData& data, bool smoothed) {
  const auto judged = [&](const std::vector<float>& scores) {
    return TableOf(fields.tasks(), JudgeScores(data.rows, data.test_begin, data.rows.size(), scores));
  };
  return {smoothed ? "smoothed rates" : "constant rates", judged(data.frozen_rates), judged(data.rates)};
}

Result<std::vector<ScorerResult>> RunAll(const Plan& plan, const ScorerFields& fields, const ScorerData& data, const std::string& input,
                                         const TrainOptions& options, const StopSignal& stop) {
  std::vector<ScorerResult> results;
  Shown shown;
  for (const std::string& backbone : plan.backbones) {
    for (const std::string& weights : plan.weights) {
      for (const std::uint64_t seed : plan.seeds) {
        const v1::Config config = ConfigOf(plan.config, backbone, weights, seed);
        const std::string name = backbone + '-' + weights + '-' + std::to_string(seed);
        shown.Begin(name + " (" + std::to_string(results.size() + 1) + " of " + std::to_string(plan.runs()) + ")");
        const auto show = [&](const ScorerTraining& training, std::string_view doing) {
          shown.Show(config.scorer(), training, doing);
        };
        FUSELINE_ASSIGN_OR_FAIL(ScorerResult result,
                                RunScorer(config, fields, data, input, options.out / name, show, stop.token()));
        results.push_back(std::move(result));
      }
    }
  }
  return results;
}

Status CheckInput(const TrainOptions& options) {
  const int named = (IsKuaiRand(options) ? 1 : 0) + (options.events.files.empty() ? 0 : 1) + (options.topic ? 1 : 0);
  if (named == 1) return OkStatus();
  return ErrorStatus(Code::kInvalidInput, "a scorer is trained on one of --data (KuaiRand's log), --events FILE and --topic");
}

// What is learned from, and its words. Before anything is read settings are checked: `usage` says that they cannot be.
Result<ScorerData> ReadInput(const TrainOptions& options, const v1::Config& config, const ScorerFields& fields, const StopSignal& stop,
                             std::string* words, bool* usage) {
  *usage = true;
  if (IsKuaiRand(options)) {
    FUSELINE_ASSIGN_OR_FAIL([[maybe_unused]] const auto tasks, KuaiRandTasksOf(fields.tasks()));
    *words = "KuaiRand, " + options.log.log + " but its last " + std::to_string(options.test_days) + " local days";
    auto data = ReadScorerData(options.log.files(), options.test_days, config, fields, {});
    *usage = !data && data.error().code == Code::kNotFound;
    return data;
  }
  FUSELINE_ASSIGN_OR_FAIL(const ScorerImpressions impressions, ScorerImpressions::Create(config));
  FUSELINE_ASSIGN_OR_FAIL([[maybe_unused]] const auto from, ParseStartingPoint(options.events.from));
  for (const std::string& file : options.events.files)
    if (!std::filesystem::exists(file)) return Error(Code::kNotFound, "no such file:", file);
  *usage = false;
  FUSELINE_ASSIGN_OR_FAIL(*words, DescribeScorerLog(config, options.events));
  return ReadScorerLog(config, impressions, options.events, [&] { return stop.stopped(); });
}

int RunTrainScorer(const TrainOptions& options) {
  if (const Status named = CheckInput(options); !named.ok()) return FailUsage(named);
  const auto plan = PlanOf(options);
  if (!plan) return FailUsage(plan.error());
  const auto fields = ScorerFields::Create(plan->config);
  if (!fields) return FailUsage(fields.error());
  const StopSignal stop;
  std::string words;
  bool usage = false;
  const auto data = ReadInput(options, plan->config, *fields, stop, &words, &usage);
  if (!data && stop.stopped()) return kExitInterrupted;
  if (!data) return usage ? FailUsage(data.error()) : Fail(data.error());
  PrintData(*data);
  if (options.dry_run) return kExitOk;
  const auto results = RunAll(*plan, *fields, *data, words, options, stop);
  if (!results) {
    const int code = Fail(results.error());
    return stop.stopped() ? static_cast<int>(kExitInterrupted) : code;
  }
  const RatesFigures rates = RatesOf(*fields, *data, IsKuaiRand(options));
  const std::string table = ScorerMarkdown(*results, rates);
  for (const auto& [file, text] : {std::pair{"results.md", table}, std::pair{"results.json", ScorerJson(*results, rates)}}) {
    if (const Status status = WriteFileAtomically(options.out / file, text); !status.ok()) return Fail(status);
  }
  std::cout << '\n' << table;
  return kExitOk;
}

}  // namespace

void RegisterTrainScorer(Program& program) {
  auto options = std::make_shared<TrainOptions>();
  CLI::App* train = program.AddSubcommand(
      "train-scorer", "Train the model of the task scores on a log, KuaiRand's or one of events, and judge it on what came later",
      "fuseline train-scorer --data kuairand --out scorers --backbones mmoe,ple --weights none,linear --seeds 5\n"
      "  fuseline train-scorer --events week.jsonl.zst --set scorer.tasks=click,valid --test-share 0.2 --out scorers\n"
      "  fuseline train-scorer --topic --from time:1704067200000 --to 1704153600000 --set scorer.tasks=click,valid --out scorers");
  options->settings.AddTo(*train);
  options->log.AddTo(*train, "folder of KuaiRand's log and side tables");
  train->add_option("--events", options->events.files, "or files of events: .jsonl or .pb, plain, .gz or .zst")->type_name("FILE");
  train->add_flag("--topic", options->topic, "or the events topic (kafka.events_topic)");
  train->add_option("--from", options->events.from, "with --topic: earliest, latest, offset:N, time:MS; it is read to its present end")
      ->capture_default_str();
  train->add_option("--to", options->events.until_ms, "of events: leave out what was shown at this time or later, in ms since the epoch")
      ->check(CLI::NonNegativeNumber)
      ->type_name("MS");
  train->add_option("--test-share", options->events.test_share, "of events: the share of impressions, the last in time, to judge by")
      ->check(CLI::Range(0.001, 0.9))
      ->capture_default_str();
  train
      ->add_option("--impressions-max", options->events.impressions_max,
                   "of events: most impressions, all held in memory, up to 400 bytes each with the default schema; a log of more is an error")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  train
      ->add_option("--out", options->out, "folder of the scorers, one each, and of the results; the same command goes on there")
      ->required()
      ->type_name("DIR");
  train->add_option("--test-days", options->test_days, "of KuaiRand: last local days, to judge by; all before are learned from")
      ->check(CLI::Range(1, 3650))
      ->capture_default_str();
  train->add_option("--backbones", options->backbones, "trained one after another; none: scorer.backbone")->delimiter(',');
  train->add_option("--weights", options->weights, "of the losses: none, linear (RMTL), direct, constant; else scorer.weights")
      ->delimiter(',');
  train->add_option("--seeds", options->seeds, "how many from 1 on, or which: 5, 101-103, or 1,4,7")->capture_default_str();
  train->add_flag("--dry-run", options->dry_run, "read the log, count, train nothing");
  program.SetBody(train, [options] { return RunTrainScorer(*options); });
}

}  // namespace fuseline
