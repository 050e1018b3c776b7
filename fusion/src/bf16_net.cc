#include "bf16_net.h"

#include <algorithm>
#include <utility>

namespace fuseline {

const Bf16Kernel* BestBf16Kernel() {
#if defined(__x86_64__)
  const bool has_it = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bf16");
  if (has_it) return &kAvx512Bf16Kernel;
#endif
  return nullptr;
}

Bf16Net::Layer Bf16Net::Narrow(const PackedLayer& from, const Bf16Kernel& kernel) {
  const std::size_t inputs = from.dense.inputs, columns = from.dense.columns;
  std::vector<std::uint16_t> rounded(from.weights.size());
  kernel.narrow(from.weights.data(), rounded.size(), rounded.data());
  Layer layer;
  layer.bias = from.bias;
  layer.dense = {nullptr, (inputs + 1) / 2, columns, from.dense.activation};
  layer.weights.assign(2 * layer.dense.pairs * columns, 0);
  std::uint16_t* to = layer.weights.data();
  for (std::size_t start = 0; start < columns; start += 2 * kernel.lanes) {
    const std::size_t width = std::min(2 * kernel.lanes, columns - start);  // Of a panel.
    const std::uint16_t* const panel = rounded.data() + start * inputs;
    for (std::size_t input = 0; input < inputs; ++input) {
      for (std::size_t column = 0; column < width; ++column)
        to[(input / 2 * width + column) * 2 + input % 2] = panel[input * width + column];
    }
    to += 2 * layer.dense.pairs * width;
  }
  return layer;
}

std::optional<Bf16Net> Bf16Net::Create(const std::vector<PackedLayer>& layers, std::size_t stride) {
  const Bf16Kernel* const kernel = BestBf16Kernel();
  if (kernel == nullptr || BestDenseKernel().lanes != kernel->lanes) return std::nullopt;
  Bf16Net net(*kernel);
  net.stride_ = net.widest_ = stride;
  for (const PackedLayer& layer : layers) {
    net.layers_.push_back(Narrow(layer, *kernel));
    net.widest_ = std::max(net.widest_, layer.dense.columns);
  }
  return net;
}

void Bf16Net::Forward(std::size_t rows, const float* in, const float* first_bias, Buffers& buffers, float* out) const {
  if (buffers.in.size() < rows * widest_) {
    buffers.in.resize(rows * widest_);
    buffers.out.resize(rows * widest_);
  }
  std::size_t stride = stride_;
  kernel_->narrow(in, rows * stride, buffers.in.data());
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    const float* const bias = i == 0 ? first_bias : layer.bias.data();
    if (i + 1 == layers_.size()) return kernel_->run_last(layer.View(), buffers.in.data(), stride, bias, rows, out);
    kernel_->run(layer.View(), buffers.in.data(), stride, bias, rows, buffers.out.data());
    stride = layer.dense.columns;
    std::swap(buffers.in, buffers.out);
  }
}

}  // namespace fuseline
