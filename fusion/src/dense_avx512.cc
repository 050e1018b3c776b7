// 32 registers: 24 sums, 2 vectors of weights, the rest for what the compiler wants.
#define FUSELINE_LANES 16
#define FUSELINE_TILE_ROWS 12
#include "dense_kernel.h"

namespace fuseline {
const DenseKernel kAvx512Kernel{"avx512", kLanes, Run, Normalise};
}  // namespace fuseline
