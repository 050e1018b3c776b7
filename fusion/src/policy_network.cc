#include "fuseline/fusion/policy_network.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "fuseline/core/check.h"
#include "fuseline/proto/schema.h"

#include "bf16_net.h"
#include "dense_layer.h"
#include "generated_policy.h"
#include "packed_net.h"

namespace fuseline {
namespace {

// Candidates that pass through all layers together: their values stay in the first-level cache.
constexpr std::size_t kBlockRows = 96;

Status CheckActor(const v1::PolicyManifest& manifest, const FeatureEncoder& encoder, std::size_t outputs) {
  const auto& widths = manifest.actor().widths();
  FUSELINE_RETURN_IF_ERROR(CheckWidths("actor", {widths.begin(), widths.end()}));
  if (widths[0] != encoder.state_width()) {
    return ErrorStatus(Code::kInvalidInput, "actor's inputs disagree with the schema:", widths[0], "instead of", encoder.state_width());
  }
  if (widths[widths.size() - 1] != outputs) {
    return ErrorStatus(Code::kInvalidInput, "actor's outputs disagree with the schema:", widths[widths.size() - 1],
                       "instead of", outputs);
  }
  return OkStatus();
}

}  // namespace

struct ActorWorkspace::Impl {
  std::vector<float> shared;       // The encoded shared columns of a request.
  std::vector<float> shared_part;  // What they add to the first layer.
  std::vector<float> first, second;  // [rows together, widest layer]: in and out of a layer, by turns.
  std::vector<float> generated;      // [codes, D]
  Bf16Net::Buffers narrow;

