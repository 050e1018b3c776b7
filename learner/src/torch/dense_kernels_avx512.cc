#define FUSELINE_LANES 16
#define FUSELINE_TILE_ROWS 12
#define FUSELINE_KERNELS kAvx512DenseKernels
#define FUSELINE_KERNELS_NAME "avx512"
#include "torch/dense_kernels_body.h"
