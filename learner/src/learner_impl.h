#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "algorithm.h"
#include "fuseline/fusion/action_space.h"
#include "fuseline/learner/learner.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/settings.h"
#include "fuseline/v1/checkpoint.pb.h"
#include "held_out.h"
#include "merge.h"
#include "replay_buffer.h"
#include "reward_guard.h"
#include "scorer/scorer_stream.h"
#include "transition_builder.h"

namespace fuseline {

inline std::uint64_t Unsigned(std::int64_t value) { return static_cast<std::uint64_t>(value); }

// The actor of an accepted version, as Algorithm::actor_parameters gave it.
struct KeptActor {
  std::vector<float> parameters;
  std::optional<v1::FileRef> file;  // Once a checkpoint holds it.
};

// What the learner is made of. Its functions lie by subject: learner.cc the calls from outside, training.cc sessions and steps,
// version_making.cc versions, acts.cc what acts from outside, learner_checkpoint.cc what is durable.
struct Learner::Impl {
  Impl(const std::filesystem::path& state_folder, const v1::Config& settings, std::string build_text, v1::ActionRanges action_ranges,
       ActionSpace action_space, std::unique_ptr<Algorithm> algorithm_made, TransitionBuilder transition_builder, Log& log_to,
       Metrics& metrics_to, const Clock& clock_of)
      : folder(state_folder),
        config(settings),
        schema(SchemaOf(settings)),
        build(std::move(build_text)),
        ranges(std::move(action_ranges)),
        space(std::move(action_space)),
        algorithm(std::move(algorithm_made)),
        log(log_to),
        clock(clock_of),
        builder(std::move(transition_builder)),
        replay(builder.layout(), static_cast<std::size_t>(SizesOf(settings.learner()).replay_transitions),
               SamplingRuleOf(settings.learner())),
        held_out(builder.layout(), static_cast<std::size_t>(settings.gate().max_sessions())),
        statistics(builder.encoder().scalable_columns()),
        normaliser(Normaliser::Identity(builder.encoder().state_width())),
        merge(static_cast<std::size_t>(settings.learner().queue_trajectories()), log_to),
        traits(AlgorithmTraitsOf(settings.learner().algorithm()).value()),  // It was made, so it is known.
        sizes(SizesOf(settings.learner())),
        rewards(settings.rewards(), settings.learner().reward_cap()),
        guard(settings.learner(), settings.rewards()),
        steps_total(metrics_to.GetCounter("fuseline_learner_steps_total", "update steps")),
        undone_total(metrics_to.GetCounter("fuseline_learner_steps_undone_total", "update steps undone by the numeric guard")),
        transitions_total(metrics_to.GetCounter("fuseline_learner_transitions_total", "transitions put into the replay buffer")),
        trajectories_total(metrics_to.GetCounter("fuseline_learner_trajectories_total", "trajectories merged")),
        accepted_total(metrics_to.GetCounter("fuseline_learner_versions_total", "versions made", {{"verdict", "accepted"}})),
        refused_total(metrics_to.GetCounter("fuseline_learner_versions_total", "versions made", {{"verdict", "refused"}})),
        box_share_gauge(metrics_to.GetGauge("fuseline_learner_box_share", "share of the transitions that the actor learns from")),
        progressive_gauge(metrics_to.GetGauge("fuseline_learner_progressive_gauc", "of sessions before they train, under the policy")),
        progressive_static_gauge(
            metrics_to.GetGauge("fuseline_learner_progressive_static_gauc", "of the same sessions, under the static weights")) {
    SelectTransitions();
  }

  std::string Shape() const;
  Status StartNew();
  Status Adopt(const PolicyVersion& version);
  Status AdoptActor(const TensorMap& policy);
  Status Restore(const v1::LearnerCheckpoint& checkpoint);
  Status EnterRegime(v1::LearnerCheckpoint restored);
  Status Checkpoint();
  Status DropOldCheckpoints() const;

