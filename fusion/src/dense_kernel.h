#pragma once

// The body of every float32 kernel, compiled once per instruction set by a file that defines FUSELINE_LANES and
// FUSELINE_TILE_ROWS. See dense_layer.h for why nothing else is included.
#include "dense_vector.h"

namespace fuseline {
namespace {

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

// What is left of the rows is taken by so many, then one by one: a single row keeps only two chains busy.
constexpr std::size_t kFewRows = 4;

template <int kVectors>
void Panel(const DenseLayer& layer, const float* panel, const float* x, std::size_t x_stride, const float* bias,
           std::size_t rows, float* y) {
  std::size_t row = 0;
  for (; row + FUSELINE_TILE_ROWS <= rows; row += FUSELINE_TILE_ROWS) {
    Tile<FUSELINE_TILE_ROWS, kVectors>(panel, layer.inputs, x + row * x_stride, x_stride, bias, layer.activation,
                                       y + row * layer.columns, layer.columns);
  }
  for (; row + kFewRows <= rows; row += kFewRows) {
    Tile<kFewRows, kVectors>(panel, layer.inputs, x + row * x_stride, x_stride, bias, layer.activation, y + row * layer.columns,
                             layer.columns);
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

void Normalise(const float* mean, const float* scale, float bound, std::size_t rows, std::size_t columns, float* x) {
  const Vector highest = Vector{} + bound, lowest = -highest;
  for (const float* const end = x + rows * columns; x < end; x += columns) {
    for (std::size_t column = 0; column < columns; column += kLanes) {
      Vector value = (Load(x + column) - Load(mean + column)) * Load(scale + column);
      value = value < lowest ? lowest : value;
      Store(x + column, highest < value ? highest : value);
    }
  }
}

}  // namespace
}  // namespace fuseline
