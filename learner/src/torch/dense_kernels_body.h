#pragma once

// The body of every set of kernels. A file that defines FUSELINE_LANES (floats of a register), FUSELINE_TILE_ROWS and
// FUSELINE_KERNELS compiles it with the flags of its instruction set.
#include "torch/dense_kernels.h"

namespace fuseline {
namespace {

constexpr std::size_t kLanes = FUSELINE_LANES;
using Vector = float __attribute__((vector_size(kLanes * sizeof(float))));
using Unaligned = float __attribute__((vector_size(kLanes * sizeof(float)), aligned(alignof(float)), may_alias));

inline Vector Load(const float* from) { return *reinterpret_cast<const Unaligned*>(from); }
inline void Store(float* to, Vector value) { *reinterpret_cast<Unaligned*>(to) = value; }

// kRows rows by kVectors vectors of columns; the sums stay in registers.
template <int kRows, int kVectors>
inline void Tile(const DenseProduct& p, std::size_t row0, std::size_t column0) {
  Vector sums[kRows][kVectors];
  float* c = p.c + row0 * p.c_stride + column0;
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      sums[row][v] = p.bias != nullptr ? Load(p.bias + column0 + v * kLanes)
                     : p.onto          ? Load(c + row * p.c_stride + v * kLanes)
                                       : Vector{};
    }
  }
  const float *a = p.a + row0 * p.a_row, *b = p.b + column0;
  const std::size_t a_row = p.a_row;
  for (std::size_t k = 0; k < p.depth; ++k, a += p.a_depth, b += p.b_stride) {
    Vector right[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) right[v] = Load(b + v * kLanes);
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
      const float left = a[row * a_row];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sums[row][v] += right[v] * left;
    }
  }
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      Vector value = sums[row][v];
      if (p.relu) value = value < 0.0F ? Vector{} : value;  // NaN stays.
      if (p.gate != nullptr) value = Load(p.gate + (c - p.c) + row * p.c_stride + v * kLanes) > 0.0F ? value : Vector{};
      Store(c + row * p.c_stride + v * kLanes, value);
    }
  }
}

template <int kVectors>
void Columns(const DenseProduct& p, std::size_t column) {
  std::size_t row = 0;
  for (; row + FUSELINE_TILE_ROWS <= p.rows; row += FUSELINE_TILE_ROWS)
    Tile<FUSELINE_TILE_ROWS, kVectors>(p, row, column);
  for (; row + 4 <= p.rows; row += 4) Tile<4, kVectors>(p, row, column);
  for (; row < p.rows; ++row) Tile<1, kVectors>(p, row, column);
}

// Where B's rows lie far apart, each step down a column is another page: a panel of its columns is copied together first,
// in parts of the depth that the first cache holds. Sums are added in the same order, so nothing else changes.
constexpr std::size_t kFarStride = 257, kPanelDepth = 256;

template <int kVectors>
void PackedColumns(const DenseProduct& p, std::size_t column) {
  constexpr std::size_t kWidth = kVectors * kLanes;
  alignas(64) float panel[kPanelDepth * kWidth];
  DenseProduct part = p;
  part.b = panel;
  part.b_stride = kWidth;
  part.c += column;
  for (std::size_t k = 0; k < p.depth; k += part.depth) {
    part.depth = p.depth - k < kPanelDepth ? p.depth - k : kPanelDepth;
    const bool first = k == 0, last = k + part.depth == p.depth;
    part.a = p.a + k * p.a_depth;
    part.bias = first && p.bias != nullptr ? p.bias + column : nullptr;
    part.onto = p.onto || !first;
    part.relu = p.relu && last;
    part.gate = last && p.gate != nullptr ? p.gate + column : nullptr;
    const float* from = p.b + k * p.b_stride + column;
    for (std::size_t i = 0; i < part.depth; ++i, from += p.b_stride)
      for (int v = 0; v < kVectors; ++v) Store(panel + i * kWidth + v * kLanes, Load(from + v * kLanes));
    Columns<kVectors>(part, 0);
  }
}

