// AVX512-BF16: two products a lane in each instruction. The intrinsics are always inlined, so nothing compiled here can
// be the copy that the linker keeps for everybody (dense_layer.h).
#include <immintrin.h>

#define FUSELINE_LANES 16
#include "bf16_layer.h"
#include "dense_vector.h"

namespace fuseline {
namespace {

constexpr int kTileRows = 12;  // 24 sums, 2 vectors of weights, 1 for the broadcast pair of inputs;
constexpr int kFewRows = 4;    // and of what is left.

inline __m512bh LoadPairs(const std::uint16_t* from) { return (__m512bh)_mm512_loadu_si512(from); }
inline __m512bh BroadcastPair(const std::uint16_t* from) {
  int pair;
  __builtin_memcpy(&pair, from, sizeof pair);
  return (__m512bh)_mm512_set1_epi32(pair);
}

inline void Put(float* to, Vector value) { Store(to, value); }
inline void Put(std::uint16_t* to, Vector value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh((__m512)value));
}

// kRows rows by kVectors vectors of columns; the sums stay in registers.
template <int kRows, int kVectors, typename Out>
inline void Tile(const std::uint16_t* panel, const Bf16Layer& layer, const std::uint16_t* x, std::size_t x_stride,
                 const float* bias, Out* y) {
  Vector sums[kRows][kVectors];
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) sums[row][v] = Load(bias + v * kLanes);
  }
  for (std::size_t pair = 0; pair < layer.pairs; ++pair) {
    __m512bh weights[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) weights[v] = LoadPairs(panel + (pair * kVectors + v) * 2 * kLanes);
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
      const __m512bh inputs = BroadcastPair(x + row * x_stride + 2 * pair);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v)
        sums[row][v] = (Vector)_mm512_dpbf16_ps((__m512)sums[row][v], weights[v], inputs);
    }
  }
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v)
      Put(y + row * layer.columns + v * kLanes, Activate(sums[row][v], layer.activation));
  }
}

template <int kVectors, typename Out>
void Panel(const Bf16Layer& layer, const std::uint16_t* panel, const std::uint16_t* x, std::size_t x_stride,
           const float* bias, std::size_t rows, Out* y) {
  std::size_t row = 0;
  for (; row + kTileRows <= rows; row += kTileRows) {
    Tile<kTileRows, kVectors>(panel, layer, x + row * x_stride, x_stride, bias, y + row * layer.columns);
  }
  for (; row + kFewRows <= rows; row += kFewRows) {
    Tile<kFewRows, kVectors>(panel, layer, x + row * x_stride, x_stride, bias, y + row * layer.columns);
  }
  for (; row < rows; ++row)
    Tile<1, kVectors>(panel, layer, x + row * x_stride, x_stride, bias, y + row * layer.columns);
}

template <typename Out>
void Run(const Bf16Layer& layer, const std::uint16_t* x, std::size_t x_stride, const float* bias, std::size_t rows,
         Out* y) {
  const std::uint16_t* panel = layer.weights;
  std::size_t column = 0;
  for (; column + 2 * kLanes <= layer.columns; column += 2 * kLanes) {
    Panel<2>(layer, panel, x, x_stride, bias + column, rows, y + column);
    panel += layer.pairs * 2 * 2 * kLanes;
  }
  if (column < layer.columns) Panel<1>(layer, panel, x, x_stride, bias + column, rows, y + column);
}

void Narrow(const float* from, std::size_t count, std::uint16_t* to) {
  for (std::size_t i = 0; i < count; i += kLanes) Put(to + i, Load(from + i));
}

}  // namespace

const Bf16Kernel kAvx512Bf16Kernel{"avx512_bf16", kLanes, Narrow, Run<std::uint16_t>, Run<float>};

}  // namespace fuseline
