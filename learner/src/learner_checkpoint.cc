#include <cstring>
#include <set>
#include <span>

#include "checkpoint.h"
#include "fuseline/core/digest.h"
#include "fuseline/fusion/weights_file.h"
#include "learner_impl.h"

namespace fuseline {
namespace {

constexpr std::uint32_t kCheckpointFormat = 3;
constexpr const char* kMeanTensor = "adopted.normaliser.mean";  // Of the version that was begun from.
constexpr const char* kScaleTensor = "adopted.normaliser.scale";

std::string BytesOf(std::span<const float> values) { return {reinterpret_cast<const char*>(values.data()), 4 * values.size()}; }

Result<std::vector<float>> ReadFloats(const std::filesystem::path& folder, const v1::FileRef& file) {
  FUSELINE_ASSIGN_OR_FAIL(const std::string bytes, ReadBlob(folder, file));
  std::vector<float> values(bytes.size() / 4);
  std::memcpy(values.data(), bytes.data(), 4 * values.size());
  return values;
}

}  // namespace

// What a checkpoint must share with the settings to be continued.
std::string Learner::Impl::Shape() const {
  // An action lies in the buffer as its place within the ranges.
  const v1::Policy& policy = config.policy();
  std::string ends;
  for (const double end : {policy.power_min(), policy.power_max(), policy.bias_min(), policy.bias_max()}) ends += ' ' + std::to_string(end);
  // What networks were given from the first step on: they would go on with other inputs, or other meanings of what they say.
  const v1::Learner& learner = config.learner();
  const std::string forms = learner.start() + " actor_state " + learner.actor_state() + " form " + learner.integrated_form();
  return algorithm->description() + " start " + forms + " items " + std::to_string(builder.layout().max_items) + " schema " +
         ToHex(SchemaDigest(schema)) + " seed " + std::to_string(config.fuseline().seed()) + " ranges" + ends;
}

Status Learner::Impl::StartNew() {
  root = ToHex(Sha256Of(Shape() + " " + SettingsDigest(config) + " " + std::to_string(clock.wall_ms()))).substr(0, 16);
  log.Info("learner.state_started", "folder", folder.string(), "root", root);
  return OkStatus();
}

Status Learner::Impl::Restore(const v1::LearnerCheckpoint& checkpoint) {
  if (checkpoint.format() != kCheckpointFormat || checkpoint.shape() != Shape()) {
    return ErrorStatus(Code::kInvalidInput, "the checkpoint in", folder.string(),
                       "cannot be continued: schema, fuseline.seed, learner.max_items, learner.preset, hidden, critics_per_group, start, actor_state or integrated_form, or the ranges of policy differ, or another release made it; it has format",
                       checkpoint.format(), checkpoint.shape(), "but the settings ask for format", kCheckpointFormat, Shape());
  }
  FUSELINE_ASSIGN_OR_RETURN(const std::string bytes, ReadBlob(folder, checkpoint.tensors()));
  FUSELINE_ASSIGN_OR_RETURN(TensorMap tensors, DecodeWeights(bytes));
  counts = checkpoint.counts();
  FUSELINE_RETURN_IF_ERROR(algorithm->Restore(tensors));
  for (const v1::KeptActor& kept : checkpoint.actors()) {
    FUSELINE_ASSIGN_OR_RETURN(auto parameters, ReadFloats(folder, kept.parameters()));
    actors[kept.version()] = {std::move(parameters), kept.parameters()};
  }

  FUSELINE_RETURN_IF_ERROR(replay.rows().Load(folder, checkpoint.replay()));
  replay.Index();
  if (checkpoint.has_priorities()) {
    const v1::PriorityState& state = checkpoint.priorities();
    FUSELINE_ASSIGN_OR_RETURN(auto priorities, ReadFloats(folder, state.priorities()));
    FUSELINE_RETURN_IF_ERROR(replay.RestorePriorities({state.first(), std::move(priorities), state.largest()}));
  }
  FUSELINE_RETURN_IF_ERROR(held_out.rows().Load(folder, checkpoint.held_out()));
  held_out.Index();
  const v1::NormaliserState& state = checkpoint.normaliser();
  statistics.Restore(state.count(), {state.means().begin(), state.means().end()}, {state.squares().begin(), state.squares().end()});
  if (state.frozen()) normaliser = statistics.Finish();
  if (tensors.contains(kMeanTensor)) normaliser.mean = tensors[kMeanTensor].values;
  if (tensors.contains(kScaleTensor)) normaliser.scale = tensors[kScaleTensor].values;
  incumbents.assign(checkpoint.incumbents().begin(), checkpoint.incumbents().end());
  incumbent_holds = checkpoint.incumbent_holds();
  versions_accepted = checkpoint.versions_accepted();
  acts_applied = checkpoint.acts_applied();
  if (acts_applied > static_cast<std::uint64_t>(acts.acts_size()))
    return ErrorStatus(Code::kCorrupt, "acts are missing from the act log in", folder.string());
  SelectTransitions();
  inputs.assign(checkpoint.inputs().begin(), checkpoint.inputs().end());
  started_from = checkpoint.started_from();
  if (checkpoint.has_reward_guard()) {
    FUSELINE_ASSIGN_OR_RETURN(const std::string users, ReadBlob(folder, checkpoint.reward_guard().users()));
    FUSELINE_RETURN_IF_ERROR(guard.Restore(checkpoint.reward_guard(), users));
  }
  regimes.assign(checkpoint.regimes().begin(), checkpoint.regimes().end());
  for (const v1::PartitionPosition& position : checkpoint.partitions()) {
    merge.Restore(position);
    durable[position.last().partition()] = position.last();
  }
  root = checkpoint.root();
  checkpointed_trajectories = counts.trajectories();
  if (checkpoint.has_beside()) {
    FUSELINE_ASSIGN_OR_RETURN(beside, ReadBlob(folder, checkpoint.beside()));
  }
  if (checkpoint.has_pending()) {
    FUSELINE_ASSIGN_OR_RETURN(std::string weights, ReadBlob(folder, checkpoint.pending_weights()));
    pending = PolicyVersion{checkpoint.pending(), std::move(weights)};
  }
  if (checkpoint.has_scorer() && !scorer) resting = checkpoint.scorer();
  if (checkpoint.has_scorer() && scorer) FUSELINE_RETURN_IF_ERROR(scorer->Restore(folder, checkpoint.scorer()));
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
  if (started_from != 0) {
    const auto columns = static_cast<std::uint32_t>(normaliser.mean.size());
    tensors[kMeanTensor] = {{columns}, normaliser.mean};
    tensors[kScaleTensor] = {{columns}, normaliser.scale};
  }
  FUSELINE_ASSIGN_OR_RETURN(*checkpoint.mutable_tensors(), WriteBlob(folder, "tensors", EncodeWeights(tensors)));
  for (auto& [version, actor] : actors) {
    if (!actor.file) {
      FUSELINE_ASSIGN_OR_RETURN(actor.file, WriteBlob(folder, "actor", BytesOf(actor.parameters)));
    }
    v1::KeptActor& kept = *checkpoint.add_actors();
    kept.set_version(version);
    *kept.mutable_parameters() = *actor.file;
  }
  if (replay.rule().prioritised) {
    const auto [first, priorities, largest] = replay.Priorities();
    checkpoint.mutable_priorities()->set_first(first);
    checkpoint.mutable_priorities()->set_largest(largest);
    FUSELINE_ASSIGN_OR_RETURN(*checkpoint.mutable_priorities()->mutable_priorities(), WriteBlob(folder, "priorities", BytesOf(priorities)));
  }
  FUSELINE_ASSIGN_OR_RETURN(*checkpoint.mutable_replay(), replay.rows().Save(folder));
  FUSELINE_ASSIGN_OR_RETURN(*checkpoint.mutable_held_out(), held_out.rows().Save(folder));
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
  checkpoint.mutable_incumbents()->Assign(incumbents.begin(), incumbents.end());
  checkpoint.set_incumbent_holds(incumbent_holds);
  checkpoint.set_versions_accepted(versions_accepted);
  checkpoint.set_acts_applied(acts_applied);
  for (const v1::LearnedInput& input : inputs) *checkpoint.add_inputs() = input;
  checkpoint.set_started_from(started_from);
  for (const v1::Regime& regime : regimes) *checkpoint.add_regimes() = regime;
  if (pending) {
    *checkpoint.mutable_pending() = pending->manifest;
    FUSELINE_ASSIGN_OR_RETURN(*checkpoint.mutable_pending_weights(), WriteBlob(folder, "version", pending->weights));
  }
  *checkpoint.mutable_reward_guard() = guard.Save();
  FUSELINE_ASSIGN_OR_RETURN(*checkpoint.mutable_reward_guard()->mutable_users(), WriteBlob(folder, "earned", guard.UserBytes()));
  if (resting) *checkpoint.mutable_scorer() = *resting;
  if (scorer) {
    FUSELINE_ASSIGN_OR_RETURN(*checkpoint.mutable_scorer(), scorer->Save(folder));
  }
  if (save_beside) beside = save_beside();
  if (!beside.empty()) {
    FUSELINE_ASSIGN_OR_RETURN(*checkpoint.mutable_beside(), WriteBlob(folder, "beside", beside));
  }
  const std::uint64_t every = Unsigned(config.learner().keep_checkpoint_every_versions());
  if (unsaved_version && counts.versions() % every == 0)
    FUSELINE_RETURN_IF_ERROR(KeepCheckpoint(folder, checkpoint, {.version = counts.versions()}));
  FUSELINE_RETURN_IF_ERROR(WriteCheckpoint(folder, checkpoint));
  unsaved_version = unsaved_scorer = false;
  checkpointed_trajectories = counts.trajectories();
  durable = std::move(names);
  FUSELINE_RETURN_IF_ERROR(DropOldCheckpoints());
  return CollectGarbage(folder);
}

// Full checkpoints hold a whole buffer each: those stay that versions in the archive, and the incumbent, are derived from.
Status Learner::Impl::DropOldCheckpoints() const {
  const std::uint64_t archived = Unsigned(config.policy_store().keep_versions());
  const std::uint64_t floor = counts.versions() > archived ? counts.versions() - archived + 1 : 1;
  const auto newest = static_cast<std::size_t>(config.learner().keep_checkpoints());
  std::set<std::uint64_t> also{incumbents.back()};
  // What a version of the scorer is derived from was kept at the policy's version before it; or, where a regime began behind the
  // scorer's version, at the one before that.
  if (scorer) {
    for (const std::uint64_t version : scorer->policy_versions()) also.insert({version, version + 1});
  }
  for (const KeptCheckpoint& kept : DroppedCheckpoints(KeptCheckpoints(folder), newest, floor, also))
    FUSELINE_RETURN_IF_ERROR(DropCheckpoint(folder, kept));
  return OkStatus();
}

}  // namespace fuseline
