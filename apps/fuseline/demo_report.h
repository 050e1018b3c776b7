#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "demo_scorer.h"
#include "freshness.h"
#include "fuseline/simulator/arm_statistics.h"
#include "pipeline_status.h"

namespace fuseline {

// Mean session rewards of policies over the same users and draws, without exploration, Kafka or learning.
struct PolicyValues {
  double fixed = 0;     // The hand-set weights.
  std::optional<double> fixed_by_scorer;  // With a scorer: by its scores, as the rankers had them; all others but `learned` by the world's.
  double learned = 0;   // The version in use at the end; with a scorer by its scores.
  double best_fixed = 0;  // The best fixed powers that a search over the world's truth finds: knows what no learner knows.
};

// Everything that a demo saw.
struct DemoFigures {
  ArmStatistics whole_run;
  ArmStatistics second_half;  // Sessions that ended after half of the events.
  PipelineStatus pipeline;
  Freshness::Report freshness;
  std::uint64_t produced = 0;  // Events that the simulated rankers logged.
  std::uint64_t version_in_use = 0;
  PolicyValues values;
  std::optional<DemoScorerFigures> scorer;
  double wall_s = 0;
  double event_time_h = 0;
};

// The closing table. Errors: kNotFound when an arm has no finished session.
Result<std::string> DemoTable(const DemoFigures& figures);

}  // namespace fuseline
