// A learner without state begins where a version ended.

#include "fuseline/fusion/weights_file.h"
#include "learner_impl.h"

namespace fuseline {

// An actor of plain layers lies in the algorithm's state as one flat tensor, layer by layer: what serves afterwards must be what was
// given, bit for bit, or the algorithm is one that holds its policy otherwise.
Status Learner::Impl::AdoptActor(const TensorMap& policy) {
  std::vector<float> flat;
  for (int layer = 0; policy.contains("actor." + std::to_string(layer) + ".weight"); ++layer) {
    for (const char* part : {".weight", ".bias"}) {
      const auto tensor = policy.find("actor." + std::to_string(layer) + part);
      if (tensor != policy.end()) flat.insert(flat.end(), tensor->second.values.begin(), tensor->second.values.end());
    }
  }
  TensorMap state = algorithm->Save();
  if (!state.contains("actor")) {
    return ErrorStatus(Code::kInvalidInput, "a learner of", config.learner().algorithm(),
                       "holds its policy otherwise than as one actor, and cannot begin without its state: bring the folder of the learner, or take a new policy.name");
  }
  for (const char* name : {"actor", "actor.target"}) {
    const auto tensor = state.find(name);
    if (tensor != state.end() && tensor->second.values.size() == flat.size()) tensor->second.values = flat;
  }
  FUSELINE_RETURN_IF_ERROR(algorithm->Restore(state));
  for (const auto& [name, tensor] : algorithm->PolicyTensors()) {
    const auto given = policy.find(name);
    if (given == policy.end() || given->second.values != tensor.values) {
      return ErrorStatus(Code::kInvalidInput, "a learner of", config.learner().algorithm(),
                         "cannot begin from this version: another algorithm or network made it, or the algorithm holds its policy otherwise");
    }
  }
  return OkStatus();
}

Status Learner::Impl::Adopt(const PolicyVersion& version) {
  const v1::PolicyManifest& manifest = version.manifest;
  if (manifest.schema_digest() != SchemaDigest(schema) || manifest.algorithm() != config.learner().algorithm()) {
    return ErrorStatus(Code::kInvalidInput, "version", manifest.version(), "was made by", manifest.algorithm(),
                       "for its schema; the settings ask for another schema or for", config.learner().algorithm());
  }
  v1::Config made_under;
  if (!made_under.ParseFromString(manifest.lineage().settings()))
    return ErrorStatus(Code::kCorrupt, "the settings in the lineage of version", manifest.version(), "cannot be read");
  if (made_under.learner().actor_state() != config.learner().actor_state()) {
    return ErrorStatus(Code::kInvalidInput, "version", manifest.version(), "was made with learner.actor_state", made_under.learner().actor_state(),
                       "but the settings ask for", config.learner().actor_state());
  }
  FUSELINE_ASSIGN_OR_RETURN(const TensorMap policy, DecodeWeights(version.weights));
  const auto mean = policy.find("normaliser.mean"), scale = policy.find("normaliser.scale");
  if (mean == policy.end() || scale == policy.end() || mean->second.values.size() != normaliser.mean.size())
    return ErrorStatus(Code::kInvalidInput, "version", manifest.version(), "has no normaliser of this schema");
  FUSELINE_RETURN_IF_ERROR(AdoptActor(policy));
  normaliser.mean = mean->second.values;
  normaliser.scale = scale->second.values;

  started_from = manifest.version();
  counts.set_versions(manifest.version());
  actors[manifest.version()].parameters = algorithm->actor_parameters();
  SetIncumbent(manifest.version());
  for (const v1::TrajectoryName& name : manifest.lineage().names_taken()) {
    v1::PartitionPosition position;
    *position.mutable_last() = name;
    merge.Restore(position);
  }
  // The same log goes on; BeginInput says so if another one is read.
  if (manifest.lineage().inputs_size() > 0) {
    inputs.emplace_back().set_input(manifest.lineage().inputs().rbegin()->input());
  }
  log.Info("learner.begun_from_version", "version", manifest.version(), "partitions", manifest.lineage().names_taken_size(), "root", root);
  return OkStatus();
}

}  // namespace fuseline
