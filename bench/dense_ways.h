#pragma once

#include <cstddef>
#include <functional>
#include <vector>

namespace fuseline::bench {

// The candidates' layers of an actor: products, biases, and ReLU between the layers. No tanh at the end: no library is
// measured by it.
struct DenseNet {
  struct Layer {
    std::size_t inputs, outputs;
    std::vector<float> weight;  // [outputs, inputs]
    std::vector<float> bias;    // [outputs]
  };
  std::vector<Layer> layers;
};

// A library's forward pass of a net for so many rows, on one thread: in [rows, inputs] → out [rows, outputs]. What it
// can prepare is prepared.
using Forward = std::function<void(const float* in, float* out)>;

Forward EigenForward(const DenseNet& net, std::size_t rows);
Forward OneDnnForward(const DenseNet& net, std::size_t rows);
Forward XsmmForward(const DenseNet& net, std::size_t rows);
Forward OpenBlasForward(const DenseNet& net, std::size_t rows);

}  // namespace fuseline::bench
