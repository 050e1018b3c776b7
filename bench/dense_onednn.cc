// oneDNN: matmul with bias and ReLU inside, weights in the layout that it chooses.
#include <cstring>
#include <memory>
#include <unordered_map>

#include <oneapi/dnnl/dnnl.hpp>

#include "dense_ways.h"

namespace fuseline::bench {
namespace {

using Tag = dnnl::memory::format_tag;

dnnl::memory::desc Describe(std::size_t rows, std::size_t columns, Tag tag) {
  return {{static_cast<dnnl::memory::dim>(rows), static_cast<dnnl::memory::dim>(columns)},
          dnnl::memory::data_type::f32,
          tag};
}

}  // namespace

Forward OneDnnForward(const DenseNet& net, std::size_t rows) {
  struct Layer {
    dnnl::matmul product;
    std::unordered_map<int, dnnl::memory> arguments;
  };
  struct State {
    dnnl::engine engine{dnnl::engine::kind::cpu, 0};
    dnnl::stream stream{engine};
    std::vector<Layer> layers;
  };
  auto state = std::make_shared<State>();
  dnnl::memory values(Describe(rows, net.layers[0].inputs, Tag::ab), state->engine);
  for (std::size_t i = 0; i < net.layers.size(); ++i) {
    const DenseNet::Layer& from = net.layers[i];
    dnnl::primitive_attr attributes;
    if (i + 1 < net.layers.size()) {
      dnnl::post_ops after;
      after.append_eltwise(1.0F, dnnl::algorithm::eltwise_relu, 0.0F, 0.0F);
      attributes.set_post_ops(after);
    }
    const dnnl::matmul::desc wanted(values.get_desc(), Describe(from.inputs, from.outputs, Tag::any),
                                    Describe(1, from.outputs, Tag::ab), Describe(rows, from.outputs, Tag::ab));
    const dnnl::matmul::primitive_desc chosen(wanted, attributes, state->engine);
    dnnl::memory plain(Describe(from.inputs, from.outputs, Tag::ba),
                       state->engine);  // [outputs, inputs], seen by columns.
    std::memcpy(plain.get_data_handle(), from.weight.data(), from.weight.size() * sizeof(float));
    dnnl::memory weights(chosen.weights_desc(), state->engine);
    dnnl::reorder(plain, weights).execute(state->stream, plain, weights);
    dnnl::memory bias(Describe(1, from.outputs, Tag::ab), state->engine);
    std::memcpy(bias.get_data_handle(), from.bias.data(), from.bias.size() * sizeof(float));
    dnnl::memory out(chosen.dst_desc(), state->engine);
    state->layers.push_back(
        {dnnl::matmul(chosen),
         {{DNNL_ARG_SRC, values}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_BIAS, bias}, {DNNL_ARG_DST, out}}});
    values = out;
  }
  state->stream.wait();
  return [state](const float* in, float* out) {
    state->layers.front().arguments.at(DNNL_ARG_SRC).set_data_handle(const_cast<float*>(in));  // It is only read.
    state->layers.back().arguments.at(DNNL_ARG_DST).set_data_handle(out);
    for (const Layer& layer : state->layers) layer.product.execute(state->stream, layer.arguments);
    state->stream.wait();
  };
}

}  // namespace fuseline::bench
