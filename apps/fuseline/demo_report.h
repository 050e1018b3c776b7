#pragma once

#include <cstdint>
#include <string>

#include "freshness.h"
#include "fuseline/simulator/arm_statistics.h"
#include "pipeline.h"

namespace fuseline {

// Everything that a demo saw.
struct DemoFigures {
  ArmStatistics whole_run;
  ArmStatistics second_half;  // Sessions that ended after half of the events.
  PipelineStatus pipeline;
  Freshness::Report freshness;
  std::uint64_t produced = 0;  // Events that the simulated rankers logged.
  std::uint64_t version_in_use = 0;
  double wall_s = 0;
  double event_time_h = 0;
};

// The closing table. Errors: kNotFound when an arm has no finished session.
Result<std::string> DemoTable(const DemoFigures& figures);

}  // namespace fuseline
