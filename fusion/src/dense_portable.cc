// What any machine has; here is also the choice between the kernels.
#define FUSELINE_LANES 4
#define FUSELINE_TILE_ROWS 4
#include "dense_kernel.h"

namespace fuseline {

const DenseKernel kPortableKernel{"portable", kLanes, Run, Normalise};

const DenseKernel& BestDenseKernel() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return kAvx512Kernel;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return kAvx2Kernel;
#endif
  return kPortableKernel;
}

}  // namespace fuseline
