#include "checkpoint.h"
#include "fuseline/core/digest.h"
#include "fuseline/fusion/weights_file.h"
#include "learner_impl.h"

namespace fuseline {
namespace {

constexpr std::uint32_t kCheckpointFormat = 2;
constexpr const char* kIncumbentTensor = "incumbent.actor";

}  // namespace

// What a checkpoint must share with the settings to be continued.
std::string Learner::Impl::Shape() const {
  return algorithm->description() + " items " + std::to_string(builder.layout().max_items) + " schema " +
         ToHex(SchemaDigest(schema)) + " seed " + std::to_string(config.fuseline().seed());
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
  FUSELINE_RETURN_IF_ERROR(algorithm->Restore(tensors));
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

}  // namespace fuseline
