#pragma once

#include <cstddef>

namespace fuseline {

// The inner loops of training dense networks on a CPU, compiled once for each instruction set (dense_kernels_body.h
// says how), chosen at run time. Every sum is one chain in the order of its terms, so AVX2 and AVX-512 give the same
// bits, whatever the number of threads. Only standard headers without inline functions here: code compiled for one
// instruction set must not leak into the rest.

// C = A B, with what comes before and after it. Shapes: A [rows, depth], B [depth, columns], C [rows, columns].
struct DenseProduct {
  const float* a = nullptr;
  std::size_t a_row = 0, a_depth = 1;  // A(i, k) = a[i a_row + k a_depth], one of them 1: either way of lying in memory.
  const float* b = nullptr;
  std::size_t b_stride = 0;
  float* c = nullptr;
  std::size_t c_stride = 0;
  std::size_t rows = 0, columns = 0, depth = 0;  // REQUIRES: columns a multiple of kDenseColumns.
  const float* bias = nullptr;  // [columns]: what the sums begin with. Without it C itself, if `onto`, else 0.
  bool onto = false;
  bool relu = false;
  const float* gate =
      nullptr;  // [rows, columns] of stride c_stride: an element of C whose gate is not positive becomes 0.
};
constexpr std::size_t kDenseColumns = 16;

// One Adam step (Kingma, Ba 2015) over n parameters: new values into `parameters`, `first` and `second` from those of
// `from_…`, which may be the same memory.
struct AdamStep {
  const float *gradient = nullptr, *from_parameters = nullptr, *from_first = nullptr, *from_second = nullptr;
  float *parameters = nullptr, *first = nullptr, *second = nullptr;
  std::size_t n = 0;
  float gradient_scale = 1, beta1 = 0, beta2 = 0, epsilon = 0;
  float rate = 0;                 // Divided by 1 - beta1^t.
  float inverse_correction2 = 0;  // 1 / sqrt(1 - beta2^t).
};

struct DenseKernels {
  const char* name;
  void (*multiply)(const DenseProduct& product);
  // y[i] = bias + sum_k x[i x_stride + k] w[k]; REQUIRES: depth a multiple of kDenseColumns.
  void (*dot)(const float* x, std::size_t x_stride, std::size_t rows, std::size_t depth, const float* w, float bias,
              float* y);
  void (*add_rows)(const float* x, std::size_t x_stride, std::size_t rows, std::size_t columns,
                   float* sums);  // sums[j] += sum_i x[i, j]
  // True where every new value is finite.
  bool (*adam)(const AdamStep& step);
};

// Those of this CPU; null where it has no fused multiply-add.
const DenseKernels* ChooseDenseKernels();

// The same with both operands of `multiply` rounded to bfloat16 (nearest even; subnormals are zero), the sums float32: half of what an
// operand takes, three decimal digits of it. Null where this CPU has no AVX512-BF16, which every CPU with AMX-BF16 has too.
const DenseKernels* ChooseBfloat16Kernels();

extern const DenseKernels kAvx2DenseKernels, kAvx512DenseKernels;
void MultiplyInBfloat16(const DenseProduct& product);

}  // namespace fuseline