  void Grow(std::size_t shared_width, std::size_t first_columns, std::size_t values) {
    if (shared.size() < shared_width) shared.resize(shared_width);
    if (shared_part.size() < first_columns) shared_part.resize(first_columns);
    if (first.size() < values) {
      first.resize(values);
      second.resize(values);
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
  std::optional<GeneratedPolicy> generated;  // Else the layers are the policy.
  PackedLayer shared_layer;         // The shared columns of the first layer, with its bias.
  std::vector<PackedLayer> layers;  // The first holds the item columns only; its bias is the shared part.
  std::optional<Bf16Net> narrow;    // The same layers in bfloat16, if they are to be used.
  std::size_t widest = 0;
  // An item's row, as layers read it: its columns, then zeros up to a multiple of lanes, which the normaliser leaves.
  std::size_t item_stride = 0;
  std::vector<float> item_mean, item_scale;  // [item_stride]

  Status TakeActor(const TensorMap& tensors);
  void Forward(std::size_t rows, const float* shared_part, ActorWorkspace::Impl& buffers) const;
  void PutFixed(std::span<float> action) const;
};

PolicyNetwork::PolicyNetwork(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
PolicyNetwork::PolicyNetwork(PolicyNetwork&&) noexcept = default;
PolicyNetwork& PolicyNetwork::operator=(PolicyNetwork&&) noexcept = default;
PolicyNetwork::~PolicyNetwork() = default;

const FeatureEncoder& PolicyNetwork::encoder() const { return impl_->encoder; }
const ActionSpace& PolicyNetwork::action_space() const { return impl_->space; }
const v1::PolicyManifest& PolicyNetwork::manifest() const { return impl_->manifest; }

bool HasBfloat16() { return BestBf16Kernel() != nullptr; }

Result<PolicyNetwork> PolicyNetwork::Create(const v1::PolicyManifest& manifest, const TensorMap& tensors, Precision precision) {
  FUSELINE_FAIL_IF_ERROR(ValidateSchema(manifest.schema()));
  FUSELINE_ASSIGN_OR_FAIL(ActionSpace space, ActionSpace::Create(manifest.ranges()));
  auto impl = std::make_unique<Impl>(manifest, FeatureEncoder(manifest.schema()), std::move(space));
  const FeatureEncoder& encoder = impl->encoder;
  if (impl->space.width() != encoder.action_width())
    return Error(Code::kInvalidInput, "action ranges disagree with the schema:", impl->space.width(), "instead of", encoder.action_width());

  const auto state_width = static_cast<std::uint32_t>(encoder.state_width());
  FUSELINE_ASSIGN_OR_FAIL(const Tensor* const mean, FindTensor(tensors, "normaliser.mean", {state_width}));
  FUSELINE_ASSIGN_OR_FAIL(const Tensor* const scale, FindTensor(tensors, "normaliser.scale", {state_width}));
  impl->normaliser = {mean->values, scale->values};

  if (manifest.has_best_of_generated()) {
    if (manifest.has_actor()) return Error(Code::kInvalidInput, "manifest has two forms of a policy: actor and best_of_generated");
    FUSELINE_ASSIGN_OR_FAIL(impl->generated,
                            GeneratedPolicy::Create(manifest.best_of_generated(), encoder.shared_width(),
                                                    impl->space.learned_width(), tensors, impl->kernel));
  } else {
    FUSELINE_FAIL_IF_ERROR(impl->TakeActor(tensors));
    if (precision == Precision::kBfloat16) impl->narrow = Bf16Net::Create(impl->layers, impl->item_stride);
  }
  const std::size_t expected = 2 + (impl->generated ? impl->generated->tensor_count() : 2 * impl->layers.size());
  if (tensors.size() != expected) {
    return Error(Code::kInvalidInput, "weights have tensors that the manifest does not:", tensors.size(), "instead of", expected);
  }
  return PolicyNetwork(std::move(impl));
}

Status PolicyNetwork::Impl::TakeActor(const TensorMap& tensors) {
  FUSELINE_RETURN_IF_ERROR(CheckActor(manifest, encoder, space.learned_width()));
  const auto& widths = manifest.actor().widths();
  const std::size_t shared_width = encoder.shared_width();
  item_stride = RoundUp(encoder.item_width(), kernel.lanes);
  item_mean.assign(normaliser.mean.begin() + static_cast<std::ptrdiff_t>(shared_width), normaliser.mean.end());
  item_scale.assign(normaliser.scale.begin() + static_cast<std::ptrdiff_t>(shared_width), normaliser.scale.end());
  item_mean.resize(item_stride, 0.0F);
  item_scale.resize(item_stride, 0.0F);
  widest = item_stride;
  for (int i = 0; i + 1 < widths.size(); ++i) {
    const std::string name = "actor." + std::to_string(i);
    FUSELINE_ASSIGN_OR_RETURN(const Tensor* const weight, FindTensor(tensors, name + ".weight", {widths[i + 1], widths[i]}));
    FUSELINE_ASSIGN_OR_RETURN(const Tensor* const bias, FindTensor(tensors, name + ".bias", {widths[i + 1]}));
    const Activation activation = i + 2 < widths.size() ? Activation::kRelu : Activation::kTanh;
    const std::size_t first = i == 0 ? shared_width : 0;
    PackedLayer layer = Pack(*weight, first, widths[i] - first, activation, kernel.lanes);
    std::copy(bias->values.begin(), bias->values.end(), layer.bias.begin());
    if (i == 0) {
      shared_layer = Pack(*weight, 0, shared_width, Activation::kNone, kernel.lanes);
      shared_layer.bias = layer.bias;
    }
    widest = std::max(widest, layer.dense.columns);
    layers.push_back(std::move(layer));
  }
  return OkStatus();
}

// buffers.first [rows, item_stride] → [rows, columns of the last layer].
void PolicyNetwork::Impl::Forward(std::size_t rows, const float* shared_part, ActorWorkspace::Impl& buffers) const {
  if (narrow) {
    narrow->Forward(rows, buffers.first.data(), shared_part, buffers.narrow, buffers.second.data());
    std::swap(buffers.first, buffers.second);
    return;
  }
  std::size_t stride = item_stride;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const float* const bias = i == 0 ? shared_part : layers[i].bias.data();
    kernel.run(layers[i].View(), buffers.first.data(), stride, bias, rows, buffers.second.data());
    stride = layers[i].dense.columns;
    std::swap(buffers.first, buffers.second);
  }
}

// What a policy does not say of an action [D].
void PolicyNetwork::Impl::PutFixed(std::span<float> action) const {
  std::ranges::copy(space.static_action().subspan(space.learned_width()),
                    action.subspan(space.learned_width()).begin());
}

Status PolicyNetwork::Act(const FeatureView& user, const FeatureView& context, std::span<const CandidateView> candidates,
                          ActorWorkspace& workspace, std::span<float> actions) const {
  const Impl& net = *impl_;
  const std::size_t width = net.space.width(), learned = net.space.learned_width();
  const std::size_t item_width = net.encoder.item_width();
  const std::size_t shared_width = net.encoder.shared_width();
  FUSELINE_CHECK(actions.size() == candidates.size() * width);
  ActorWorkspace::Impl& space = *workspace.impl_;
  const std::size_t values = net.generated ? net.generated->codes() * net.generated->widest() : kBlockRows * net.widest;
  space.Grow(shared_width, net.shared_layer.dense.columns, values);

  const std::span<float> shared(space.shared.data(), shared_width);
  FUSELINE_RETURN_IF_ERROR(net.encoder.EncodeShared(user, context, shared));
  net.normaliser.Apply(shared);
  if (net.generated) {
    if (actions.empty()) return OkStatus();
    space.generated.resize(net.generated->codes() * learned);
    net.generated->Act(shared, space.first, space.second, space.generated, actions.first(learned));
    net.PutFixed(actions.first(width));
    for (std::size_t i = width; i < actions.size(); ++i) actions[i] = actions[i - width];  // One action, whatever the candidate.
    return OkStatus();
  }
  net.kernel.run(net.shared_layer.View(), shared.data(), shared_width, net.shared_layer.bias.data(), 1, space.shared_part.data());

  for (std::size_t start = 0; start < candidates.size(); start += kBlockRows) {
    const std::size_t rows = std::min(kBlockRows, candidates.size() - start);
    for (std::size_t row = 0; row < rows; ++row) {
      float* const item = space.first.data() + row * net.item_stride;
      FUSELINE_RETURN_IF_ERROR(net.encoder.EncodeItem(candidates[start + row], {item, item_width}));
      for (std::size_t column = item_width; column < net.item_stride; ++column) item[column] = 0.0F;
    }
    net.kernel.normalise(net.item_mean.data(), net.item_scale.data(), kNormalisedMax, rows, net.item_stride, space.first.data());
    net.Forward(rows, space.shared_part.data(), space);
    const std::size_t columns = net.layers.back().dense.columns;
    for (std::size_t row = 0; row < rows; ++row) {
      const std::span<float> action = actions.subspan((start + row) * width, width);
      std::copy_n(space.first.data() + row * columns, learned, action.begin());
      if (learned < width) net.PutFixed(action);
    }
  }
  return OkStatus();
}

}  // namespace fuseline
