#include "fuseline/learner/learner.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "algorithm.h"
#include "checkpoint.h"
#include "fuseline/core/check.h"
#include "fuseline/core/digest.h"
#include "fuseline/core/file.h"
#include "fuseline/core/random.h"
#include "fuseline/fusion/action_space.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/settings.h"
#include "gate.h"
#include "held_out.h"
#include "merge.h"
#include "replay_buffer.h"
#include "transition_builder.h"

namespace fuseline {
namespace {

constexpr std::uint32_t kCheckpointFormat = 1;
constexpr int kTrajectoriesPerAdvance = 256;
constexpr double kSlowSgemmGflops = 8;  // Netlib's reference BLAS stays below 4, a real one starts at 20.
constexpr const char* kIncumbentTensor = "incumbent.actor";

std::uint64_t Unsigned(std::int64_t value) { return static_cast<std::uint64_t>(value); }

}  // namespace

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
        replay(builder.layout(), static_cast<std::size_t>(settings.learner().replay_transitions())),
        held_out(builder.layout(), static_cast<std::size_t>(settings.gate().max_sessions())),
        statistics(builder.encoder().scalable_columns()),
        normaliser(Normaliser::Identity(builder.encoder().state_width())),
        merge(static_cast<std::size_t>(settings.learner().queue_trajectories()), log_to),
        sizes(SizesOf(settings.learner())),
        rewards(settings.rewards(), settings.learner().reward_cap()),
        steps_total(metrics_to.GetCounter("fuseline_learner_steps_total", "update steps")),
        undone_total(metrics_to.GetCounter("fuseline_learner_steps_undone_total", "update steps undone by the numeric guard")),
        transitions_total(metrics_to.GetCounter("fuseline_learner_transitions_total", "transitions put into the replay buffer")),
        trajectories_total(metrics_to.GetCounter("fuseline_learner_trajectories_total", "trajectories merged")),
        accepted_total(metrics_to.GetCounter("fuseline_learner_versions_total", "versions made", {{"verdict", "accepted"}})),
        refused_total(metrics_to.GetCounter("fuseline_learner_versions_total", "versions made", {{"verdict", "refused"}})),
        box_share_gauge(metrics_to.GetGauge("fuseline_learner_box_share", "share of the transitions that the actor learns from")) {
    SelectForActor();
  }

  // What a checkpoint must share with the settings to be continued.
  std::string Shape() const {
    return algorithm->description() + " items " + std::to_string(builder.layout().max_items) + " schema " +
           ToHex(SchemaDigest(schema)) + " seed " + std::to_string(config.fuseline().seed());
  }

  Status StartNew();
  Status Restore(const v1::LearnerCheckpoint& checkpoint);
  Status Checkpoint();

  void Absorb(const v1::Trajectory& trajectory);
  std::uint64_t StepsOwed() const;
  bool NextStepMakesVersion() const { return (counts.steps() + 1) % Unsigned(config.learner().version_every_steps()) == 0; }
  bool MayStep() const { return StepsOwed() > 0 && !(pending && NextStepMakesVersion()); }
  bool CheckpointDue() const {
    return counts.trajectories() - checkpointed_trajectories >= Unsigned(config.learner().checkpoint_every_trajectories());
  }
  bool Idle() const { return !unsaved_version && !MayStep() && (StepsOwed() > 0 || (!merge.Ready() && !CheckpointDue())); }
  Status Step();
  void SelectForActor();
  bool TrainsActor(const ConstRow& row) const;

  Status MakeVersion();
  Result<v1::GateVerdict> Judge() const;
  v1::PolicyManifest Manifest(std::uint64_t version) const;
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
  NetworkSizes sizes;
  RewardSpec rewards;

  std::string root;
  v1::LearnerCounts counts;
  std::vector<std::uint64_t> accepted{0};  // 0: the static weights.
  std::vector<float> incumbent_actor;      // Empty while the static weights are the incumbent.
  std::optional<PolicyVersion> pending;
  bool unsaved_version = false;            // Pending, but no checkpoint holds it yet.
  std::uint64_t checkpointed_trajectories = 0;
  std::map<std::int32_t, v1::TrajectoryName> durable;
  TransitionBatch batch, actor_batch;
  std::function<void(const v1::Trajectory&)> see_merged;

  Counter steps_total, undone_total, transitions_total, trajectories_total, accepted_total, refused_total;
  Gauge box_share_gauge;
};

