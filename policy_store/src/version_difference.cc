#include "fuseline/policy_store/version_difference.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "fuseline/core/random.h"
#include "fuseline/fusion/policy_network.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/proto/schema.h"

namespace fuseline {
namespace {

constexpr std::size_t kCandidates = 20;

TensorDifference DifferenceOf(const Tensor& first, const Tensor& second) {
  TensorDifference difference;
  for (std::size_t i = 0; i < first.values.size(); ++i) {
    const double before = first.values[i], change = static_cast<double>(second.values[i]) - before;
    difference.norm += before * before;
    difference.distance += change * change;
    difference.largest = std::max(difference.largest, std::abs(change));
  }
  difference.norm = std::sqrt(difference.norm);
  difference.distance = std::sqrt(difference.distance);
  return difference;
}

// Random values of one scope: dense ones between 0 and 1, as most features are scaled.
struct Values {
  std::vector<float> dense;
  std::vector<std::uint64_t> ids;
  FeatureView view() const { return {dense, ids}; }
};

Values DrawValues(const v1::FeatureSchema& schema, v1::FeatureScope scope, Random& random) {
  Values values;
  for (const v1::Feature& field : schema.features()) {
    if (field.scope() != scope) continue;
    if (field.has_categorical()) values.ids.push_back(random.NextU64());
    else for (std::uint32_t i = 0; i < field.dense().width(); ++i) values.dense.push_back(static_cast<float>(random.NextUniform()));
  }
  return values;
}

Status AddProbe(const PolicyNetwork& first, const PolicyNetwork& second, Random& random, ActionDifference& difference) {
  const v1::FeatureSchema& schema = first.manifest().schema();
  const Values user = DrawValues(schema, v1::USER, random), context = DrawValues(schema, v1::CONTEXT, random);
  std::vector<Values> items;
  std::vector<std::vector<float>> scores;
  for (std::size_t i = 0; i < kCandidates; ++i) {
    items.push_back(DrawValues(schema, v1::ITEM, random));
    scores.emplace_back();
    for (const v1::Task& task : schema.tasks()) {
      scores.back().push_back(task.min() + (task.max() - task.min()) * static_cast<float>(random.NextUniform()));
    }
  }
  std::vector<CandidateView> candidates;
  for (std::size_t i = 0; i < kCandidates; ++i) candidates.push_back({items[i].view(), scores[i]});
  const std::size_t width = first.encoder().action_width();
  std::vector<float> before(kCandidates * width), after(kCandidates * width);
  ActorWorkspace workspace;
  FUSELINE_RETURN_IF_ERROR(first.Act(user.view(), context.view(), candidates, workspace, before));
  ActorWorkspace other;
  FUSELINE_RETURN_IF_ERROR(second.Act(user.view(), context.view(), candidates, other, after));
  for (std::size_t i = 0; i < before.size(); ++i) {
    const double change = std::abs(static_cast<double>(after[i]) - before[i]);
    difference.mean_absolute += change;
    difference.largest = std::max(difference.largest, change);
  }
  difference.candidates += kCandidates;
  return OkStatus();
}

}  // namespace

Result<VersionDifference> CompareVersions(const PolicyVersion& first, const PolicyVersion& second, int probes) {
  FUSELINE_ASSIGN_OR_FAIL(const TensorMap before, DecodeWeights(first.weights));
  FUSELINE_ASSIGN_OR_FAIL(const TensorMap after, DecodeWeights(second.weights));
  VersionDifference difference;
  for (const auto& [name, tensor] : before) {
    const auto found = after.find(name);
    if (found != after.end() && found->second.shape == tensor.shape) difference.tensors[name] = DifferenceOf(tensor, found->second);
    else difference.only_in_first.push_back(name);
  }
  for (const auto& [name, tensor] : after) {
    if (!difference.tensors.contains(name)) difference.only_in_second.push_back(name);
  }
  if (CanonicalBytes(first.manifest.schema()) != CanonicalBytes(second.manifest.schema())) return difference;

  FUSELINE_ASSIGN_OR_FAIL(const PolicyNetwork network, PolicyNetwork::Create(first.manifest, before));
  FUSELINE_ASSIGN_OR_FAIL(const PolicyNetwork other, PolicyNetwork::Create(second.manifest, after));
  Random random(first.manifest.version(), "version_difference", second.manifest.version());
  ActionDifference actions;
  for (int i = 0; i < probes; ++i) FUSELINE_FAIL_IF_ERROR(AddProbe(network, other, random, actions));
  const double values = static_cast<double>(actions.candidates * network.encoder().action_width());
  if (values > 0) actions.mean_absolute /= values;
  difference.actions = actions;
  return difference;
}

}  // namespace fuseline
