// libxsmm: a product generated for each shape, that adds to the bias already in place.
#include <algorithm>
#include <memory>

#include <libxsmm.h>

#include "dense_ways.h"
#include "fuseline/core/check.h"

namespace fuseline::bench {
namespace {

constexpr std::size_t kBlockRows = 96;  // As ours: values stay in the first-level cache.

}  // namespace

Forward XsmmForward(const DenseNet& net, std::size_t rows) {
  struct Layer {
    std::size_t inputs, outputs;
    std::vector<float> weight, bias;  // [inputs, outputs]
    libxsmm_smmfunction whole, last;  // Of a block, and of what is left.
  };
  struct State {
    std::vector<Layer> layers;
    std::vector<float> values[2];
  };
  auto state = std::make_shared<State>();
  const std::size_t left = rows % kBlockRows;
  for (const DenseNet::Layer& from : net.layers) {
    Layer layer{from.inputs, from.outputs, std::vector<float>(from.weight.size()), from.bias, nullptr, nullptr};
    for (std::size_t o = 0; o < from.outputs; ++o) {
      for (std::size_t i = 0; i < from.inputs; ++i)
        layer.weight[i * from.outputs + o] = from.weight[o * from.inputs + i];
    }
    const float one =
        1;  // Column-major as it is, it sees the transposed: [outputs, rows] += [outputs, inputs] [inputs, rows].
    const auto m = static_cast<libxsmm_blasint>(from.outputs), k = static_cast<libxsmm_blasint>(from.inputs);
    const auto dispatch = [&](std::size_t n) {
      return n == 0
                 ? nullptr
                 : libxsmm_smmdispatch(m, static_cast<libxsmm_blasint>(n), k, &m, &k, &m, &one, &one, nullptr, nullptr);
    };
    layer.whole = dispatch(std::min(rows, kBlockRows));
    layer.last = dispatch(left);
    FUSELINE_CHECK(layer.whole != nullptr && (left == 0 || layer.last != nullptr));
    for (auto& values : state->values)
      values.resize(std::max(values.size(), kBlockRows * std::max(from.inputs, from.outputs)));
    state->layers.push_back(std::move(layer));
  }
  return [state, rows](const float* in, float* out) {
    for (std::size_t start = 0; start < rows; start += kBlockRows) {
      const std::size_t block = std::min(kBlockRows, rows - start);
      const float* x = in + start * state->layers.front().inputs;
      for (std::size_t i = 0; i < state->layers.size(); ++i) {
        const Layer& layer = state->layers[i];
        const bool is_last = i + 1 == state->layers.size();
        float* const y = is_last ? out + start * layer.outputs : state->values[i % 2].data();
        for (std::size_t row = 0; row < block; ++row)
          std::copy(layer.bias.begin(), layer.bias.end(), y + row * layer.outputs);
        (block == std::min(rows, kBlockRows) ? layer.whole : layer.last)(layer.weight.data(), x, y);
        for (std::size_t v = 0; !is_last && v < block * layer.outputs; ++v) y[v] = y[v] > 0.0F ? y[v] : 0.0F;
        x = y;
      }
    }
  };
}

}  // namespace fuseline::bench
