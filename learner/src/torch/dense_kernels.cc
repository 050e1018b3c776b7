#include "torch/dense_kernels.h"

namespace fuseline {

const DenseKernels* ChooseDenseKernels() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return &kAvx512DenseKernels;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &kAvx2DenseKernels;
#endif
  return nullptr;
}

const DenseKernels* ChooseBfloat16Kernels() {
#if defined(__x86_64__)
  static const DenseKernels kernels{"avx512_bf16", MultiplyInBfloat16, kAvx512DenseKernels.dot, kAvx512DenseKernels.add_rows,
                                    kAvx512DenseKernels.adam};
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512bf16")) return &kernels;
#endif
  return nullptr;
}

}  // namespace fuseline
