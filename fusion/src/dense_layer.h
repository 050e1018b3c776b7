#pragma once

#include <cstddef>

namespace fuseline {

// y = activation(x W^T + bias) for a few rows, in float32: the inner loop of the policy, in the widest form that the
// machine has. Each y is one chain of multiply-adds over the inputs in their order, so it does not depend on the number of
// rows or on where a row stands among them, and AVX2 and AVX-512 give the same bits.
//
// This header and the kernels include nothing of the standard library but <cstddef>: an inline function compiled with
// AVX-512 in one of them could otherwise be the copy that the linker keeps for everybody.
enum class Activation { kNone, kRelu, kTanh };

struct DenseLayer {
  const float* weights;  // As packed for the kernel: panels of 2 * lanes columns (the last may have 1 * lanes), [inputs, columns] each.
  std::size_t inputs;
  std::size_t columns;  // Outputs, padded to a multiple of lanes with zero weights.
  Activation activation;
};

struct DenseKernel {
  const char* name;
  std::size_t lanes;
  // x [rows, x_stride], bias [columns], y [rows, columns].
  void (*run)(const DenseLayer& layer, const float* x, std::size_t x_stride, const float* bias, std::size_t rows, float* y);
  // x [rows, columns] → clamp((x - mean) * scale, ±bound), the bits of Normaliser::Apply. REQUIRES: columns is a multiple of lanes.
  void (*normalise)(const float* mean, const float* scale, float bound, std::size_t rows, std::size_t columns, float* x);
};

extern const DenseKernel kPortableKernel;
#if defined(__x86_64__)
extern const DenseKernel kAvx2Kernel;
extern const DenseKernel kAvx512Kernel;
#endif

const DenseKernel& BestDenseKernel();  // Of this machine.

}  // namespace fuseline
