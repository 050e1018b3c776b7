// Eigen: products, bias and ReLU as its expressions.
#include <memory>

#include <Eigen/Core>

#include "dense_ways.h"

namespace fuseline::bench {

Forward EigenForward(const DenseNet& net, std::size_t rows) {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  struct State {
    std::vector<Matrix> weights;  // [inputs, outputs]
    std::vector<Eigen::RowVectorXf> biases;
    std::vector<Matrix> values;
  };
  auto state = std::make_shared<State>();
  const auto count = static_cast<Eigen::Index>(rows);
  for (const DenseNet::Layer& layer : net.layers) {
    const auto inputs = static_cast<Eigen::Index>(layer.inputs), outputs = static_cast<Eigen::Index>(layer.outputs);
    state->weights.push_back(Eigen::Map<const Matrix>(layer.weight.data(), outputs, inputs).transpose());
    state->biases.push_back(Eigen::Map<const Eigen::RowVectorXf>(layer.bias.data(), outputs));
    state->values.emplace_back(count, outputs);
  }
  return [state, count](const float* in, float* out) {
    for (std::size_t i = 0; i < state->weights.size(); ++i) {
      Matrix& y = state->values[i];
      if (i == 0)
        y.noalias() = Eigen::Map<const Matrix>(in, count, state->weights[0].rows()) * state->weights[0];
      else
        y.noalias() = state->values[i - 1] * state->weights[i];
      if (i + 1 == state->weights.size())
        Eigen::Map<Matrix>(out, count, y.cols()) = y.rowwise() + state->biases[i];
      else
        y = (y.rowwise() + state->biases[i]).cwiseMax(0.0F);
    }
  };
}

}  // namespace fuseline::bench
