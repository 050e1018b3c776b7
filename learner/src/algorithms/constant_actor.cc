#include "algorithms/constant_actor.h"

#include <algorithm>
#include <cmath>

#include "fuseline/core/digest.h"

namespace fuseline {
namespace {

constexpr float kEdge = 0.999999F;  // tanh reaches 1 only at infinity.

}  // namespace

ConstantActor::ConstantActor(const v1::Config& config, const Problem& problem)
    : config_(config), action_(problem.static_action), width_(problem.shared_width + problem.item_width) {
  Keep("action", action_);
}

Result<StepFigures> ConstantActor::Step(const TransitionBatch&, const TransitionBatch& actor, std::uint64_t) {
  StepFigures figures;
  if (actor.batch == 0) return figures;
  const auto is_finite = [](double value) { return std::isfinite(value); };
  const std::vector<double> returns = Returns(actor);
  if (!std::ranges::all_of(returns, is_finite)) return StepFigures{.undone = true};
  const TensorMap before = Save();
  Move(actor, returns, figures);
  if (std::ranges::all_of(state_, [&](const auto& entry) { return std::ranges::all_of(*entry.second, is_finite); })) return figures;
  FUSELINE_FAIL_IF_ERROR(Restore(before));
  return StepFigures{.undone = true};
}

Result<std::vector<float>> ConstantActor::ActAs(std::span<const float> actor, std::span<const float> states) const {
  std::vector<float> actions;
  for (std::size_t n = 0; n < states.size() / width_; ++n) actions.insert(actions.end(), actor.begin(), actor.end());
  return actions;
}

Result<CriticValues> ConstantActor::Values(std::span<const float> states, std::span<const float>) const {
  return CriticValues{.mean = std::vector<float>(states.size() / width_), .deviation = {0.0}};
}

void ConstantActor::DescribePolicy(v1::PolicyManifest& manifest) const {
  manifest.mutable_actor()->add_widths(static_cast<std::uint32_t>(width_));
  manifest.mutable_actor()->add_widths(static_cast<std::uint32_t>(action_.size()));
}

TensorMap ConstantActor::PolicyTensors() const {
  const auto outputs = static_cast<std::uint32_t>(action_.size()), inputs = static_cast<std::uint32_t>(width_);
  std::vector<float> bias;
  for (const float value : action_) bias.push_back(std::atanh(std::clamp(value, -kEdge, kEdge)));
  return {{"actor.0.weight", {{outputs, inputs}, std::vector<float>(action_.size() * width_)}}, {"actor.0.bias", {{outputs}, bias}}};
}

TensorMap ConstantActor::Save() const {
  TensorMap tensors;
  for (const auto& [name, values] : state_) tensors[name] = {{static_cast<std::uint32_t>(values->size())}, *values};
  return tensors;
}

Status ConstantActor::Restore(const TensorMap& tensors) {
  for (const auto& [name, values] : state_) {
    const auto found = tensors.find(name);
    if (found == tensors.end() || found->second.values.size() != values->size())
      return ErrorStatus(Code::kCorrupt, "tensor of the checkpoint is absent or of another size:", name);
    *values = found->second.values;
  }
  return OkStatus();
}

std::string ConstantActor::WeightsSha256() const { return ToHex(Sha256Of(EncodeWeights(Save()))); }

std::string ConstantActor::description() const {
  return config_.learner().algorithm() + " action " + std::to_string(action_.size()) + " state " + std::to_string(width_);
}

std::vector<double> ConstantActor::Returns(const TransitionBatch& batch) const {
  const double omega[] = {config_.learner().omega_engagement(), config_.learner().omega_watch()};
  std::vector<double> returns(batch.batch);
  for (std::size_t g = 0; g < kRewardGroups; ++g)
    for (std::size_t b = 0; b < batch.batch; ++b)
      for (std::size_t l = 0; l < batch.items; ++l)
        returns[b] += omega[g] * static_cast<double>(batch.mask[b * batch.items + l] * batch.reward[(g * batch.batch + b) * batch.items + l]);
  return returns;
}

}  // namespace fuseline
