// 16 registers: 12 sums, 2 vectors of weights, 1 for the broadcast input.
#define FUSELINE_LANES 8
#define FUSELINE_TILE_ROWS 6
#include "dense_kernel.h"

namespace fuseline {
const DenseKernel kAvx2Kernel{"avx2", kLanes, Run, Normalise};
}  // namespace fuseline
