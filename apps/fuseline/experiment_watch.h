#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "fuseline/learner/learner.h"
#include "fuseline/learner/rewards.h"
#include "fuseline/rollout/evaluation.h"
#include "fuseline/v1/config.pb.h"
#include "publication.h"

namespace fuseline {

// Trajectories as the learner merges them → what the stream says of the experiments, durable with the learner's checkpoint. Every
// rollout.look_every_sessions of an experiment its sums go to the publication, which judges. So whether anybody looks is a function of
// the log; what comes of a look (an alias that moves) comes back through the act log. It is also told which version each session met, as
// evidence for it. One thread: the learner's.
class ExperimentWatch {
 public:
  // Takes up what rode in the learner's checkpoint, and rides on. Both are borrowed. A state that cannot be read is set aside with an alarm: the
  // figures begin anew, the learner goes on.
  ExperimentWatch(const v1::Config& config, Learner& learner, Publication& publication, Instruments instruments);

 private:
  void See(const v1::Trajectory& trajectory);

  void NoteLetGo(const v1::ExperimentTotals& totals);
  void NoteLeftOut();

  const v1::Rollout rule_;
  const RewardSpec rewards_;
  Publication& publication_;
  const Instruments instruments_;
  const Counter let_go_;
  const Gauge left_out_;
  ExperimentEvaluation evaluation_;
};

}  // namespace fuseline
