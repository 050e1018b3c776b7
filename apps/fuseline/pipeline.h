#pragma once

#include <functional>
#include <memory>
#include <span>
#include <stop_token>

#include "freshness.h"
#include "learn_stage.h"
#include "learner_queue.h"
#include "pipeline_status.h"
#include "session_stage.h"

namespace fuseline {

// Joins the rooms in one process: ingest and sessionizer on one thread, learner on another, archive and Redis behind it, with
// a bounded queue in between. Nothing here decides anything: see the stages.
class Pipeline {
 public:
  struct Parts {
    std::unique_ptr<Sessionizer> sessionizer;
    std::unique_ptr<Learner> learner;
    std::unique_ptr<Publication> publication;
    std::unique_ptr<Publication> scorers;  // Of a scorer that the learner learns; else null.
  };

  Pipeline(const v1::Config& config, Parts parts, Freshness& freshness, Instruments instruments);

  // To be given its source before Run, with all partitions that it will ever read: the learner waits for each.
  SessionStage& sessions() { return sessions_; }

  // Until the source has ended, or a stop is asked for; then everything is committed and checkpointed. One call.
  // Errors: the first of any stage. What was committed until then is safe.
  Status Run(std::stop_token stop);

  PipelineStatus status() const;  // Thread-safe.

 private:
  StatusBoard status_;
  TrajectoryQueue queue_;
  LearnStage learn_;        // Before the sessions: where a partition begins depends on what the learner has taken.
  SessionStage sessions_;
};

// Runs the stages of a process, each on a thread of its own, until all have ended; a stop that is asked for, and the first failure,
// asks all to end. `bodies` are joined in the order of the data: what a stage leaves behind is still taken by the next.
// Returns the first failure in that order.
struct StageBody {
  const char* name;
  std::function<Status(std::stop_token)> run;
};
Status RunStages(std::stop_token stop, std::span<const StageBody> bodies);

}  // namespace fuseline
