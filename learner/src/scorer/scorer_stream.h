#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fuseline/core/log.h"
#include "fuseline/core/metrics.h"
#include "fuseline/core/status.h"
#include "fuseline/fusion/policy_version.h"
#include "fuseline/learner/learner.h"
#include "fuseline/learner/scorer.h"
#include "fuseline/v1/checkpoint.pb.h"
#include "scorer/input_statistics.h"
#include "scorer/progressive_window.h"
#include "scorer/scorer_model.h"
#include "scorer/stream_rows.h"

namespace fuseline {

// The scorer that learns from the same trajectories as the policy, in merge order (setting scorer.learn). The learner owns it, calls it
// from its thread, and writes its state into its own checkpoint.
//
// Every impression of a user who trains is scored by the models as they stand (progressive validation), then waits with the numbers
// that it had when its session was merged. Each scorer.batch of them make one step of the *plain* model. With scorer.weights, RMTL (arXiv 2302.03328)
// goes on beside it for ever: behind scorer.pretraining_impressions a step of the critics, by what the plain model had predicted of
// them before its step; and when the critics have learned from scorer.critic_impressions, a step of the *weighted* model, which began
// then as the plain one's copy, with losses weighed by the critics. Held-back users' impressions train nothing: the newest judge versions.
//
// A function of settings, seed and trajectories: weights and versions are bit-identical on one build, BLAS and thread count, however
// often the process dies in between. Errors of all that learn: kInternal for LibTorch's.
class ScorerStream {
 public:
  // Errors: kInvalidInput for tasks, outcomes or a backbone that cannot be. `log` and `metrics` outlive it.
  static Result<std::unique_ptr<ScorerStream>> Create(const v1::Config& config, Log& log, Metrics& metrics);

  // Learns from a session, or keeps it to judge by. Cost: a prediction of its impressions by each model, and the steps that they fill.
  Status Take(const v1::Trajectory& trajectory, bool held_back);

  // Whether steps have reached another multiple of scorer.version_every_steps since the last version.
  bool version_due() const { return MultiplesIn(counts_.steps()) > MultiplesIn(counts_.steps_at_version()); }
  // Makes one and judges it (docs/scorer.md); it is pending then. `lineage` is the learner's, which has made `policy_versions` of the
  // policy. REQUIRES: none is pending.
  Status MakeVersion(v1::Lineage lineage, std::uint64_t policy_versions, std::int64_t wall_ms);
  // How many those were at each of the newest versions, as many as the archive keeps.
  const std::deque<std::uint64_t>& policy_versions() const { return policy_versions_; }
  const std::optional<PolicyVersion>& pending() const { return pending_; }
  void MarkStored();  // REQUIRES: one is pending.

  // Goes on behind the number of a version whose state is lost. It knows nothing, but what follows must be no worse than `measure`, if
  // any, where that reads the same impressions. REQUIRES: nothing was taken. Errors: kInvalidInput for a policy's version.
  Status Adopt(std::uint64_t newest, const PolicyVersion* measure);
  bool is_new() const { return counts_.sessions() == 0 && counts_.versions() == 0; }

  // Writes the files of a checkpoint and says their names; writes nothing when nothing has changed since. Errors: kUnavailable.
  Result<v1::ScorerState> Save(const std::filesystem::path& folder);
  // Errors: kInvalidInput for a state of other tasks, outcomes, backbone or sizes; kCorrupt.
  Status Restore(const std::filesystem::path& folder, const v1::ScorerState& state);

  ScorerProgress progress() const;

 private:
  ScorerStream(const v1::Config& config, ScorerImpressions impressions, std::unique_ptr<ScorerModel> plain, Log& log, Metrics& metrics);
  std::uint64_t MultiplesIn(std::uint64_t steps) const { return steps / static_cast<std::uint64_t>(config_.scorer().version_every_steps()); }
  bool HasPhases() const { return config_.scorer().weights() != "none"; }
  ScorerPhase phase() const;
  std::string Shape() const;

  void AppendStep(const v1::Exposure& exposure, const google::protobuf::RepeatedPtrField<v1::RewardComponents>* rewards,
                  const std::string& user_id, StreamRows& to);
  void AppendSession(const v1::Trajectory& trajectory, bool with_next, StreamRows& to);
  Status ScoreProgressively(std::size_t first);

  Status BeginPhases();
  Status Step();
  Result<CriticBatch> CriticsBatchOf(const std::vector<std::size_t>& which) const;
  void NoteUndone(const char* model);
  void SetGauges() const;

  const ScorerModel& Published() const { return HasPhases() && weighted_ ? *weighted_ : *plain_; }
  v1::PolicyManifest ManifestOf(v1::Lineage lineage) const;
  Result<v1::GateVerdict> Judge(const PolicyVersion& candidate, bool finite);
  std::vector<float> ConstantRates() const;

  const v1::Config config_;
  const ScorerImpressions impressions_;
  const ScorerFields& fields_;  // Of these.
  const std::size_t batch_rows_;
  Log& log_;

  InputStatistics inputs_;
  std::unique_ptr<ScorerModel> plain_, weighted_;  // No weighted one before its phase.
  std::unique_ptr<ScorerCritics> critics_;         // None before theirs.
  StreamRows waiting_, held_back_;
  ProgressiveWindow plain_window_, weighted_window_;
  v1::ScorerCounts counts_;
  std::optional<PolicyVersion> accepted_, pending_;
  std::deque<std::uint64_t> policy_versions_;
  std::uint64_t started_from_ = 0, measured_from_ = 0;
  std::unique_ptr<Scorer> accepted_scorer_;  // Of accepted_, once it was asked for.
  v1::ScorerState saved_;
  bool changed_ = true;                      // Since saved_.

  struct TaskGauges {
    Gauge auc, log_loss;
  };
  std::vector<TaskGauges> plain_gauges_, weighted_gauges_;  // By task.
  Counter impressions_total_, steps_total_, undone_total_, accepted_total_, refused_total_;
};

}  // namespace fuseline
