#include <iostream>
#include <memory>
#include <string>

#include "checks.h"
#include "command.h"
#include "opening.h"
#include "operator_pages.h"
#include "progress_line.h"
#include "starting_point.h"
#include "stop_signal.h"

namespace fuseline {
namespace {

struct RunOptions {
  SettingsOptions settings;
  bool dry_run = false;
  bool cold_start = false;
  std::string from = "earliest";
};

int DryRun(const v1::Config& config) {
  Status first;
  for (const CheckOutcome& check : CheckEverything(config)) {
    std::cout << (check.status.ok() ? "ok    " : "FAIL  ") << check.what << ": "
              << (check.status.ok() ? check.found : check.status.message) << '\n';
    for (const std::string& doubt : check.doubts) std::cout << "      but " << doubt << '\n';
    if (first.ok() && !check.status.ok()) first = check.status;
  }
  return first.ok() ? static_cast<int>(kExitOk) : Fail(first);
}

// Every stage in this process until a stop is asked for.
Status Serve(const v1::Config& config, const KafkaReading& reading, StopSignal& stop, Instruments instruments) {
  FUSELINE_ASSIGN_OR_RETURN(const std::string input, DescribeKafkaInput(config));
  FUSELINE_RETURN_IF_ERROR(CheckEventsTopic(config, instruments.log));
  FUSELINE_ASSIGN_OR_RETURN(OpenState state, OpenState::Open(config, input, instruments));
  FUSELINE_ASSIGN_OR_RETURN(auto dead_letters, OpenDeadLetters(config, /*without_kafka=*/false));
  FUSELINE_ASSIGN_OR_RETURN(auto source, OpenKafkaEvents(config, reading, *state.sessionizer, dead_letters.get()));
  FUSELINE_ASSIGN_OR_RETURN(const std::uint64_t epoch, ClaimEpoch(config));
  Freshness freshness;
  FUSELINE_ASSIGN_OR_RETURN(auto publication, OpenPublication(config, epoch, freshness, instruments));

  Pipeline::Parts parts;
  parts.partitions = source->partitions();
  parts.source = std::move(source);
  parts.sessionizer = std::move(state.sessionizer);
  parts.learner = std::move(state.learner);
  parts.publication = std::move(publication);
  Pipeline pipeline(config, std::move(parts), freshness, instruments);

  OperatorPages pages(pipeline, freshness, instruments);
  FUSELINE_RETURN_IF_ERROR(pages.Start(config.http().address(), state.folders.root));
  instruments.log.Info("run.started", "epoch", epoch, "partitions", pipeline.status().partitions.size(), "pages", pages.address());
  const Status outcome = pipeline.Run(stop.token());
  instruments.log.Info("run.stopped", "weights_sha256", pipeline.status().weights_sha256);
  return outcome;
}

int Run(const RunOptions& options) {
  const auto config = options.settings.Load();
  if (!config) return FailUsage(config.error());
  if (options.dry_run) return DryRun(*config);
  const auto from = ParseStartingPoint(options.from);
  if (!from) return FailUsage(from.error());
  const auto severity = ParseSeverity(config->fuseline().log_level());
  if (!severity) return FailUsage(severity.error());

  StopSignal stop;  // Before any other thread is made.
  Log log(*severity);
  Metrics metrics;
  SystemClock clock;
  const KafkaReading reading{.from = *from, .cold_start = options.cold_start};
  const Status outcome = Serve(*config, reading, stop, {log, metrics, clock});
  if (!outcome.ok()) return Fail(outcome);
  return stop.stopped() ? static_cast<int>(kExitInterrupted) : static_cast<int>(kExitOk);
}

}  // namespace

void RegisterRun(Program& program) {
  auto options = std::make_shared<RunOptions>();
  CLI::App* run = program.AddSubcommand(
      "run", "Learn from the events topic and publish to Redis, every stage in this process, until stopped",
      "fuseline run --config fuseline.yaml --dry-run && fuseline run --config fuseline.yaml");
  options->settings.AddTo(*run);
  run->add_flag("--dry-run", options->dry_run, "check settings, disk, Kafka, topics and Redis, and change nothing");
  run->add_option("--from", options->from, "where a partition without state begins: earliest, latest, offset:N, time:MS")
      ->capture_default_str();
  run->add_flag("--cold-start", options->cold_start, "begin from --from though the group has got further with another state");
  program.SetBody(run, [options] { return Run(*options); });
}

}  // namespace fuseline
