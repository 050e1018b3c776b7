#pragma once

#include <cstdint>

#include "fuseline/core/status.h"
#include "fuseline/fusion/policy_keys.h"
#include "fuseline/redis/connection.h"
#include "fuseline/v1/config.pb.h"
#include "publication.h"

namespace fuseline {

inline constexpr const char* kGuardrailAuthor = "guardrail";  // As the audit trail names it.

// One look at an experiment: its figures go to Redis for `fuseline experiment status`, and what its guardrails ask for is done. A rollback moves
// the arm's alias to last_good, then ends the experiment; a pause stops its ramp. Each step is a compare-and-set under the writer's
// epoch, and may be repeated after any interruption. An experiment that is not in Redis is only looked at.
// Errors: those of the connection; kConflict if somebody moved something meanwhile: the next look decides anew; kCorrupt.
Status LookAtExperiment(RedisConnection& redis, const PolicyKeys& keys, std::uint64_t epoch, const v1::Config& config,
                        const v1::ExperimentTotals& totals, Instruments instruments);

}  // namespace fuseline
