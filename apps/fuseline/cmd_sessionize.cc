#include <memory>
#include <string>

#include "learning_input.h"
#include "opening.h"
#include "operator_pages.h"
#include "pipeline.h"
#include "serving.h"
#include "trajectory_topic.h"

namespace fuseline {
namespace {

// Ingest and sessionizer as a member of the consumer group, until a stop is asked for.
Status Sessionize(const v1::Config& config, KafkaReading reading, StopSignal& stop, Instruments instruments) {
  if (config.kafka().group_id().empty()) return ErrorStatus(Code::kInvalidInput, "kafka.group_id is empty: a member needs a group");
  FUSELINE_ASSIGN_OR_RETURN(const std::string input, DescribeTopic(config, config.kafka().events_topic()));
  FUSELINE_RETURN_IF_ERROR(CheckEventsTopic(config, instruments.log));
  FUSELINE_RETURN_IF_ERROR(MakeTrajectoriesTopic(config));
  FUSELINE_ASSIGN_OR_RETURN(const OpenFolder state, OpenFolder::Open(config, input));
  FUSELINE_ASSIGN_OR_RETURN(auto sessionizer, OpenSessionizer(config, state.folders, instruments));
  FUSELINE_RETURN_IF_ERROR(RememberSettings(config, state.folders));
  FUSELINE_ASSIGN_OR_RETURN(auto dead_letters, OpenDeadLetters(config, /*without_kafka=*/false));
  FUSELINE_ASSIGN_OR_RETURN(auto topic, TrajectoryTopic::Open(config, instruments));
  StatusBoard status;
  Freshness freshness(instruments.metrics);
  OperatorPages pages([&] { return status.Copy(); }, freshness, instruments);
  SessionStage stage(config, std::move(sessionizer), std::move(topic), status, instruments);
  reading.group = true;
  FUSELINE_RETURN_IF_ERROR(ReadEventsTopic(config, reading, dead_letters.get(), stage));
  FUSELINE_RETURN_IF_ERROR(stage.AuthorTicks());

  FUSELINE_RETURN_IF_ERROR(pages.Start(config.http().address(), state.folders.root));
  instruments.log.Info("sessionize.started", "group", config.kafka().group_id(), "pages", pages.address());
  FUSELINE_RETURN_IF_ERROR(stage.Run(stop.token()));
  const Status left = stage.Leave(config.kafka().connect_timeout_ms());
  instruments.log.Info("sessionize.stopped");
  return left;
}

}  // namespace

void RegisterSessionize(Program& program) {
  auto options = std::make_shared<ServingOptions>();
  CLI::App* sessionize = program.AddSubcommand(
      "sessionize", "Make sessions of the events topic into the topic of trajectories, as a member of a group, until stopped",
      "fuseline sessionize --config fuseline.yaml --set fuseline.state_dir=/var/lib/fuseline/member-1");
  options->AddTo(*sessionize, /*reads_events=*/true);
  program.SetBody(sessionize, [options] { return Serve(*options, Role::kSessionize, Sessionize); });
}

}  // namespace fuseline
