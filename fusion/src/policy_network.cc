#include "fuseline/fusion/policy_network.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "fuseline/core/check.h"
#include "fuseline/proto/schema.h"

#include "dense_layer.h"

namespace fuseline {
namespace {

// Candidates that pass through all layers together: their values stay in the first-level cache.
constexpr std::size_t kBlockRows = 96;
constexpr std::uint32_t kWidthMax = 8192;
constexpr int kLayersMax = 16;

std::size_t RoundUp(std::size_t value, std::size_t multiple) { return (value + multiple - 1) / multiple * multiple; }

struct Layer {
  std::vector<float> weights;  // Packed for the kernel.
  std::vector<float> bias;     // [columns]
  DenseLayer dense;

  DenseLayer View() const { return {weights.data(), dense.inputs, dense.columns, dense.activation}; }
};

// Input columns [first, first + inputs) of `weight` [outputs, stride], in the panels of dense_layer.h.
Layer Pack(const Tensor& weight, std::size_t first, std::size_t inputs, Activation activation, std::size_t lanes) {
  const std::size_t outputs = weight.shape[0];
  const std::size_t stride = weight.shape[1];
  Layer layer;
  layer.dense = {nullptr, inputs, RoundUp(outputs, lanes), activation};
  layer.bias.assign(layer.dense.columns, 0.0F);
  for (std::size_t start = 0; start < layer.dense.columns; start += 2 * lanes) {
    const std::size_t end = std::min(start + 2 * lanes, layer.dense.columns);
    for (std::size_t input = 0; input < inputs; ++input) {
      for (std::size_t column = start; column < end; ++column) {
        layer.weights.push_back(column < outputs ? weight.values[column * stride + first + input] : 0.0F);
      }
    }
  }
  return layer;
}

Result<const Tensor*> Find(const TensorMap& tensors, const std::string& name, const std::vector<std::uint32_t>& shape) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) return Error(Code::kInvalidInput, "weights lack the tensor", name);
  if (found->second.shape != shape) return Error(Code::kInvalidInput, "weights have a tensor of another shape than the manifest's:", name);
  for (const float value : found->second.values) {
    if (!std::isfinite(value)) return Error(Code::kCorrupt, "weights hold a value that is not finite:", name);
  }
  return &found->second;
}

Status CheckManifest(const v1::PolicyManifest& manifest, const FeatureEncoder& encoder, const ActionSpace& space) {
  const auto& widths = manifest.actor().widths();
  if (widths.size() < 2 || widths.size() > kLayersMax + 1) {
    return ErrorStatus(Code::kInvalidInput, "actor has an impossible number of widths:", widths.size());
  }
  if (std::any_of(widths.begin(), widths.end(), [](std::uint32_t width) { return width == 0 || width > kWidthMax; })) {
    return ErrorStatus(Code::kInvalidInput, "actor has a width outside 1 ..", kWidthMax);
  }
  if (widths[0] != encoder.state_width()) {
    return ErrorStatus(Code::kInvalidInput, "actor's inputs disagree with the schema:", widths[0], "instead of", encoder.state_width());
  }
  if (widths[widths.size() - 1] != encoder.action_width() || space.width() != encoder.action_width()) {
    return ErrorStatus(Code::kInvalidInput, "actor's outputs or ranges disagree with the schema: outputs",
                       widths[widths.size() - 1], "ranges", space.width(), "instead of", encoder.action_width());
  }
  return OkStatus();
}

}  // namespace

struct ActorWorkspace::Impl {
  std::vector<float> shared;       // The encoded shared columns of a request.
  std::vector<float> shared_part;  // What they add to the first layer.
  std::vector<float> first, second;  // [kBlockRows, widest layer]: in and out of a layer, by turns.

  void Grow(std::size_t shared_width, std::size_t first_columns, std::size_t widest) {
    if (shared.size() < shared_width) shared.resize(shared_width);
    if (shared_part.size() < first_columns) shared_part.resize(first_columns);
    if (first.size() < kBlockRows * widest) {
      first.resize(kBlockRows * widest);
      second.resize(kBlockRows * widest);
    }
  }
};

ActorWorkspace::ActorWorkspace() : impl_(std::make_unique<Impl>()) {}
ActorWorkspace::ActorWorkspace(ActorWorkspace&&) noexcept = default;
ActorWorkspace& ActorWorkspace::operator=(ActorWorkspace&&) noexcept = default;
ActorWorkspace::~ActorWorkspace() = default;

struct PolicyNetwork::Impl {
  Impl(const v1::PolicyManifest& its_manifest, FeatureEncoder its_encoder, ActionSpace its_space)
      : manifest(its_manifest), encoder(std::move(its_encoder)), space(std::move(its_space)) {}

  v1::PolicyManifest manifest;
  FeatureEncoder encoder;
  ActionSpace space;
  const DenseKernel& kernel = BestDenseKernel();
  Normaliser normaliser;
  Layer shared_layer;         // The shared columns of the first layer, with its bias.
  std::vector<Layer> layers;  // The first holds the item columns only; its bias is the shared part.
  std::size_t widest = 0;

  void Forward(std::size_t rows, const float* shared_part, std::vector<float>& in, std::vector<float>& out) const;
};

