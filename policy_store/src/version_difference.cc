#include "fuseline/policy_store/version_difference.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <utility>

#include "fuseline/core/random.h"
#include "fuseline/fusion/policy_network.h"
#include "fuseline/fusion/scorer_network.h"
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

// A random request; owns what its views borrow.
struct Probe {
  Probe(const v1::FeatureSchema& schema, Random& random)
      : user(DrawValues(schema, v1::USER, random)), context(DrawValues(schema, v1::CONTEXT, random)) {
    for (std::size_t i = 0; i < kCandidates; ++i) {
      items.push_back(DrawValues(schema, v1::ITEM, random));
      scores.emplace_back();
      for (const v1::Task& task : schema.tasks()) {
        scores.back().push_back(task.min() + (task.max() - task.min()) * static_cast<float>(random.NextUniform()));
      }
    }
    for (std::size_t i = 0; i < kCandidates; ++i) candidates.push_back({items[i].view(), scores[i]});
  }

  Values user, context;
  std::vector<Values> items;
  std::vector<std::vector<float>> scores;
  std::vector<CandidateView> candidates;
};

Status AddProbe(const PolicyNetwork& first, const PolicyNetwork& second, Random& random, ActionDifference& difference) {
  const Probe probe(first.manifest().schema(), random);
  const std::size_t width = first.encoder().action_width();
  std::vector<float> before(kCandidates * width), after(kCandidates * width);
  ActorWorkspace workspace;
  FUSELINE_RETURN_IF_ERROR(first.Act(probe.user.view(), probe.context.view(), probe.candidates, workspace, before));
  ActorWorkspace other;
  FUSELINE_RETURN_IF_ERROR(second.Act(probe.user.view(), probe.context.view(), probe.candidates, other, after));
  for (std::size_t i = 0; i < before.size(); ++i) {
    const double change = std::abs(static_cast<double>(after[i]) - before[i]);
    difference.mean_absolute += change;
    difference.largest = std::max(difference.largest, change);
  }
  difference.candidates += kCandidates;
  return OkStatus();
}

// Users and items are told apart by random ids.
Status AddProbe(const ScorerNetwork& first, const ScorerNetwork& second, Random& random, ActionDifference& difference) {
  const v1::FeatureSchema& schema = first.manifest().schema();
  const Probe probe(schema, random);
  std::vector<std::string> names;
  for (std::size_t i = 0; i <= kCandidates; ++i) names.push_back(std::to_string(random.NextBelow(1'000)));
  const std::vector<std::string_view> items(names.begin() + 1, names.end());
  const auto tasks = static_cast<std::size_t>(schema.tasks_size());
  std::vector<float> before(kCandidates * tasks), after(kCandidates * tasks);
  ScorerWorkspace workspace, other;
  const FeatureView user = probe.user.view(), context = probe.context.view();
  FUSELINE_RETURN_IF_ERROR(first.Score(user, context, names[0], probe.candidates, items, workspace, before));
  FUSELINE_RETURN_IF_ERROR(second.Score(user, context, names[0], probe.candidates, items, other, after));
  for (std::size_t i = 0; i < before.size(); ++i) {
    const v1::Task& task = schema.tasks(static_cast<int>(i % tasks));
    const double change = std::abs(static_cast<double>(after[i]) - before[i]) / (static_cast<double>(task.max()) - task.min());
    difference.mean_absolute += change;
    difference.largest = std::max(difference.largest, change);
  }
  difference.candidates += kCandidates;
  return OkStatus();
}

// `width`: values of a candidate.
template <typename Network>
Result<ActionDifference> Probed(const PolicyVersion& first, const TensorMap& before, const PolicyVersion& second, const TensorMap& after,
                                int probes, std::size_t width) {
  FUSELINE_ASSIGN_OR_FAIL(const Network network, Network::Create(first.manifest, before));
  FUSELINE_ASSIGN_OR_FAIL(const Network other, Network::Create(second.manifest, after));
  Random random(first.manifest.version(), "version_difference", second.manifest.version());
  ActionDifference found;
  for (int i = 0; i < probes; ++i) FUSELINE_FAIL_IF_ERROR(AddProbe(network, other, random, found));
  const double values = static_cast<double>(found.candidates * width);
  if (values > 0) found.mean_absolute /= values;
  return found;
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

  const auto tasks = static_cast<std::size_t>(first.manifest.schema().tasks_size());
  if (first.manifest.has_scorer() && second.manifest.has_scorer()) {
    FUSELINE_ASSIGN_OR_FAIL(difference.scores, Probed<ScorerNetwork>(first, before, second, after, probes, tasks));
  } else {
    FUSELINE_ASSIGN_OR_FAIL(difference.actions, Probed<PolicyNetwork>(first, before, second, after, probes, 2 * tasks));
  }
  return difference;
}

}  // namespace fuseline
