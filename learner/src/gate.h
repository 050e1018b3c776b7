#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/fusion/action_space.h"
#include "fuseline/fusion/normaliser.h"
#include "fuseline/v1/config.pb.h"
#include "fuseline/v1/policy.pb.h"
#include "row_store.h"

namespace fuseline {

// A policy as the gate sees it: normalised states [n, W] → actions [n, D].
using Actor = std::function<Result<std::vector<float>>(std::span<const float> states)>;

struct GateSubjects {
  Actor candidate;
  Actor incumbent;
  Actor fixed;  // The static, hand-set weights: the floor.
  // Mean standard deviation per critic group at the candidate's actions.
  std::function<Result<std::vector<double>>(std::span<const float> states, std::span<const float> actions)> deviation;
  bool finite = true;  // Every tensor of the candidate.
  // Of a held-out row: is its baseline one of the current round, so that the box around it binds?
  std::function<bool(const ConstRow&)> in_round;
};

// The evidence before a version may serve: finite tensors, actions near the box, a sane ensemble, MTF-GAUC and NCIS no worse than the
// incumbent's, nor than the static weights' by more than a wider margin: many small steps down do not lead below that floor. On sessions
// of users who never train. A check without enough evidence is skipped, or with gate.without_evidence=refuse refuses; the verdict says
// so. What the floor lacks is skipped always: the further exploration has moved, the less a log says of the static weights.
// Figures: outside_share, distance_* (histogram of |mu - mu_bp|), deviation_*, gauc_*, ncis_*, sessions.
// Errors: those of the actors. Cost: one forward pass over max_sessions sessions for each policy.
Result<v1::GateVerdict> JudgeVersion(const v1::Config& config, const ActionSpace& space, const Normaliser& normaliser,
                                     const RowStore& held_out, const GateSubjects& subjects);

}  // namespace fuseline