Result<std::unique_ptr<Learner>> Learner::Open(const std::filesystem::path& folder, const v1::Config& config, std::string build,
                                               Log& log, Metrics& metrics, const Clock& clock) {
  const v1::FeatureSchema schema = SchemaOf(config);
  FUSELINE_FAIL_IF_ERROR(ValidateSchema(schema));
  FUSELINE_ASSIGN_OR_FAIL(v1::ActionRanges ranges, ActionRangesOf(config.policy(), schema));
  FUSELINE_ASSIGN_OR_FAIL(ActionSpace space, ActionSpace::Create(ranges));
  TransitionBuilder builder(config, schema);
  FUSELINE_ASSIGN_OR_FAIL(auto algorithm, CreateEnhancedRl(config, builder.encoder().shared_width(), builder.encoder().item_width(), space.static_action()));
  const ComputeFacts& facts = algorithm->facts();
  log.Info("learner.compute_chosen", "device", facts.device, "blas", facts.blas, "threads", facts.threads, "sgemm_gflops",
           facts.sgemm_gflops);
  if (facts.sgemm_gflops < kSlowSgemmGflops)
    log.Warn("learner.blas_slow", "blas", facts.blas, "sgemm_gflops", facts.sgemm_gflops, "hint",
             "a reference BLAS trains 20 times slower: install OpenBLAS (openmp), or the pinned LibTorch");

  FUSELINE_FAIL_IF_ERROR(MakeFolders(folder));
  auto impl = std::make_unique<Impl>(folder, config, std::move(build), std::move(ranges), std::move(space), std::move(algorithm),
                                     std::move(builder), log, metrics, clock);
  const auto checkpoint = ReadCheckpoint(folder);
  if (!checkpoint && checkpoint.error().code != Code::kNotFound) return tl::unexpected(checkpoint.error());
  FUSELINE_FAIL_IF_ERROR(checkpoint ? impl->Restore(*checkpoint) : impl->StartNew());
  return std::unique_ptr<Learner>(new Learner(std::move(impl)));
}

Status Learner::Impl::StartNew() {
  root = ToHex(Sha256Of(Shape() + " " + SettingsDigest(config) + " " + std::to_string(clock.wall_ms()))).substr(0, 16);
  log.Info("learner.state_started", "folder", folder.string(), "root", root);
  return OkStatus();
}

Status Learner::Impl::Restore(const v1::LearnerCheckpoint& checkpoint) {
  if (checkpoint.format() != kCheckpointFormat || checkpoint.shape() != Shape()) {
    return ErrorStatus(Code::kInvalidInput, "the checkpoint in", folder.string(),
                       "cannot be continued: schema, fuseline.seed, learner.max_items, learner.preset, hidden or critics_per_group differ; it has",
                       checkpoint.shape(), "but the settings ask for", Shape());
  }
  FUSELINE_ASSIGN_OR_RETURN(const std::string bytes, ReadBlob(folder, checkpoint.tensors()));
  FUSELINE_ASSIGN_OR_RETURN(TensorMap tensors, DecodeWeights(bytes));
  counts = checkpoint.counts();
  FUSELINE_RETURN_IF_ERROR(algorithm->Restore(tensors, {counts.critic_updates(), counts.actor_updates()}));
  if (tensors.contains(kIncumbentTensor)) incumbent_actor = tensors[kIncumbentTensor].values;

  FUSELINE_RETURN_IF_ERROR(replay.rows().Load(folder, checkpoint.replay()));
  replay.Index();
  FUSELINE_RETURN_IF_ERROR(held_out.rows().Load(folder, checkpoint.held_out()));
  held_out.Index();
  const v1::NormaliserState& state = checkpoint.normaliser();
  statistics.Restore(state.count(), {state.means().begin(), state.means().end()}, {state.squares().begin(), state.squares().end()});
  if (state.frozen()) normaliser = statistics.Finish();
  accepted.assign(checkpoint.accepted_versions().begin(), checkpoint.accepted_versions().end());
  SelectForActor();
  for (const v1::PartitionPosition& position : checkpoint.partitions()) {
    merge.Restore(position);
    durable[position.last().partition()] = position.last();
  }
  root = checkpoint.root();
  checkpointed_trajectories = counts.trajectories();
  if (checkpoint.has_pending()) {
    FUSELINE_ASSIGN_OR_RETURN(std::string weights, ReadBlob(folder, checkpoint.pending_weights()));
    pending = PolicyVersion{checkpoint.pending(), std::move(weights)};
  }
  log.Info("learner.state_restored", "trajectories", counts.trajectories(), "steps", counts.steps(), "versions", counts.versions(),
           "pending", pending.has_value());
  return OkStatus();
}

