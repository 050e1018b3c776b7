#include "packed_net.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace fuseline {
namespace {

constexpr std::uint32_t kWidthMax = 8192;
constexpr std::size_t kLayersMax = 16;

}  // namespace

std::size_t RoundUp(std::size_t value, std::size_t multiple) { return (value + multiple - 1) / multiple * multiple; }

PackedLayer Pack(const Tensor& weight, std::size_t first, std::size_t inputs, Activation activation, std::size_t lanes) {
  const std::size_t outputs = weight.shape[0];
  const std::size_t stride = weight.shape[1];
  PackedLayer layer;
  layer.dense = {nullptr, inputs, RoundUp(outputs, lanes), activation};
  layer.bias.assign(layer.dense.columns, 0.0F);
  layer.weights.assign(inputs * layer.dense.columns, 0.0F);
  for (std::size_t column = 0; column < outputs; ++column) {
    const std::size_t start = column / (2 * lanes) * (2 * lanes);                // Of its panel,
    const std::size_t width = std::min(2 * lanes, layer.dense.columns - start);  // which has so many columns.
    const float* const from = weight.values.data() + column * stride + first;
    float* const to = layer.weights.data() + start * inputs + (column - start);
    for (std::size_t input = 0; input < inputs; ++input) to[input * width] = from[input];
  }
  return layer;
}

Result<const Tensor*> FindTensor(const TensorMap& tensors, const std::string& name, const std::vector<std::uint32_t>& shape) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) return Error(Code::kInvalidInput, "weights lack the tensor", name);
  if (found->second.shape != shape) return Error(Code::kInvalidInput, "weights have a tensor of another shape than the manifest's:", name);
  for (const float value : found->second.values) {
    if (!std::isfinite(value)) return Error(Code::kCorrupt, "weights hold a value that is not finite:", name);
  }
  return &found->second;
}

Status CheckWidths(const std::string& what, const std::vector<std::uint32_t>& widths) {
  if (widths.size() < 2 || widths.size() > kLayersMax + 1) {
    return ErrorStatus(Code::kInvalidInput, what, "has an impossible number of widths:", widths.size());
  }
  if (std::any_of(widths.begin(), widths.end(), [](std::uint32_t width) { return width == 0 || width > kWidthMax; })) {
    return ErrorStatus(Code::kInvalidInput, what, "has a width outside 1 ..", kWidthMax);
  }
  return OkStatus();
}

Result<PackedNet> PackedNet::Create(const std::string& name, const std::vector<std::uint32_t>& widths, Activation last,
                                    const TensorMap& tensors, std::size_t lanes) {
  FUSELINE_FAIL_IF_ERROR(CheckWidths(name, widths));
  PackedNet net;
  for (std::size_t i = 0; i + 1 < widths.size(); ++i) {
    const std::string layer_name = name + "." + std::to_string(i);
    FUSELINE_ASSIGN_OR_FAIL(const Tensor* const weight, FindTensor(tensors, layer_name + ".weight", {widths[i + 1], widths[i]}));
    FUSELINE_ASSIGN_OR_FAIL(const Tensor* const bias, FindTensor(tensors, layer_name + ".bias", {widths[i + 1]}));
    PackedLayer layer = Pack(*weight, 0, widths[i], i + 2 < widths.size() ? Activation::kRelu : last, lanes);
    std::copy(bias->values.begin(), bias->values.end(), layer.bias.begin());
    net.widest = std::max({net.widest, layer.dense.columns, layer.dense.inputs});
    net.layers.push_back(std::move(layer));
  }
  return net;
}

void PackedNet::Forward(const DenseKernel& kernel, std::size_t rows, std::vector<float>& in, std::vector<float>& out) const {
  std::size_t stride = layers.front().dense.inputs;
  for (const PackedLayer& layer : layers) {
    kernel.run(layer.View(), in.data(), stride, layer.bias.data(), rows, out.data());
    stride = layer.dense.columns;
    std::swap(in, out);
  }
}

}  // namespace fuseline
