#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <stop_token>
#include <string>

#include "fuseline/comparison/run_record.h"
#include "fuseline/core/status.h"
#include "fuseline/simulator/world.h"
#include "fuseline/v1/config.pb.h"
#include "publication.h"

namespace fuseline {

// One run of a comparison: one algorithm in one world.
struct LoopPlan {
  v1::Config config;                // Of the stages; schema and policy are the world's already. seed and algorithm are in it.
  std::uint64_t sessions = 0;       // Finished sessions after which it ends.
  std::uint64_t points = 20;        // Of the curve, evenly over the sessions.
  std::filesystem::path folder;     // The stages' state; made here, empty before.
  std::string build;                // Of this program, for the lineage.
  std::function<void(std::uint64_t sessions)> progress;  // Called every turn with those finished so far.
};

// The closed loop in one process and one thread: world → decision (policy network and exploration, as a ranker's) → events → the real
// sessionizer → the real learner → each version that the gate accepts decides from the next turn on. No Kafka, no Redis, no wall
// clock: the same world, settings and sessions give the same record, but for wall_s.
//
// The first three quarters of the world's users train. Then the version that lives is judged on the last quarter, whom nothing
// met before, exploring nothing, beside the static weights and the world's best policy on the same users and draws.
//
// Fills everything of the record but world, settings_digest and build.
// Errors: those of the stages and the world; kUnavailable with "interrupted" when a stop was asked for.
Result<RunRecord> RunClosedLoop(const World& world, const LoopPlan& plan, Instruments instruments, std::stop_token stop);

}  // namespace fuseline
