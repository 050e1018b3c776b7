#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/fusion/weights_file.h"

#include "dense_layer.h"

namespace fuseline {

// A dense layer as the kernel wants it, with the memory that it borrows.
struct PackedLayer {
  std::vector<float> weights;
  std::vector<float> bias;  // [columns]
  DenseLayer dense{};

  DenseLayer View() const { return {weights.data(), dense.inputs, dense.columns, dense.activation}; }
};

std::size_t RoundUp(std::size_t value, std::size_t multiple);

// Input columns [first, first + inputs) of `weight` [outputs, stride], in the panels of dense_layer.h. The bias is left at zero.
PackedLayer Pack(const Tensor& weight, std::size_t first, std::size_t inputs, Activation activation, std::size_t lanes);

// The tensor of that name. Errors: kInvalidInput when it is absent or has another shape, kCorrupt when a value is not finite.
Result<const Tensor*> FindTensor(const TensorMap& tensors, const std::string& name, const std::vector<std::uint32_t>& shape);

// Errors: kInvalidInput, naming `what`.
Status CheckWidths(const std::string& what, const std::vector<std::uint32_t>& widths);

// Layers NAME.<i>.weight [out, in], NAME.<i>.bias [out]: ReLU between them, `last` at the end.
struct PackedNet {
  std::vector<PackedLayer> layers;
  std::size_t widest = 0;  // Of inputs and padded outputs.

  // Errors: those of FindTensor and CheckWidths.
  static Result<PackedNet> Create(const std::string& name, const std::vector<std::uint32_t>& widths, Activation last,
                                  const TensorMap& tensors, std::size_t lanes);
  // in [rows, inputs] → in [rows, columns of the last layer]; `out` is scratch, both [rows, widest] at least.
  void Forward(const DenseKernel& kernel, std::size_t rows, std::vector<float>& in, std::vector<float>& out) const;
};

}  // namespace fuseline
