// OpenBLAS: sgemm that adds to the bias already in place.
#include <algorithm>
#include <memory>

#include <cblas.h>

#include "dense_ways.h"

namespace fuseline::bench {

Forward OpenBlasForward(const DenseNet& net, std::size_t rows) {
  auto values = std::make_shared<std::vector<std::vector<float>>>();
  for (const DenseNet::Layer& layer : net.layers) values->emplace_back(rows * layer.outputs);
  return [net, values, rows](const float* in, float* out) {
    const float* x = in;
    for (std::size_t i = 0; i < net.layers.size(); ++i) {
      const DenseNet::Layer& layer = net.layers[i];
      const bool is_last = i + 1 == net.layers.size();
      float* const y = is_last ? out : (*values)[i].data();
      const auto m = static_cast<int>(rows), n = static_cast<int>(layer.outputs), k = static_cast<int>(layer.inputs);
      for (std::size_t row = 0; row < rows; ++row)
        std::copy(layer.bias.begin(), layer.bias.end(), y + row * layer.outputs);
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1.0F, x, k, layer.weight.data(), k, 1.0F, y, n);
      for (std::size_t v = 0; !is_last && v < rows * layer.outputs; ++v) y[v] = y[v] > 0.0F ? y[v] : 0.0F;
      x = y;
    }
  };
}

}  // namespace fuseline::bench
