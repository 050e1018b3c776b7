#pragma once

#include "fuseline/core/status.h"
#include "fuseline/serving_bridge/decision.h"
#include "fuseline/v1/event.pb.h"

namespace fuseline {

// The ranker that the simulated app asks: serving_bridge's (bridge.h), one of local_rankers.h, or what a world answers. Called from
// the thread that steps the simulation.
class RankService {
 public:
  virtual ~RankService() = default;
  // Fills `exposure` (handed in empty) as it is to be logged: arm, version, the chosen items in order of position, with all
  // that a transition needs. Errors: any; the simulation stops with it.
  virtual Status Rank(const RankingRequest& request, v1::Exposure* exposure) = 0;
};

}  // namespace fuseline