  Status Absorb(const v1::Trajectory& trajectory);
  Status ScoreProgressively(std::uint64_t first_row);
  double ProgressiveGauc() const;  // 0: no session with both classes since the last version.
  double ProgressiveGaucStatic() const;
  std::uint64_t StepsOwed() const;
  bool NextStepMakesVersion() const { return (counts.steps() + 1) % Unsigned(config.learner().version_every_steps()) == 0; }
  bool MayStep() const { return StepsOwed() > 0 && !(pending && NextStepMakesVersion()); }
  bool CheckpointDue() const {
    return counts.trajectories() - checkpointed_trajectories >= Unsigned(config.learner().checkpoint_every_trajectories());
  }
  bool ActDue() const {
    const int next = static_cast<int>(acts_applied);
    return next < acts.acts_size() && acts.acts(next).trajectories() <= counts.trajectories();
  }
  // The next version of the scorer is due before the one before is stored: nothing is merged until then.
  bool ScorerWaits() const { return scorer && scorer->version_due() && scorer->pending(); }
  bool ScorerVersionDue() const { return scorer && scorer->version_due() && !scorer->pending(); }
  bool Unsaved() const { return unsaved_version || unsaved_scorer; }
  bool Idle() const {
    if (Unsaved() || MayStep()) return false;
    if (StepsOwed() > 0 || ScorerWaits()) return true;
    return !ScorerVersionDue() && !ActDue() && !merge.Ready() && !CheckpointDue();
  }
  Status Step();
  static SamplingRule SamplingRuleOf(const v1::Learner& settings);
  void SelectTransitions();
  std::uint64_t RoundsSince(std::uint64_t version) const;
  bool TrainsActor(const ConstRow& row) const;
  float FreshnessOf(const ConstRow& row) const;

  Status WriteAct(v1::Act act);
  Status ApplyDueActs();
  void SetIncumbent(std::uint64_t version);

  Status MakeVersion();
  Result<v1::GateVerdict> Judge() const;
  v1::PolicyManifest Manifest(std::uint64_t version) const;
  v1::Lineage MakeLineage() const;
  void Accept(std::uint64_t version);
  TensorMap VersionTensors() const;

  std::filesystem::path folder;
  v1::Config config;
  v1::FeatureSchema schema;
  std::string build;
  v1::ActionRanges ranges;
  ActionSpace space;
  std::unique_ptr<Algorithm> algorithm;
  Log& log;
  const Clock& clock;
  TransitionBuilder builder;
  ReplayBuffer replay;
  HeldOut held_out;
  NormaliserStatistics statistics;
  Normaliser normaliser;
  Merge merge;
  AlgorithmTraits traits;
  NetworkSizes sizes;
  RewardSpec rewards;
  RewardGuard guard;

  std::string root;
  v1::LearnerCounts counts;
  std::vector<v1::LearnedInput> inputs;
  std::uint64_t started_from = 0;
  std::vector<v1::Regime> regimes;              // What it computed under, one after another; the last is now.
  std::vector<std::uint64_t> incumbents{0};     // One after another; 0: the static weights.
  bool incumbent_holds = false;
  std::uint64_t versions_accepted = 0;
  std::map<std::uint64_t, KeptActor> actors;    // Of the newest accepted versions and the incumbent.
  v1::ActLog acts;                              // As it is on disk.
  std::uint64_t acts_applied = 0;
  std::optional<PolicyVersion> pending;
  bool unsaved_version = false;            // Pending, but no checkpoint holds it yet.
  std::unique_ptr<ScorerStream> scorer;    // Null: scorer.learn is false.
  bool unsaved_scorer = false;             // The same, of its pending version.
  std::optional<v1::ScorerState> resting;  // Of a scorer that is not learned here now.
  std::uint64_t checkpointed_trajectories = 0;
  std::map<std::int32_t, v1::TrajectoryName> durable;
  TransitionBatch batch, actor_batch;
  std::vector<std::function<void(const v1::Trajectory&)>> see_merged;
  std::function<std::string()> save_beside;  // Empty: `beside` rides on as it was.
  std::string beside;

  Counter steps_total, undone_total, transitions_total, trajectories_total, accepted_total, refused_total;
  Gauge box_share_gauge, progressive_gauge, progressive_static_gauge;
};

}  // namespace fuseline
