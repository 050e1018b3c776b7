#include "pipeline.h"

#include <list>
#include <utility>

#include "fuseline/core/stage.h"

namespace fuseline {

Pipeline::Pipeline(const v1::Config& config, Parts parts, Freshness& freshness, Instruments instruments)
    : queue_(static_cast<std::size_t>(config.learner().queue_trajectories())),
      learn_(config, std::move(parts.learner), std::move(parts.publication), std::move(parts.scorers), queue_, /*stops_partitions=*/false,
             freshness, status_, instruments),
      sessions_(config, std::move(parts.sessionizer),
                std::make_unique<LearnerQueue>(queue_, status_, freshness, instruments.clock), status_, instruments) {}

Status Pipeline::Run(std::stop_token stop) {
  const int partitions = static_cast<int>(sessions_.partitions().size());
  const StageBody bodies[] = {{"sessions", [&](std::stop_token token) { return sessions_.Run(token); }},
                              {"learner", [&](std::stop_token token) { return learn_.Run(partitions, token); }}};
  FUSELINE_RETURN_IF_ERROR(RunStages(stop, bodies));
  return sessions_.Leave(/*patience_ms=*/0);  // The learner's last checkpoint covers more than the sessionizer has heard of.
}

PipelineStatus Pipeline::status() const {
  PipelineStatus status = status_.Copy();
  learn_.NotePublications(status);
  return status;
}

Status RunStages(std::stop_token stop, std::span<const StageBody> bodies) {
  std::stop_source failed;
  std::list<Stage> stages;
  for (const StageBody& body : bodies) {
    stages.emplace_back(body.name, [&body, &failed](std::stop_token token) {
      Status status = body.run(token);
      if (!status.ok()) failed.request_stop();
      return status;
    });
  }
  const auto stop_all = [&] {
    for (Stage& stage : stages) stage.RequestStop();
  };
  std::stop_callback on_stop(stop, stop_all);
  std::stop_callback on_failure(failed.get_token(), stop_all);
  Status first;
  for (Stage& stage : stages) {
    Status status = stage.Join();
    if (first.ok()) first = std::move(status);
  }
  return first;
}

}  // namespace fuseline
