#include <memory>
#include <string>
#include <vector>

#include "learning_input.h"
#include "newcomer.h"
#include "opening.h"
#include "operator_pages.h"
#include "pipeline.h"
#include "serving.h"
#include "starting_point.h"
#include "trajectory_reader.h"
#include "warm_start.h"

namespace fuseline {
namespace {

// A state goes on as it began: its lineage says where.
Result<kafka::StartPosition> WhereItBegan(const v1::Config& config, const Learner& learner,
                                          const kafka::StartPosition& asked) {
  const v1::Lineage lineage = learner.lineage();
  const std::string began = ReadInputWords(lineage.inputs().rbegin()->input(), config).input.from;
  if (asked.kind != kafka::StartPosition::Kind::kEarliest && FromOf(asked) != began) {
    return Error(Code::kInvalidInput, "--from is", FromOf(asked) + ", but this state has begun with the topic at",
                 (began.empty() ? "earliest" : began) + ": name another with fuseline.state_dir");
  }
  return ParseStartingPoint(began.empty() ? "earliest" : began);
}

// Learner and publication behind the topic of trajectories, until a stop is asked for.
Status LearnFromTopic(const v1::Config& config, const KafkaReading& reading, const std::vector<std::string>& history,
                      StopSignal& stop, Instruments instruments) {
  FUSELINE_ASSIGN_OR_RETURN(const std::string input, DescribeTopic(config, config.kafka().trajectories_topic()));
  FUSELINE_ASSIGN_OR_RETURN(const OpenFolder state, OpenFolder::Open(config, input));
  FUSELINE_RETURN_IF_ERROR(BeginFromPublished(config, state.folders, instruments));
  FUSELINE_RETURN_IF_ERROR(WarmStart(config, history, state.folders, stop, instruments));
  if (stop.stopped()) return OkStatus();
  const LearnerInput read{.words = input, .from = FromOf(reading.from)};
  FUSELINE_ASSIGN_OR_RETURN(auto learner, OpenLearner(config, state.folders, read, instruments));
  FUSELINE_ASSIGN_OR_RETURN(const kafka::StartPosition from, WhereItBegan(config, *learner, reading.from));
  if (from.kind != kafka::StartPosition::Kind::kEarliest) learner->BeginAnywhere();
  FUSELINE_RETURN_IF_ERROR(RememberSettings(config, state.folders));
  FUSELINE_ASSIGN_OR_RETURN(const std::uint64_t epoch, ClaimEpoch(config));
  Freshness freshness(instruments.metrics);
  FUSELINE_ASSIGN_OR_RETURN(auto publication, OpenPublication(config, epoch, freshness, instruments));
  FUSELINE_ASSIGN_OR_RETURN(auto scorers, OpenScorerPublication(config, epoch, instruments));
  const auto durable = learner->DurableNames();
  StatusBoard status;
  TrajectoryQueue queue(static_cast<std::size_t>(config.learner().queue_trajectories()));
  LearnStage learn(config, std::move(learner), std::move(publication), std::move(scorers), queue, /*stops_partitions=*/true, freshness,
                   status, instruments);
  FUSELINE_ASSIGN_OR_RETURN(const auto reader, TrajectoryReader::Open(config, from, durable, queue, freshness, status, instruments));

  const auto whole_status = [&] {
    PipelineStatus now = status.Copy();
    learn.NotePublications(now);
    return now;
  };
  OperatorPages pages(whole_status, freshness, instruments);
  FUSELINE_RETURN_IF_ERROR(pages.Start(config.http().address(), state.folders.root));
  instruments.log.Info("learn.started", "epoch", epoch, "partitions", reader->partitions(), "pages", pages.address());
  const StageBody bodies[] = {{"trajectories", [&](std::stop_token token) { return reader->Run(token); }},
                              {"learner", [&](std::stop_token token) { return learn.Run(reader->partitions(), token); }}};
  FUSELINE_RETURN_IF_ERROR(RunStages(stop.token(), bodies));
  instruments.log.Info("learn.stopped", "weights_sha256", status.Copy().weights_sha256);
  return reader->SavePositions();
}

}  // namespace

void RegisterLearn(Program& program) {
  auto options = std::make_shared<ServingOptions>();
  CLI::App* learn = program.AddSubcommand(
      "learn", "Learn from the topic of trajectories and publish to Redis, until stopped",
      "fuseline learn --config fuseline.yaml --set fuseline.state_dir=/var/lib/fuseline/learner\n"
      "  fuseline learn --config fuseline.yaml --warm-start history.jsonl.zst --from offset:120000");
  options->AddTo(*learn, /*reads_events=*/false);
  const auto history = AddWarmStartTo(*learn);
  program.SetBody(learn, [options, history] {
    return Serve(*options, Role::kLearn,
                 [&](const v1::Config& config, const KafkaReading& reading, StopSignal& stop, Instruments instruments) {
                   return LearnFromTopic(config, reading, *history, stop, instruments);
                 });
  });
}

}  // namespace fuseline
