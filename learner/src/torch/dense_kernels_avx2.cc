#define FUSELINE_LANES 8
#define FUSELINE_TILE_ROWS 6
#define FUSELINE_KERNELS kAvx2DenseKernels
#define FUSELINE_KERNELS_NAME "avx2"
#include "torch/dense_kernels_body.h"