PolicyNetwork::PolicyNetwork(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
PolicyNetwork::PolicyNetwork(PolicyNetwork&&) noexcept = default;
PolicyNetwork& PolicyNetwork::operator=(PolicyNetwork&&) noexcept = default;
PolicyNetwork::~PolicyNetwork() = default;

const FeatureEncoder& PolicyNetwork::encoder() const { return impl_->encoder; }
const ActionSpace& PolicyNetwork::action_space() const { return impl_->space; }
const v1::PolicyManifest& PolicyNetwork::manifest() const { return impl_->manifest; }

Result<PolicyNetwork> PolicyNetwork::Create(const v1::PolicyManifest& manifest, const TensorMap& tensors) {
  FUSELINE_FAIL_IF_ERROR(ValidateSchema(manifest.schema()));
  FUSELINE_ASSIGN_OR_FAIL(ActionSpace space, ActionSpace::Create(manifest.ranges()));
  auto impl = std::make_unique<Impl>(manifest, FeatureEncoder(manifest.schema()), std::move(space));
  FUSELINE_FAIL_IF_ERROR(CheckManifest(manifest, impl->encoder, impl->space));

  const auto& widths = manifest.actor().widths();
  const auto state_width = static_cast<std::uint32_t>(impl->encoder.state_width());
  FUSELINE_ASSIGN_OR_FAIL(const Tensor* const mean, Find(tensors, "normaliser.mean", {state_width}));
  FUSELINE_ASSIGN_OR_FAIL(const Tensor* const scale, Find(tensors, "normaliser.scale", {state_width}));
  impl->normaliser = {mean->values, scale->values};

  const std::size_t lanes = impl->kernel.lanes;
  const std::size_t shared_width = impl->encoder.shared_width();
  impl->widest = impl->encoder.item_width();
  for (int i = 0; i + 1 < widths.size(); ++i) {
    const std::string name = "actor." + std::to_string(i);
    FUSELINE_ASSIGN_OR_FAIL(const Tensor* const weight, Find(tensors, name + ".weight", {widths[i + 1], widths[i]}));
    FUSELINE_ASSIGN_OR_FAIL(const Tensor* const bias, Find(tensors, name + ".bias", {widths[i + 1]}));
    const Activation activation = i + 2 < widths.size() ? Activation::kRelu : Activation::kTanh;
    const std::size_t first = i == 0 ? shared_width : 0;
    Layer layer = Pack(*weight, first, widths[i] - first, activation, lanes);
    std::copy(bias->values.begin(), bias->values.end(), layer.bias.begin());
    if (i == 0) {
      impl->shared_layer = Pack(*weight, 0, shared_width, Activation::kNone, lanes);
      impl->shared_layer.bias = layer.bias;
    }
    impl->widest = std::max(impl->widest, layer.dense.columns);
    impl->layers.push_back(std::move(layer));
  }
  if (tensors.size() != 2 + 2 * impl->layers.size()) {
    return Error(Code::kInvalidInput, "weights have tensors that the manifest does not:", tensors.size(), "instead of",
                 2 + 2 * impl->layers.size());
  }
  return PolicyNetwork(std::move(impl));
}

void PolicyNetwork::Impl::Forward(std::size_t rows, const float* shared_part, std::vector<float>& in, std::vector<float>& out) const {
  std::size_t stride = encoder.item_width();
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const float* const bias = i == 0 ? shared_part : layers[i].bias.data();
    kernel.run(layers[i].View(), in.data(), stride, bias, rows, out.data());
    stride = layers[i].dense.columns;
    std::swap(in, out);
  }
}

Status PolicyNetwork::Act(const FeatureView& user, const FeatureView& context, std::span<const CandidateView> candidates,
                          ActorWorkspace& workspace, std::span<float> actions) const {
  const Impl& net = *impl_;
  const std::size_t width = net.space.width();
  const std::size_t item_width = net.encoder.item_width();
  const std::size_t shared_width = net.encoder.shared_width();
  FUSELINE_CHECK(actions.size() == candidates.size() * width);
  ActorWorkspace::Impl& space = *workspace.impl_;
  space.Grow(shared_width, net.shared_layer.dense.columns, net.widest);

  const std::span<float> shared(space.shared.data(), shared_width);
  FUSELINE_RETURN_IF_ERROR(net.encoder.EncodeShared(user, context, shared));
  net.normaliser.Apply(shared);
  net.kernel.run(net.shared_layer.View(), shared.data(), shared_width, net.shared_layer.bias.data(), 1, space.shared_part.data());

  for (std::size_t start = 0; start < candidates.size(); start += kBlockRows) {
    const std::size_t rows = std::min(kBlockRows, candidates.size() - start);
    for (std::size_t row = 0; row < rows; ++row) {
      const std::span<float> item(space.first.data() + row * item_width, item_width);
      FUSELINE_RETURN_IF_ERROR(net.encoder.EncodeItem(candidates[start + row], item));
      net.normaliser.Apply(item, shared_width);
    }
    net.Forward(rows, space.shared_part.data(), space.first, space.second);
    const std::size_t columns = net.layers.back().dense.columns;
    for (std::size_t row = 0; row < rows; ++row) {
      std::copy_n(space.first.data() + row * columns, width, actions.data() + (start + row) * width);
    }
  }
  return OkStatus();
}

}  // namespace fuseline