Status Learner::Impl::Checkpoint() {
  v1::LearnerCheckpoint checkpoint;
  checkpoint.set_format(kCheckpointFormat);
  checkpoint.set_shape(Shape());
  checkpoint.set_root(root);
  TensorMap tensors = algorithm->Save();
  if (!incumbent_actor.empty())
    tensors[kIncumbentTensor] = {{static_cast<std::uint32_t>(incumbent_actor.size())}, incumbent_actor};
  FUSELINE_ASSIGN_OR_RETURN(*checkpoint.mutable_tensors(), WriteBlob(folder, "tensors", EncodeWeights(tensors)));
  FUSELINE_ASSIGN_OR_RETURN(*checkpoint.mutable_replay(), replay.rows().Save(folder));
  FUSELINE_ASSIGN_OR_RETURN(*checkpoint.mutable_held_out(), held_out.rows().Save(folder));
  const OptimiserCounts updates = algorithm->optimiser_counts();
  counts.set_critic_updates(updates.critic_updates);
  counts.set_actor_updates(updates.actor_updates);
  *checkpoint.mutable_counts() = counts;
  std::map<std::int32_t, v1::TrajectoryName> names;
  for (v1::PartitionPosition& position : merge.Positions()) {
    names[position.last().partition()] = position.last();
    *checkpoint.add_partitions() = std::move(position);
  }
  v1::NormaliserState& state = *checkpoint.mutable_normaliser();
  state.set_frozen(counts.transitions_at_warmup() > 0);
  state.set_count(statistics.count());
  state.mutable_means()->Assign(statistics.means().begin(), statistics.means().end());
  state.mutable_squares()->Assign(statistics.squares().begin(), statistics.squares().end());
  checkpoint.mutable_accepted_versions()->Assign(accepted.begin(), accepted.end());
  if (pending) {
    *checkpoint.mutable_pending() = pending->manifest;
    FUSELINE_ASSIGN_OR_RETURN(*checkpoint.mutable_pending_weights(), WriteBlob(folder, "version", pending->weights));
  }
  const std::uint64_t every = Unsigned(config.learner().keep_checkpoint_every_versions());
  const std::uint64_t keep = unsaved_version && counts.versions() % every == 0 ? counts.versions() : 0;
  FUSELINE_RETURN_IF_ERROR(WriteCheckpoint(folder, checkpoint, keep));
  unsaved_version = false;
  checkpointed_trajectories = counts.trajectories();
  durable = std::move(names);
  return CollectGarbage(folder);
}

void Learner::Impl::Absorb(const v1::Trajectory& trajectory) {
  if (see_merged) see_merged(trajectory);
  counts.set_trajectories(counts.trajectories() + 1);
  counts.set_learned_through_ms(trajectory.stream_time_ms());
  trajectories_total.Increment();
  if (!trajectory.stub_reason().empty()) return counts.set_stubs(counts.stubs() + 1);

  const bool frozen = counts.transitions_at_warmup() > 0;
  TransitionBuilder::Account account;
  if (IsHeldBack(config, trajectory.user_id())) {
    counts.set_held_back(counts.held_back() + 1);
    account = builder.AppendJudged(trajectory, held_out.rows());
    held_out.Index();
  } else {
    account = builder.AppendTransitions(trajectory, replay.rows(), frozen ? nullptr : &statistics);
    replay.Index();
  }
  counts.set_transitions(counts.transitions() + account.transitions);
  transitions_total.Increment(static_cast<double>(account.transitions));
  for (const auto& [reason, number] : account.left_out) (*counts.mutable_left_out())[reason] += number;

  if (frozen || counts.transitions() < Unsigned(config.learner().warmup_transitions())) return;
  counts.set_transitions_at_warmup(counts.transitions());
  normaliser = statistics.Finish();
}

// floor(transitions since warm-up x rate) - steps, the rate in millionths: from the counts alone, so that nothing drifts.
std::uint64_t Learner::Impl::StepsOwed() const {
  if (counts.transitions_at_warmup() == 0) return 0;
  constexpr std::uint64_t kMillion = 1'000'000;
  const auto millionths = Unsigned(std::llround(config.learner().steps_per_transition() * static_cast<double>(kMillion)));
  const std::uint64_t taken = counts.transitions() - counts.transitions_at_warmup();
  const std::uint64_t due = taken / kMillion * millionths + taken % kMillion * millionths / kMillion;
  return due > counts.steps() ? due - counts.steps() : 0;
}

