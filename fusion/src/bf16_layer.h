#pragma once

#include <cstddef>
#include <cstdint>

#include "dense_layer.h"

namespace fuseline {

// y = activation(x W^T + bias) for a few rows, with x and W in bfloat16 (float32 with 8 bits of mantissa instead of
// 24): their products are summed in float32, to which the bias is added, and what a layer gives is rounded to bfloat16
// for the next. As in dense_layer.h each y is one chain over the inputs, here by pairs, so it does not depend on the
// rows beside it.
struct Bf16Layer {
  const std::uint16_t* weights;  // Panels as in dense_layer.h, [pairs, columns, 2] each.
  std::size_t pairs;             // Of inputs; an odd one has a zero beside it.
  std::size_t columns;
  Activation activation;
};

struct Bf16Kernel {
  const char* name;
  std::size_t lanes;
  // Rounds to nearest, ties to even. REQUIRES: count is a multiple of lanes.
  void (*narrow)(const float* from, std::size_t count, std::uint16_t* to);
  // x [rows, x_stride], bias [columns], y [rows, columns]. REQUIRES: x_stride >= 2 * pairs, and even.
  void (*run)(const Bf16Layer& layer, const std::uint16_t* x, std::size_t x_stride, const float* bias, std::size_t rows,
              std::uint16_t* y);
  // The same, not rounded at the end: for the last layer.
  void (*run_last)(const Bf16Layer& layer, const std::uint16_t* x, std::size_t x_stride, const float* bias,
                   std::size_t rows, float* y);
};

#if defined(__x86_64__)
extern const Bf16Kernel kAvx512Bf16Kernel;
#endif

const Bf16Kernel* BestBf16Kernel();  // Of this machine; null where there is none.

}  // namespace fuseline
