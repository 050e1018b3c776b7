#pragma once

// The body of every kernel, compiled once per instruction set by a file that defines FUSELINE_LANES, FUSELINE_TILE_ROWS
// and FUSELINE_KERNEL. See dense_layer.h for why nothing else is included.
#include "dense_layer.h"

namespace fuseline {
namespace {

constexpr std::size_t kLanes = FUSELINE_LANES;
using Vector = float __attribute__((vector_size(kLanes * sizeof(float))));
using Integers = int __attribute__((vector_size(kLanes * sizeof(float))));
using Unaligned = float __attribute__((vector_size(kLanes * sizeof(float)), aligned(alignof(float)), may_alias));

inline Vector Load(const float* from) { return *reinterpret_cast<const Unaligned*>(from); }
inline void Store(float* to, Vector value) { *reinterpret_cast<Unaligned*>(to) = value; }

// tanh(x) = sign(x) (1 - 2 / (e^(2|x|) + 1)), within 2e-7. e^y = 2^n e^r, |r| <= ln 2 / 2, e^r by its series to r^7.
inline Vector Tanh(Vector x) {
  constexpr float kFar = 9.5F;  // From here on tanh is 1 in float32.
  Vector magnitude = x < 0.0F ? -x : x;
  magnitude = magnitude > kFar ? Vector{} + kFar : magnitude;
  const Vector y = magnitude + magnitude;
  const Integers n = __builtin_convertvector(y * 1.44269504F + 0.5F, Integers);
  const Vector whole = __builtin_convertvector(n, Vector);
  const Vector r = (y - whole * 0.693359375F) + whole * 2.12194440e-4F;  // ln 2 in two parts, so that r keeps its bits.
  Vector e = r * (1.0F / 5040.0F) + 1.0F / 720.0F;
  e = e * r + 1.0F / 120.0F;
  e = e * r + 1.0F / 24.0F;
  e = e * r + 1.0F / 6.0F;
  e = e * r + 0.5F;
  e = e * r + 1.0F;
  e = e * r + 1.0F;
  const Vector power = reinterpret_cast<Vector>((n + 127) << 23);
  const Vector result = 1.0F - 2.0F / (e * power + 1.0F);
  return x < 0.0F ? -result : result;
}

inline Vector Activate(Vector value, Activation activation) {
  if (activation == Activation::kRelu) return value < 0.0F ? Vector{} : value;  // NaN stays.
  if (activation == Activation::kTanh) return Tanh(value);
  return value;
}

// kRows rows by kVectors vectors of columns; the sums stay in registers.
template <int kRows, int kVectors>
inline void Tile(const float* panel, std::size_t inputs, const float* x, std::size_t x_stride, const float* bias,
                 Activation activation, float* y, std::size_t y_stride) {
  Vector sums[kRows][kVectors];
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) sums[row][v] = Load(bias + v * kLanes);
  }
  for (std::size_t k = 0; k < inputs; ++k) {
    Vector weights[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) weights[v] = Load(panel + (k * kVectors + v) * kLanes);
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
      const float value = x[row * x_stride + k];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sums[row][v] += weights[v] * value;
    }
  }
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) Store(y + row * y_stride + v * kLanes, Activate(sums[row][v], activation));
  }
}

template <int kVectors>
void Panel(const DenseLayer& layer, const float* panel, const float* x, std::size_t x_stride, const float* bias,
           std::size_t rows, float* y) {
  std::size_t row = 0;
  for (; row + FUSELINE_TILE_ROWS <= rows; row += FUSELINE_TILE_ROWS) {
    Tile<FUSELINE_TILE_ROWS, kVectors>(panel, layer.inputs, x + row * x_stride, x_stride, bias, layer.activation,
                                       y + row * layer.columns, layer.columns);
  }
  for (; row < rows; ++row) {
    Tile<1, kVectors>(panel, layer.inputs, x + row * x_stride, x_stride, bias, layer.activation, y + row * layer.columns,
                      layer.columns);
  }
}

void Run(const DenseLayer& layer, const float* x, std::size_t x_stride, const float* bias, std::size_t rows, float* y) {
  const float* panel = layer.weights;
  std::size_t column = 0;
  for (; column + 2 * kLanes <= layer.columns; column += 2 * kLanes) {
    Panel<2>(layer, panel, x, x_stride, bias + column, rows, y + column);
    panel += layer.inputs * 2 * kLanes;
  }
  if (column < layer.columns) Panel<1>(layer, panel, x, x_stride, bias + column, rows, y + column);
}

}  // namespace
}  // namespace fuseline
