#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/fusion/policy_version.h"
#include "fuseline/learner/estimators.h"
#include "fuseline/v1/config.pb.h"
#include "fuseline/v1/trajectory.pb.h"

namespace fuseline {

// What sessions of the log say about one policy. Rewards are those of the learner: groups weighted by omega, caps applied.
struct PolicyReport {
  std::uint64_t version = 0;  // 0: the static weights.
  RankingQuality mtf_gauc;    // Of its gauc: users as units.

  // Mean reward of a request; sessions as units. Absent where nothing was explored.
  std::optional<Estimate> ncis, snips;  // Capped by gate.ncis_cap; uncapped.
  std::optional<Estimate> clipped_ips;  // Ratios clipped at gate.ncis_cap, not normalised.
  std::optional<Estimate> dr, sndr;     // Uncapped, with a model of the reward fitted on the users of the other half.
  double ncis_ess = 0, snips_ess = 0;   // Requests.
  double capped_share = 0;
  double inside_box_share = 0;          // Explored requests whose action lies in the box around the judged policy's.

  // Discounted reward of a session, from its first request on; absent without a transition. Sessions as units; the error of the
  // fit itself is not in it.
  std::optional<Estimate> fqe, conservative_fqe;
};

struct PolicyEvaluationReport {
  std::uint64_t sessions = 0, requests = 0, explored = 0;
  std::optional<Estimate> logged_reward;  // Mean of a request, as it was.
  std::vector<PolicyReport> policies;
};

// Sessions → evidence about policies that did not make them (algorithms: MTF-GAUC, NCIS, SNIPS, doubly robust, FQE).
//
// Where: beside the gate, of which it shares rows, kernel and estimators; behind `fuseline evaluate policy`.
// Thread-compatible. Deterministic: a function of settings, policies and sessions. Cost: memory for all requests; Finish fits
// four values by evaluation.fqe_steps updates for each policy.
class PolicyEvaluation {
 public:
  // Judges `versions`, and with `with_static` the hand-set weights. Errors: kInvalidInput for a version of another schema, or
  // of other action ranges (the message names the keys).
  static Result<std::unique_ptr<PolicyEvaluation>> Create(const v1::Config& config, const std::vector<PolicyVersion>& versions,
                                                          bool with_static);
  virtual ~PolicyEvaluation() = default;

  // Errors: kInvalidInput for a request in which each item was explored by noise of its own: the density is no propensity of the list.
  virtual Status Add(const v1::Trajectory& trajectory) = 0;

  // Errors: kInvalidInput without a request; kInternal: a fit that is not finite.
  virtual Result<PolicyEvaluationReport> Finish() = 0;
};

}  // namespace fuseline
