#include "warm_start.h"

#include <algorithm>
#include <utility>

#include "learning_input.h"
#include "opening.h"
#include "pipeline.h"

namespace fuseline {

std::shared_ptr<std::vector<std::string>> AddWarmStartTo(CLI::App& subcommand) {
  auto files = std::make_shared<std::vector<std::string>>();
  subcommand
      .add_option("--warm-start", *files,
                  "learn from these files of events first (.jsonl or .pb, plain, .gz or .zst), "
                  "where the state is new")
      ->type_name("FILE")
      ->take_all();
  return files;
}

Status WarmStart(const v1::Config& config, const std::vector<std::string>& files,
                 const StateFolders& folders, StopSignal& stop, Instruments instruments) {
  if (files.empty()) return OkStatus();
  const std::string input = DescribeFiles(files);
  {
    auto& [log, metrics, clock] = instruments;
    FUSELINE_ASSIGN_OR_RETURN(const auto learner, Learner::Open(folders.learner, config,
                                                                BuildText(), log, metrics, clock));
    const v1::Lineage known = learner->lineage();
    const auto begun = std::ranges::find(known.inputs(), input, &v1::LearnedInput::input);
    if (begun == known.inputs().end() && known.inputs_size() > 0) {
      return ErrorStatus(Code::kInvalidInput, "the state in", folders.root.string(),
                         "has learned from", "[" + known.inputs(0).input() + "]",
                         "first: a warm start begins a new state");
    }
    const bool is_done = begun != known.inputs().end() && begun + 1 != known.inputs().end();
    if (is_done) return OkStatus();
  }
  instruments.log.Info("learner.warm_start_begun", "input", input);
  StateFolders own = folders;
  own.sessions = own.root / kWarmStartFolder;
  Metrics of_history;  // What took long ago is no delay of now.
  Freshness freshness(of_history);
  Pipeline::Parts parts;
  FUSELINE_ASSIGN_OR_RETURN(parts.sessionizer, OpenSessionizer(config, own, instruments));
  FUSELINE_ASSIGN_OR_RETURN(parts.learner, OpenLearner(config, own, {.words = input, .history = true}, instruments));
  FUSELINE_ASSIGN_OR_RETURN(parts.publication,
                            OpenPublication(config, /*epoch=*/0, freshness, instruments));
  FUSELINE_ASSIGN_OR_RETURN(parts.scorers, OpenScorerPublication(config, /*epoch=*/0, instruments));
  FUSELINE_ASSIGN_OR_RETURN(const auto dead_letters,
                            OpenDeadLetters(config, /*without_kafka=*/true));
  Pipeline pipeline(config, std::move(parts), freshness, instruments);
  FUSELINE_RETURN_IF_ERROR(ReadFiles(config, files, dead_letters.get(), pipeline.sessions()));
  FUSELINE_RETURN_IF_ERROR(pipeline.Run(stop.token()));
  instruments.log.Info("learner.warm_start_ended", "trajectories",
                       pipeline.status().learner.trajectories, "versions",
                       pipeline.status().learner.versions, "whole", !stop.stopped());
  return OkStatus();
}

}  // namespace fuseline
