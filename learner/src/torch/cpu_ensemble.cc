#include "torch/cpu_ensemble.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstring>
#include <memory>

namespace fuseline {
namespace {

constexpr std::size_t kBlock =
    240;  // Rows: a multiple of every kernel's tile; at the paper's widths a block and a member's weights fit 2 MiB.

std::size_t Padded(std::size_t width) { return (width + kDenseColumns - 1) / kDenseColumns * kDenseColumns; }
std::size_t Unsigned(std::int64_t value) { return static_cast<std::size_t>(value); }

std::unique_ptr<float[]> Scratch(std::size_t floats) { return std::make_unique_for_overwrite<float[]>(floats); }

// [rows, columns] of one stride into another, what is beyond the columns zero.
void Copy(const float* from, std::size_t from_stride, std::size_t rows, std::size_t columns, float* to,
          std::size_t to_stride) {
  for (std::size_t i = 0; i < rows; ++i, from += from_stride, to += to_stride) {
    std::memcpy(to, from, columns * sizeof(float));
    std::fill(to + columns, to + to_stride, 0.0F);
  }
}

// [rows, columns] → [columns, to_stride], what is beyond the rows zero.
void Transpose(const float* from, std::size_t rows, std::size_t columns, float* to, std::size_t to_stride) {
  constexpr std::size_t kTile = 16;
  for (std::size_t row0 = 0; row0 < to_stride; row0 += kTile)
    for (std::size_t column = 0; column < columns; ++column)
      for (std::size_t row = row0; row < row0 + kTile; ++row)
        to[column * to_stride + row] = row < rows ? from[row * columns + column] : 0.0F;
}

template <typename Body>
void ForEach(std::size_t count, const Body& body) {
  at::parallel_for(0, static_cast<std::int64_t>(count), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) body(Unsigned(i));
  });
}

}  // namespace

struct CpuEnsemble::Pass {
  const float *parameters, *input;
  float* hidden;  // Null: nothing is kept.
  std::size_t rows;

  float* Hidden(const Layer& layer, std::size_t members, std::size_t member, std::size_t row) const {
    return hidden + (layer.hidden * members + member * layer.out_padded) * rows + row * layer.out_padded;
  }
};

CpuEnsemble::CpuEnsemble(std::int64_t members, std::vector<std::int64_t> widths, const DenseKernels* kernels)
    : members_(Unsigned(members)), kernels_(kernels) {
  for (std::size_t i = 0; i + 1 < widths.size(); ++i) {
    Layer layer{.in = Unsigned(widths[i]), .out = Unsigned(widths[i + 1])};
    layer.in_padded = fuseline::Padded(layer.in);
    layer.out_padded = fuseline::Padded(layer.out);
    layer.weights = parameters_;
    layer.biases = parameters_ + members_ * layer.in * layer.out;
    layer.hidden = hidden_;
    parameters_ = layer.biases + members_ * layer.out;
    if (i + 2 < widths.size()) hidden_ += layer.out_padded;
    widest_ = std::max({widest_, layer.in_padded, layer.out_padded});
    packed_ += std::max(layer.in * layer.out_padded, layer.in_padded * layer.out) + layer.out_padded + layer.in_padded;
    layers_.push_back(layer);
  }
}

at::Tensor CpuEnsemble::Padded(const at::Tensor& x, const at::Tensor& more) const {
  at::Tensor padded = at::zeros({x.size(0), static_cast<std::int64_t>(layers_[0].in_padded)}, at::kFloat);
  padded.narrow(1, 0, x.size(1)).copy_(x);
  if (more.defined()) padded.narrow(1, x.size(1), more.size(1)).copy_(more);
  return padded;
}

// An allocator gives so much memory back to the system at once, and fetching it again page by page takes a quarter of a
// step.
at::Tensor CpuEnsemble::NewTape(std::int64_t floats) const {
  for (at::Tensor& tape : tapes_) {
    if (tape.use_count() > 1) continue;  // A graph still holds it.
    if (tape.numel() < floats) tape = at::empty({floats}, at::kFloat);
    return tape;
  }
  return tapes_.emplace_back(at::empty({floats}, at::kFloat));
}

