#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>
#include <string>

#include "fuseline/core/digest.h"
#include "fuseline/fusion/weights_file.h"
#include "gate.h"
#include "learner_impl.h"

namespace fuseline {
namespace {

std::string ReasonsText(const v1::GateVerdict& verdict) {
  std::string text;
  for (const std::string& reason : verdict.reasons()) text += (text.empty() ? "" : "; ") + reason;
  return text;
}

}  // namespace

TensorMap Learner::Impl::VersionTensors() const {
  TensorMap tensors = algorithm->PolicyTensors();
  const auto columns = static_cast<std::uint32_t>(normaliser.mean.size());
  tensors["normaliser.mean"] = {{columns}, normaliser.mean};
  tensors["normaliser.scale"] = {{columns}, normaliser.scale};
  return tensors;
}

Result<v1::GateVerdict> Learner::Impl::Judge() const {
  bool finite = true;
  for (const auto& [name, tensor] : VersionTensors())
    for (const float value : tensor.values) finite = finite && std::isfinite(value);
  const auto act_static = [this](std::span<const float> states) -> Result<std::vector<float>> {
    std::vector<float> actions;
    for (std::size_t n = 0; n < states.size() / normaliser.mean.size(); ++n)
      std::ranges::copy(space.static_action().first(space.learned_width()), std::back_inserter(actions));
    return actions;
  };
  const GateSubjects subjects{
      .candidate = [this](std::span<const float> states) { return algorithm->Act(states); },
      .incumbent = incumbents.back() == 0
                       ? Actor(act_static)
                       : Actor([this](std::span<const float> states) {
                           return algorithm->ActAs(actors.at(incumbents.back()).parameters, states);
                         }),
      .fixed = act_static,
      .deviation = [this](std::span<const float> states, std::span<const float> actions) -> Result<std::vector<double>> {
        FUSELINE_ASSIGN_OR_FAIL(CriticValues values, algorithm->Values(states, actions));
        return std::move(values.deviation);
      },
      .finite = finite,
      .in_round = [this](const ConstRow& row) { return TrainsActor(row); }};
  return JudgeVersion(config, space, normaliser, held_out.rows(), subjects);
}

v1::Lineage Learner::Impl::MakeLineage() const {
  v1::Lineage lineage;
  lineage.set_parent(incumbents.back());
  lineage.set_root(root);
  lineage.set_trajectories_taken(counts.trajectories());
  lineage.set_update_steps(counts.steps());
  for (const v1::PartitionPosition& position : merge.Positions()) *lineage.add_names_taken() = position.last();
  lineage.set_settings_sha256(SettingsDigest(config));
  lineage.set_rewards_sha256(RewardsDigest(config.rewards()));
  lineage.set_seed(config.fuseline().seed());
  lineage.set_build(build);
  const ComputeFacts& facts = algorithm->facts();
  lineage.set_blas(facts.blas);
  lineage.set_threads(static_cast<std::uint32_t>(facts.threads));
  lineage.set_device(facts.device);
  lineage.set_settings(CanonicalBytes(ShapingSettings(config)));
  for (const v1::LearnedInput& input : inputs) *lineage.add_inputs() = input;
  for (int i = 0; i < static_cast<int>(acts_applied); ++i) *lineage.add_acts() = acts.acts(i);
  lineage.set_started_from(started_from);
  for (const v1::Regime& regime : regimes) {
    v1::Regime& listed = *lineage.add_regimes();
    listed = regime;
    if (listed.settings_sha256() == lineage.settings_sha256()) listed.clear_settings();
  }
  return lineage;
}

v1::PolicyManifest Learner::Impl::Manifest(std::uint64_t version) const {
  v1::PolicyManifest manifest;
  manifest.set_version(version);
  manifest.set_policy(config.policy().name());
  manifest.set_algorithm(config.learner().algorithm());
  manifest.set_preset(config.learner().preset());
  *manifest.mutable_schema() = schema;
  manifest.set_schema_digest(SchemaDigest(schema));
  algorithm->DescribePolicy(manifest);
  *manifest.mutable_ranges() = ranges;
  manifest.mutable_box()->set_lower(static_cast<float>(config.policy().box_lower()));
  manifest.mutable_box()->set_upper(static_cast<float>(config.policy().box_upper()));

  *manifest.mutable_lineage() = MakeLineage();

  auto& figures = *manifest.mutable_metrics();
  const double steps = std::max<double>(1, static_cast<double>(counts.window_steps()));
  figures["critic_loss"] = counts.window_critic_loss() / steps;
  figures["actor_loss"] = counts.window_actor_loss() / std::max<double>(1, static_cast<double>(counts.window_actor_steps()));
  figures["box_term_share"] = counts.window_box_share() / steps;
  figures["transitions"] = static_cast<double>(counts.transitions());
  figures["buffered"] = static_cast<double>(replay.size());
  figures["stale_share"] = replay.stale_share();
  figures["samples_per_transition"] =
      static_cast<double>(counts.steps()) * static_cast<double>(sizes.batch) / static_cast<double>(counts.transitions());
  if (counts.window_progressive_sessions() > 0) {
    figures["progressive_gauc"] = ProgressiveGauc();
    figures["progressive_gauc_static"] = ProgressiveGaucStatic();
    figures["progressive_sessions"] = static_cast<double>(counts.window_progressive_sessions());
  }
  for (std::size_t group = 0; group < kRewardGroups; ++group)
    figures[std::string("session_reward_limit_") + kRewardGroupNames[group]] = guard.session_limit()[group];
  figures["steps_undone"] = static_cast<double>(counts.steps_undone());
  manifest.set_created_ms(clock.wall_ms());
  return manifest;
}

// It becomes what rankers explore around, unless somebody holds the incumbent; its actor is kept in either case.
void Learner::Impl::Accept(std::uint64_t version) {
  ++versions_accepted;
  actors[version].parameters = algorithm->actor_parameters();
  if (!incumbent_holds) SetIncumbent(version);
  // What an act of this very count names is about to become the incumbent: it is kept besides.
  std::set<std::uint64_t> due;
  for (int i = static_cast<int>(acts_applied); i < acts.acts_size() && acts.acts(i).trajectories() == counts.trajectories(); ++i) {
    const std::uint64_t named = acts.acts(i).incumbent();
    if (actors.contains(named) && named != incumbents.back()) due.insert(named);
  }
  const auto keep = static_cast<std::size_t>(config.learner().keep_incumbents()) + due.size();
  for (auto oldest = actors.begin(); actors.size() > keep && oldest != actors.end();)
    oldest = oldest->first == incumbents.back() || due.contains(oldest->first) ? std::next(oldest) : actors.erase(oldest);
}

Status Learner::Impl::MakeVersion() {
  const std::uint64_t version = counts.versions() + 1;
  PolicyVersion made{Manifest(version), EncodeWeights(VersionTensors())};
  made.manifest.set_weights_sha256(Sha256Of(made.weights));
  FUSELINE_ASSIGN_OR_RETURN(*made.manifest.mutable_gate(), Judge());
  const bool passed = made.manifest.gate().passed();
  (passed ? accepted_total : refused_total).Increment();
  box_share_gauge.Set(made.manifest.metrics().at("box_term_share"));
  log.Info("learner.version_made", "version", version, "passed", passed, "steps", counts.steps(), "box_share",
           made.manifest.metrics().at("box_term_share"), "reasons", ReasonsText(made.manifest.gate()));

  counts.set_versions(version);
  counts.set_window_steps(0);
  counts.set_window_box_share(0);
  counts.set_window_critic_loss(0);
  counts.set_window_actor_steps(0);
  counts.set_window_actor_loss(0);
  counts.set_window_progressive_sessions(0);
  counts.set_window_progressive_weight(0);
  counts.set_window_progressive_policy(0);
  counts.set_window_progressive_static(0);
  if (passed) Accept(version);
  pending = std::move(made);
  unsaved_version = true;
  return OkStatus();
}

}  // namespace fuseline
