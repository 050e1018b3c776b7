#include "torch/dense_kernels.h"

namespace fuseline {

const DenseKernels* ChooseDenseKernels() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return &kAvx512DenseKernels;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &kAvx2DenseKernels;
#endif
  return nullptr;
}

}  // namespace fuseline