at::Tensor CpuEnsemble::Forward(const at::Tensor& parameters, const at::Tensor& x, const at::Tensor& more,
                                Tape* tape) const {
  const at::Tensor input = Padded(x, more);
  const auto members = static_cast<std::int64_t>(members_), rows = x.size(0);
  Pass pass{.parameters = parameters.const_data_ptr<float>(),
            .input = input.const_data_ptr<float>(),
            .hidden = nullptr,
            .rows = Unsigned(rows)};
  if (tape != nullptr) {
    *tape = {input, NewTape(members * rows * static_cast<std::int64_t>(hidden_))};
    pass.hidden = tape->hidden.data_ptr<float>();
  }
  at::Tensor y = at::empty({members, rows, static_cast<std::int64_t>(layers_.back().out)}, at::kFloat);
  float* const to = y.data_ptr<float>();
  ForEach(members_,
          [&](std::size_t member) { ForwardMember(pass, member, to + member * pass.rows * layers_.back().out); });
  return y;
}

void CpuEnsemble::ForwardMember(const Pass& pass, std::size_t member, float* y) const {
  const auto packed = Scratch(packed_), blocks = Scratch(2 * kBlock * widest_);
  float* next = packed.get();
  std::vector<const float*> weights,
      biases;  // Of each layer: weights [in, padded out], the last of a single output as they are.
  for (const Layer& layer : layers_) {
    const float* const from = pass.parameters + layer.weights + member * layer.in * layer.out;
    weights.push_back(next);
    if (&layer == &layers_.back() && layer.out == 1) {
      Copy(from, layer.in, 1, layer.in, next, layer.in_padded);
      next += layer.in_padded;
    } else {
      Transpose(from, layer.out, layer.in, next, layer.out_padded);
      next += layer.in * layer.out_padded;
    }
    biases.push_back(next);
    Copy(pass.parameters + layer.biases + member * layer.out, layer.out, 1, layer.out, next, layer.out_padded);
    next += layer.out_padded;
  }
  for (std::size_t row = 0; row < pass.rows; row += kBlock) {
    const std::size_t rows = std::min(kBlock, pass.rows - row);
    const float* h = pass.input + row * layers_[0].in_padded;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      const Layer& layer = layers_[i];
      const bool last = i + 1 == layers_.size();
      if (last && layer.out == 1) {
        kernels_->dot(h, layer.in_padded, rows, layer.in_padded, weights[i], biases[i][0], y + row);
        break;
      }
      float* const to = last || pass.hidden == nullptr ? blocks.get() + i % 2 * kBlock * widest_
                                                       : pass.Hidden(layer, members_, member, row);
      kernels_->multiply({.a = h,
                          .a_row = layer.in_padded,
                          .b = weights[i],
                          .b_stride = layer.out_padded,
                          .c = to,
                          .c_stride = layer.out_padded,
                          .rows = rows,
                          .columns = layer.out_padded,
                          .depth = layer.in,
                          .bias = biases[i],
                          .relu = !last});
      if (last) Copy(to, layer.out_padded, rows, layer.out, y + row * layer.out, layer.out);
      h = to;
    }
  }
}

CpuEnsemble::Gradients CpuEnsemble::Backward(const at::Tensor& parameters, const Tape& tape, const at::Tensor& dy,
                                             bool by_parameters, std::int64_t begin, std::int64_t end) const {
  const std::int64_t rows = dy.size(1), columns = end - begin;
  const at::Tensor from = dy.contiguous();
  const Pass pass{.parameters = parameters.const_data_ptr<float>(),
                  .input = tape.input.const_data_ptr<float>(),
                  .hidden = tape.hidden.data_ptr<float>(),
                  .rows = Unsigned(rows)};
  Gradients gradients;
  if (by_parameters) gradients.parameters = at::empty({static_cast<std::int64_t>(parameters_)}, at::kFloat);
  at::Tensor by_member;  // Each member's share of the input's gradient.
  if (columns > 0) by_member = at::empty({static_cast<std::int64_t>(members_), rows, columns}, at::kFloat);
  float* const to_parameters = by_parameters ? gradients.parameters.data_ptr<float>() : nullptr;
  float* const to_input = columns > 0 ? by_member.data_ptr<float>() : nullptr;
  const std::size_t out = layers_.back().out;
  ForEach(members_, [&](std::size_t member) {
    BackwardMember(pass, member, from.const_data_ptr<float>() + member * pass.rows * out, to_parameters,
                   to_input == nullptr ? nullptr : to_input + member * pass.rows * Unsigned(columns), Unsigned(begin),
                   Unsigned(end));
  });
  if (columns > 0) {
    gradients.input = by_member[0];
    for (std::int64_t member = 1; member < static_cast<std::int64_t>(members_); ++member)
      gradients.input.add_(by_member[member]);
  }
  return gradients;
}