// Explored around the incumbent or a version accepted at most box_rounds before it: an older baseline's box would nail the
// policy to it.
bool Learner::Impl::TrainsActor(const ConstRow& row) const {
  if (!row.is(kHasDensity)) return config.learner().anchor_on_static();
  const auto rounds = std::min<std::size_t>(static_cast<std::size_t>(config.learner().box_rounds()) + 1, accepted.size());
  return std::find(accepted.end() - static_cast<std::ptrdiff_t>(rounds), accepted.end(), row.header->behaviour_version) !=
         accepted.end();
}

// To be called whenever what TrainsActor says may have changed.
void Learner::Impl::SelectForActor() {
  replay.SelectForActor([this](const ConstRow& row) { return TrainsActor(row); });
}

Status Learner::Impl::Step() {
  const Sampling sampling{.seed = config.fuseline().seed(),
                          .step = counts.steps(),
                          .count = static_cast<std::size_t>(sizes.batch),
                          .per_request = IsPerRequest(config.learner())};
  replay.Sample(sampling, normaliser, rewards, batch);
  if (counts.steps() >= Unsigned(config.learner().actor_delay_steps()))
    replay.SampleForActor(sampling, normaliser, rewards, actor_batch);
  FUSELINE_ASSIGN_OR_RETURN(const StepFigures figures, algorithm->Step(batch, actor_batch, counts.steps()));
  counts.set_steps(counts.steps() + 1);
  steps_total.Increment();
  if (figures.undone) {
    counts.set_steps_undone(counts.steps_undone() + 1);
    undone_total.Increment();
    log.Error("learner.step_undone", "step", counts.steps(), "undone", counts.steps_undone());
    return OkStatus();
  }
  counts.set_window_steps(counts.window_steps() + 1);
  counts.set_window_box_share(counts.window_box_share() + replay.actor_share());
  counts.set_window_critic_loss(counts.window_critic_loss() + figures.critic_loss);
  if (figures.actor_moved) {
    counts.set_window_actor_steps(counts.window_actor_steps() + 1);
    counts.set_window_actor_loss(counts.window_actor_loss() + figures.actor_loss);
  }
  return OkStatus();
}

TensorMap Learner::Impl::VersionTensors() const {
  TensorMap tensors = algorithm->ActorTensors();
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
      actions.insert(actions.end(), space.static_action().begin(), space.static_action().end());
    return actions;
  };
  const GateSubjects subjects{
      .candidate = [this](std::span<const float> states) { return algorithm->Act(states); },
      .incumbent = incumbent_actor.empty()
                       ? Actor(act_static)
                       : Actor([this](std::span<const float> states) { return algorithm->ActAs(incumbent_actor, states); }),
      .deviation = [this](std::span<const float> states, std::span<const float> actions) -> Result<std::vector<double>> {
        FUSELINE_ASSIGN_OR_FAIL(CriticValues values, algorithm->Values(states, actions));
        return std::move(values.deviation);
      },
      .finite = finite,
      .in_round = [this](const ConstRow& row) { return TrainsActor(row); }};
  return JudgeVersion(config, space, normaliser, held_out.rows(), subjects);
}

v1::PolicyManifest Learner::Impl::Manifest(std::uint64_t version) const {
  v1::PolicyManifest manifest;
  manifest.set_version(version);
  manifest.set_policy(config.policy().name());
  manifest.set_algorithm(config.learner().algorithm());
  manifest.set_preset(config.learner().preset());
  *manifest.mutable_schema() = schema;
  manifest.set_schema_digest(SchemaDigest(schema));
  *manifest.mutable_actor() = algorithm->actor_shape();
  *manifest.mutable_ranges() = ranges;
  manifest.mutable_box()->set_lower(static_cast<float>(config.policy().box_lower()));
  manifest.mutable_box()->set_upper(static_cast<float>(config.policy().box_upper()));

  v1::Lineage& lineage = *manifest.mutable_lineage();
  lineage.set_parent(accepted.back());
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

  auto& figures = *manifest.mutable_metrics();
  const double steps = std::max<double>(1, static_cast<double>(counts.window_steps()));
  figures["critic_loss"] = counts.window_critic_loss() / steps;
  figures["actor_loss"] = counts.window_actor_loss() / std::max<double>(1, static_cast<double>(counts.window_actor_steps()));
  figures["box_term_share"] = counts.window_box_share() / steps;
  figures["transitions"] = static_cast<double>(counts.transitions());
  figures["buffered"] = static_cast<double>(replay.size());
  figures["samples_per_transition"] =
      static_cast<double>(counts.steps()) * static_cast<double>(sizes.batch) / static_cast<double>(counts.transitions());
  figures["steps_undone"] = static_cast<double>(counts.steps_undone());
  manifest.set_created_ms(clock.wall_ms());
  return manifest;
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
           made.manifest.metrics().at("box_term_share"), "reasons", made.manifest.gate().reasons_size());

  counts.set_versions(version);
  counts.set_window_steps(0);
  counts.set_window_box_share(0);
  counts.set_window_critic_loss(0);
  counts.set_window_actor_steps(0);
  counts.set_window_actor_loss(0);
  if (passed) {
    accepted.push_back(version);
    SelectForActor();
    incumbent_actor = algorithm->actor_parameters();
  }
  pending = std::move(made);
  unsaved_version = true;
  return OkStatus();
}