void Multiply(const DenseProduct& p) {
  const bool packs = p.b_stride >= kFarStride && p.rows >= 4 * FUSELINE_TILE_ROWS && p.depth > 0;
  std::size_t column = 0;
  for (; column + 2 * kLanes <= p.columns; column += 2 * kLanes) packs ? PackedColumns<2>(p, column) : Columns<2>(p, column);
  if (column < p.columns) packs ? PackedColumns<1>(p, column) : Columns<1>(p, column);
}

// Sixteen partial sums whatever the register's width, added in one order.
using Sixteen = float __attribute__((vector_size(64)));
using UnalignedSixteen = float __attribute__((vector_size(64), aligned(alignof(float)), may_alias));

void Dot(const float* x, std::size_t x_stride, std::size_t rows, std::size_t depth, const float* w, float bias,
         float* y) {
  for (std::size_t i = 0; i < rows; ++i, x += x_stride) {
    Sixteen sums{};
    for (std::size_t k = 0; k < depth; k += 16)
      sums += *reinterpret_cast<const UnalignedSixteen*>(x + k) * *reinterpret_cast<const UnalignedSixteen*>(w + k);
    using Indices = int __attribute__((vector_size(64)));
    sums += __builtin_shuffle(sums, Indices{8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7});
    sums += __builtin_shuffle(sums, Indices{4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11});
    sums += __builtin_shuffle(sums, Indices{2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13});
    y[i] = bias + (sums[0] + sums[1]);
  }
}

void AddRows(const float* x, std::size_t x_stride, std::size_t rows, std::size_t columns, float* sums) {
  for (std::size_t column = 0; column < columns; column += kLanes) {
    Vector sum = Load(sums + column);
    for (std::size_t i = 0; i < rows; ++i) sum += Load(x + i * x_stride + column);
    Store(sums + column, sum);
  }
}

inline float Root(float x) { return __builtin_sqrtf(x); }

bool Adam(const AdamStep& s) {
  // x - x is 0 for what is finite and NaN for what is not; NaN stays in a sum.
  float unsound = 0;
  const float keep1 = s.beta1, take1 = 1 - s.beta1, keep2 = s.beta2, take2 = 1 - s.beta2;
  const std::size_t whole = s.n / 16 * 16;
  Sixteen differences{};
  for (std::size_t i = 0; i < whole; i += 16) {
    float p[16], m[16], v[16];
    for (int j = 0; j < 16; ++j) {
      const float g = s.gradient[i + j] * s.gradient_scale;
      m[j] = s.from_first[i + j] * keep1 + g * take1;
      v[j] = s.from_second[i + j] * keep2 + g * g * take2;
      p[j] = s.from_parameters[i + j] - s.rate * m[j] / (Root(v[j]) * s.inverse_correction2 + s.epsilon);
    }
    for (int j = 0; j < 16; ++j) {
      s.parameters[i + j] = p[j];
      s.first[i + j] = m[j];
      s.second[i + j] = v[j];
      differences[j] += (p[j] - p[j]) + (m[j] - m[j]) + (v[j] - v[j]);
    }
  }
  for (int j = 0; j < 16; ++j) unsound += differences[j];
  for (std::size_t i = whole; i < s.n; ++i) {
    const float g = s.gradient[i] * s.gradient_scale;
    const float m = s.from_first[i] * keep1 + g * take1, v = s.from_second[i] * keep2 + g * g * take2;
    const float p = s.from_parameters[i] - s.rate * m / (Root(v) * s.inverse_correction2 + s.epsilon);
    s.parameters[i] = p;
    s.first[i] = m;
    s.second[i] = v;
    unsound += (p - p) + (m - m) + (v - v);
  }
  return unsound == 0;
}

}  // namespace

const DenseKernels FUSELINE_KERNELS{FUSELINE_KERNELS_NAME, Multiply, Dot, AddRows, Adam};

}  // namespace fuseline