void CpuEnsemble::BackwardMember(const Pass& pass, std::size_t member, const float* dy, float* d_parameters,
                                 float* d_input, std::size_t begin, std::size_t end) const {
  const std::size_t input_columns = fuseline::Padded(end - begin);
  const auto packed = Scratch(packed_), summed = Scratch(packed_), blocks = Scratch(2 * kBlock * widest_);
  std::fill(summed.get(), summed.get() + packed_, 0.0F);
  std::vector<const float*> weights;  // [out, padded in]; of the first layer only the columns that are wanted.
  std::vector<float*> d_weights, d_biases;
  float *next = packed.get(), *next_sum = summed.get();
  for (const Layer& layer : layers_) {
    const float* const from = pass.parameters + layer.weights + member * layer.in * layer.out;
    const bool first = weights.empty();
    const std::size_t stride = first ? input_columns : layer.in_padded;
    weights.push_back(next);
    for (std::size_t row = 0; row < layer.out; ++row) {
      const float* const weights_row = from + row * layer.in + (first ? begin : 0);
      Copy(weights_row, layer.in, 1, first ? end - begin : layer.in, next + row * stride, stride);
    }
    next += layer.out * stride;
    d_weights.push_back(next_sum);
    d_biases.push_back(next_sum + layer.out * layer.in_padded);
    next_sum += layer.out * layer.in_padded + layer.out_padded;
  }
  for (std::size_t row = 0; row < pass.rows; row += kBlock) {
    const std::size_t rows = std::min(kBlock, pass.rows - row);
    float* d = blocks.get();  // Of the layer's outputs, before ReLU.
    Copy(dy + row * layers_.back().out, layers_.back().out, rows, layers_.back().out, d, layers_.back().out_padded);
    for (std::size_t i = layers_.size(); i-- > 0;) {
      const Layer& layer = layers_[i];
      const float* const h =
          i == 0 ? pass.input + row * layer.in_padded : pass.Hidden(layers_[i - 1], members_, member, row);
      if (d_parameters != nullptr) {
        kernels_->multiply({.a = d,
                            .a_row = 1,
                            .a_depth = layer.out_padded,
                            .b = h,
                            .b_stride = layer.in_padded,
                            .c = d_weights[i],
                            .c_stride = layer.in_padded,
                            .rows = layer.out,
                            .columns = layer.in_padded,
                            .depth = rows,
                            .onto = true});
        kernels_->add_rows(d, layer.out_padded, rows, layer.out_padded, d_biases[i]);
      }
      if (i == 0 && d_input == nullptr) break;
      float* const to = d == blocks.get() ? blocks.get() + kBlock * widest_ : blocks.get();
      const std::size_t columns = i == 0 ? input_columns : layer.in_padded;
      kernels_->multiply({.a = d,
                          .a_row = layer.out_padded,
                          .b = weights[i],
                          .b_stride = columns,
                          .c = to,
                          .c_stride = columns,
                          .rows = rows,
                          .columns = columns,
                          .depth = layer.out,
                          .gate = i == 0 ? nullptr : h});
      if (i == 0) Copy(to, columns, rows, end - begin, d_input + row * (end - begin), end - begin);
      d = to;
    }
  }
  if (d_parameters == nullptr) return;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    Copy(d_weights[i], layer.in_padded, layer.out, layer.in,
         d_parameters + layer.weights + member * layer.in * layer.out, layer.in);
    std::copy_n(d_biases[i], layer.out, d_parameters + layer.biases + member * layer.out);
  }
}

}  // namespace fuseline
