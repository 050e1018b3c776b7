#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "torch/dense_kernels.h"

namespace fuseline {

// Forward and backward of a DenseEnsemble on a CPU in float32, by kernels of our own: one member after another, each in
// blocks of rows whose activations stay in the cache, with bias, ReLU and its gradient inside the products. What a
// general library does layer by layer over all members passes through memory at each step. Thread-compatible. Members
// are shared out among LibTorch's threads; what is computed does not depend on their number. Memory: tapes are kept to
// be used again, as many as were ever needed at once.
class CpuEnsemble {
 public:
  // REQUIRES: `kernels` is not null.
  CpuEnsemble(std::int64_t members, std::vector<std::int64_t> widths, const DenseKernels* kernels);

  // What the backward pass needs again: the input and the outputs of all hidden layers.
  struct Tape {
    at::Tensor input;   // [N, padded width]
    at::Tensor hidden;  // Layer after layer [M, N, padded width].
  };
  // parameters [P]; x [N, in - k] and, unless undefined, more [N, k] → [M, N, out]. Fills `tape` unless null.
  at::Tensor Forward(const at::Tensor& parameters, const at::Tensor& x, const at::Tensor& more, Tape* tape) const;

  struct Gradients {
    at::Tensor parameters;  // [P]
    at::Tensor input;       // [N, columns wanted]
  };
  // Of outputs whose gradient is dy [M, N, out]: by the parameters, if wanted, and by the input's columns from `begin`
  // to `end`.
  Gradients Backward(const at::Tensor& parameters, const Tape& tape, const at::Tensor& dy, bool by_parameters,
                     std::int64_t begin, std::int64_t end) const;

 private:
  struct Layer {
    std::size_t in, out, in_padded, out_padded;
    std::size_t weights, biases;  // Where those of all members begin in the flat parameters.
    std::size_t hidden;           // Where its outputs begin on the tape, in floats for each row of each member.
  };
  struct Pass;  // Of one call.

  at::Tensor NewTape(std::int64_t floats) const;
  at::Tensor Padded(const at::Tensor& x, const at::Tensor& more) const;
  void ForwardMember(const Pass& pass, std::size_t member, float* y) const;
  void BackwardMember(const Pass& pass, std::size_t member, const float* dy, float* d_parameters, float* d_input,
                      std::size_t begin, std::size_t end) const;

  const std::size_t members_;
  const DenseKernels* const kernels_;
  std::vector<Layer> layers_;
  std::size_t parameters_ = 0, widest_ = 0, hidden_ = 0;
  std::size_t packed_ = 0;  // Floats of one member's weights and biases, padded.
  mutable std::vector<at::Tensor> tapes_;
};

}  // namespace fuseline
