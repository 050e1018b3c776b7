#include "ranker_torch.h"

#include <memory>
#include <string>
#include <utility>

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/rand.h>
#include <c10/core/InferenceMode.h>

namespace fuseline::bench {
namespace {

at::Tensor TensorOf(const Tensor& from) {
  const std::vector<std::int64_t> shape(from.shape.begin(), from.shape.end());
  return at::from_blob(const_cast<float*>(from.values.data()), shape).clone();  // It is only read.
}

at::Tensor Borrowed(const std::vector<float>& values, std::size_t rows) {
  const auto count = static_cast<std::int64_t>(rows);
  return at::from_blob(const_cast<float*>(values.data()), {count, static_cast<std::int64_t>(values.size()) / count});
}

struct Layers {
  at::Tensor shared, item;  // The first layer's weights, by columns.
  std::vector<at::Tensor> weights, biases;
};

Layers LayersOf(const RankerCase& from, at::ScalarType type) {
  Layers layers;
  for (std::size_t i = 0; i + 1 < from.widths().size(); ++i) {
    const std::string name = "actor." + std::to_string(i);
    layers.weights.push_back(TensorOf(from.tensors().at(name + ".weight")).to(type));
    layers.biases.push_back(TensorOf(from.tensors().at(name + ".bias")).to(type));
  }
  const auto shared = static_cast<std::int64_t>(from.shared_width());
  layers.shared = layers.weights[0].slice(1, 0, shared).contiguous();
  layers.item = layers.weights[0].slice(1, shared).contiguous();
  return layers;
}

at::Tensor Rest(const Layers& layers, at::Tensor x) {
  for (std::size_t i = 1; i < layers.weights.size(); ++i)
    x = at::linear(x.relu_(), layers.weights[i], layers.biases[i]);
  return x.tanh_();
}

ActorWay WayOf(const std::string& name, const RankerCase& from, at::ScalarType type,
               std::function<at::Tensor(const Layers&)> forward) {
  const c10::InferenceMode inference;
  auto layers = std::make_shared<const Layers>(LayersOf(from, type));
  auto out = std::make_shared<at::Tensor>();
  return {name,
          [layers, out, forward = std::move(forward)] {
            const c10::InferenceMode guard;
            *out = forward(*layers);
          },
          [out] {
            const at::Tensor values = out->to(at::kFloat).contiguous();
            const float* const begin = values.const_data_ptr<float>();
            return std::vector<float>(begin, begin + values.numel());
          }};
}

}  // namespace

std::vector<ActorWay> TorchWays(const RankerCase& from, const ActorInput& input) {
  at::set_num_threads(1);
  std::vector<ActorWay> ways;
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const std::string suffix = type == at::kFloat ? "" : " bfloat16";
    ways.push_back(WayOf("LibTorch split" + suffix, from, type, [&input, type](const Layers& layers) {
      const at::Tensor shared = at::linear(Borrowed(input.shared, 1).to(type), layers.shared, layers.biases[0]);
      return Rest(layers, at::addmm(shared, Borrowed(input.items, input.rows).to(type), layers.item.t()));
    }));
    ways.push_back(WayOf("LibTorch plain" + suffix, from, type, [&input, type](const Layers& layers) {
      return Rest(layers, at::linear(Borrowed(input.states, input.rows).to(type), layers.weights[0], layers.biases[0]));
    }));
  }
  return ways;
}

Product TorchProduct() {
  at::set_num_threads(1);
  constexpr std::int64_t kSide = 1024;
  const at::Tensor a = at::rand({kSide, kSide}), b = at::rand({kSide, kSide});
  auto c = at::rand({kSide, kSide});
  return {[=]() mutable { at::mm_out(c, a, b); }, 2e-9 * kSide * kSide * kSide};
}

}  // namespace fuseline::bench
