#include <memory>
#include <string>
#include <vector>

#include "learning_input.h"
#include "opening.h"
#include "operator_pages.h"
#include "pipeline.h"
#include "serving.h"
#include "warm_start.h"

namespace fuseline {
namespace {

// Every stage in this process until a stop is asked for.
Status RunEverything(const v1::Config& config, const KafkaReading& reading, const std::vector<std::string>& history, StopSignal& stop,
                     Instruments instruments) {
  FUSELINE_ASSIGN_OR_RETURN(const std::string input, DescribeTopic(config, config.kafka().events_topic()));
  FUSELINE_RETURN_IF_ERROR(CheckEventsTopic(config, instruments.log));
  FUSELINE_ASSIGN_OR_RETURN(const OpenFolder state, OpenFolder::Open(config, input));
  FUSELINE_RETURN_IF_ERROR(WarmStart(config, history, state.folders, stop, instruments));
  if (stop.stopped()) return OkStatus();
  Pipeline::Parts parts;
  FUSELINE_ASSIGN_OR_RETURN(parts.sessionizer, OpenSessionizer(config, state.folders, instruments));
  FUSELINE_ASSIGN_OR_RETURN(parts.learner, OpenLearner(config, state.folders, {input, FromOf(reading.from)}, instruments));
  FUSELINE_RETURN_IF_ERROR(RememberSettings(config, state.folders));
  FUSELINE_ASSIGN_OR_RETURN(auto dead_letters, OpenDeadLetters(config, /*without_kafka=*/false));
  FUSELINE_ASSIGN_OR_RETURN(const std::uint64_t epoch, ClaimEpoch(config));
  Freshness freshness(instruments.metrics);
  FUSELINE_ASSIGN_OR_RETURN(parts.publication, OpenPublication(config, epoch, freshness, instruments));
  FUSELINE_ASSIGN_OR_RETURN(parts.scorers, OpenScorerPublication(config, epoch, instruments));
  Pipeline pipeline(config, std::move(parts), freshness, instruments);
  FUSELINE_RETURN_IF_ERROR(ReadEventsTopic(config, reading, dead_letters.get(), pipeline.sessions()));
  FUSELINE_RETURN_IF_ERROR(pipeline.sessions().AuthorTicks());

  OperatorPages pages([&] { return pipeline.status(); }, freshness, instruments);
  FUSELINE_RETURN_IF_ERROR(pages.Start(config.http().address(), state.folders.root));
  instruments.log.Info("run.started", "epoch", epoch, "partitions", pipeline.status().partitions.size(), "pages", pages.address());
  const Status outcome = pipeline.Run(stop.token());
  instruments.log.Info("run.stopped", "weights_sha256", pipeline.status().weights_sha256);
  return outcome;
}

}  // namespace

void RegisterRun(Program& program) {
  auto options = std::make_shared<ServingOptions>();
  CLI::App* run = program.AddSubcommand(
      "run", "Learn from the events topic and publish to Redis, every stage in this process, until stopped",
      "fuseline run --config fuseline.yaml --dry-run && fuseline run --config fuseline.yaml");
  options->AddTo(*run, /*reads_events=*/true);
  const auto history = AddWarmStartTo(*run);
  program.SetBody(run, [options, history] {
    return Serve(*options, Role::kRun,
                 [&](const v1::Config& config, const KafkaReading& reading, StopSignal& stop, Instruments instruments) {
                   return RunEverything(config, reading, *history, stop, instruments);
                 });
  });
}

}  // namespace fuseline