Learner::Learner(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Learner::~Learner() = default;

bool IsHeldBack(const v1::Config& config, const std::string& user_id) {
  Random draw(config.fuseline().seed(), "holdout", TransitionBuilder::UserHash(user_id));
  return draw.NextUniform() < config.learner().holdout_share();
}

void Learner::OnMerged(std::function<void(const v1::Trajectory&)> see) { impl_->see_merged = std::move(see); }

void Learner::ExpectPartitions(int count) { impl_->merge.ExpectPartitions(count); }

Status Learner::Offer(v1::TrajectoryRecord record) {
  if (record.has_trajectory()) return impl_->merge.Offer(std::move(*record.mutable_trajectory()));
  if (record.has_progress()) return impl_->merge.Offer(record.progress());
  return ErrorStatus(Code::kInvalidInput, "record is neither trajectory nor progress mark");
}

Result<std::optional<PolicyVersion>> Learner::Advance() {
  Impl& impl = *impl_;
  int steps = 0, trajectories = 0;
  while (!impl.unsaved_version) {
    if (impl.StepsOwed() > 0) {
      if (!impl.MayStep() || steps++ == kStepsPerAdvance) return std::nullopt;
      FUSELINE_FAIL_IF_ERROR(impl.Step());
      if (impl.counts.steps() % Unsigned(impl.config.learner().version_every_steps()) == 0)
        FUSELINE_FAIL_IF_ERROR(impl.MakeVersion());
      continue;
    }
    if (impl.CheckpointDue()) {
      FUSELINE_FAIL_IF_ERROR(impl.Checkpoint());
      return std::nullopt;
    }
    const auto partition = impl.merge.Ready();
    if (!partition || trajectories++ == kTrajectoriesPerAdvance) return std::nullopt;
    impl.Absorb(impl.merge.Take(*partition));
  }
  FUSELINE_FAIL_IF_ERROR(impl.Checkpoint());  // Only what a durable checkpoint holds may leave.
  return impl.pending;
}

bool Learner::idle() const { return impl_->Idle(); }

std::optional<PolicyVersion> Learner::PendingVersion() const {
  return impl_->unsaved_version ? std::nullopt : impl_->pending;
}

Status Learner::MarkStored(std::uint64_t version) {
  if (!impl_->pending || impl_->unsaved_version || impl_->pending->manifest.version() != version)
    return ErrorStatus(Code::kInvalidInput, "no such version is pending:", version);
  impl_->pending.reset();
  return OkStatus();
}

Status Learner::Checkpoint() { return impl_->Checkpoint(); }

std::map<std::int32_t, v1::TrajectoryName> Learner::DurableNames() const { return impl_->durable; }

LearnerProgress Learner::progress() const {
  const v1::LearnerCounts& counts = impl_->counts;
  const double steps = std::max<double>(1, static_cast<double>(counts.window_steps()));
  return {.trajectories = counts.trajectories(),
          .held_back = counts.held_back(),
          .stubs = counts.stubs(),
          .transitions = counts.transitions(),
          .buffered = impl_->replay.size(),
          .steps = counts.steps(),
          .steps_undone = counts.steps_undone(),
          .versions = counts.versions(),
          .versions_accepted = impl_->accepted.size() - 1,
          .incumbent = impl_->accepted.back(),
          .learned_through_ms = counts.learned_through_ms(),
          .box_term_share = counts.window_box_share() / steps,
          .critic_loss = counts.window_critic_loss() / steps,
          .actor_loss = counts.window_actor_loss() / std::max<double>(1, static_cast<double>(counts.window_actor_steps())),
          .left_out = {counts.left_out().begin(), counts.left_out().end()},
          .repeats = impl_->merge.repeats(),
          .repeats_differing = impl_->merge.repeats_differing(),
          .waiting = impl_->merge.waiting()};
}

std::string Learner::WeightsSha256() const { return impl_->algorithm->WeightsSha256(); }

}  // namespace fuseline
