// Products with operands in bfloat16, by AVX512-BF16: an instruction multiplies two neighbours along the depth and adds
// both to a float32. So both operands are packed in pairs first, a block at a time: the left one as it lies in memory,
// either way; the right one a panel of two registers' columns at a time.
#include <cstdint>

#include <immintrin.h>

#include "torch/dense_kernels.h"

namespace fuseline {
namespace {

constexpr std::size_t kLanes = 16, kDepth = 256, kRows = 240, kPanel = 2 * kLanes;
constexpr int kTileRows = 12;
static_assert(kRows % kLanes == 0 && kDepth % kLanes == 0);

// Element i of each, rounded to nearest even, side by side in 32 bits.
inline __m512i Pairs(__m512 first, __m512 second) {
  alignas(64) static constexpr std::int16_t kOrder[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                          8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const auto rounded = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second, first));
  return _mm512_permutexvar_epi16(_mm512_load_si512(kOrder), rounded);
}

inline __mmask16 FirstOf(std::size_t left) {
  return left >= kLanes ? __mmask16{0xFFFF} : static_cast<__mmask16>((1U << left) - 1);
}

// A block of A: the pair (2k, 2k + 1) of a row is at row * row_stride + k * pair_stride.
struct Left {
  alignas(64) std::uint32_t pairs[kRows * kDepth / 2];
  std::size_t row_stride, pair_stride;

  void Pack(const float* a, std::size_t a_row, std::size_t a_depth, std::size_t rows, std::size_t depth) {
    if (a_depth == 1) {
      row_stride = kDepth / 2, pair_stride = 1;
      for (std::size_t row = 0; row < rows; ++row)
        for (std::size_t k = 0; k < depth; k += kLanes)
          _mm256_store_si256(reinterpret_cast<__m256i*>(pairs + row * row_stride + k / 2),
                             reinterpret_cast<__m256i>(
                                 _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(FirstOf(depth - k), a + row * a_row + k))));
      return;
    }
    row_stride = 1, pair_stride = kRows;
    for (std::size_t k = 0; k < depth; k += 2) {
      for (std::size_t row = 0; row < rows; row += kLanes) {
        const __mmask16 there = FirstOf(rows - row);
        const float* const from = a + k * a_depth + row;
        _mm512_store_si512(pairs + k / 2 * pair_stride + row,
                           Pairs(_mm512_maskz_loadu_ps(there, from),
                                 k + 1 < depth ? _mm512_maskz_loadu_ps(there, from + a_depth) : _mm512_setzero_ps()));
      }
    }
  }
};

// A panel of B: the pairs of one depth lie together.
struct Right {
  __m512i pairs[kDepth / 2][2];

  void Pack(const float* b, std::size_t stride, std::size_t depth, std::size_t vectors) {
    for (std::size_t k = 0; k < depth; k += 2) {
      for (std::size_t v = 0; v < vectors; ++v) {
        const float* const from = b + k * stride + v * kLanes;
        pairs[k / 2][v] =
            Pairs(_mm512_loadu_ps(from), k + 1 < depth ? _mm512_loadu_ps(from + stride) : _mm512_setzero_ps());
      }
    }
  }
};

// Where a block of the product stands in the whole.
struct Block {
  std::size_t row0, column0, pairs;
  bool first, last;  // Along the depth.
};

template <int kTile, int kVectors>
inline void Tile(const DenseProduct& p, const Left& left, const Right& right, const Block& block, std::size_t row) {
  __m512 sums[kTile][kVectors];
  float* const c = p.c + (block.row0 + row) * p.c_stride + block.column0;
#pragma GCC unroll 16
  for (int i = 0; i < kTile; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      sums[i][v] = !block.first || (p.onto && p.bias == nullptr) ? _mm512_loadu_ps(c + i * p.c_stride + v * kLanes)
                   : p.bias != nullptr                           ? _mm512_loadu_ps(p.bias + block.column0 + v * kLanes)
                                                                 : _mm512_setzero_ps();
    }
  }
  const std::uint32_t* a = left.pairs + row * left.row_stride;
  for (std::size_t k = 0; k < block.pairs; ++k, a += left.pair_stride) {
#pragma GCC unroll 16
    for (int i = 0; i < kTile; ++i) {
      const auto one = reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(a[i * left.row_stride])));
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v)
        sums[i][v] = _mm512_dpbf16_ps(sums[i][v], one, reinterpret_cast<__m512bh>(right.pairs[k][v]));
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kTile; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      const std::size_t at = i * p.c_stride + v * kLanes;
      __m512 value = sums[i][v];
      if (block.last && p.relu)  // NaN stays.
        value =
            _mm512_mask_mov_ps(value, _mm512_cmp_ps_mask(value, _mm512_setzero_ps(), _CMP_LT_OQ), _mm512_setzero_ps());
      if (block.last && p.gate != nullptr)
        value = _mm512_maskz_mov_ps(
            _mm512_cmp_ps_mask(_mm512_loadu_ps(p.gate + (c - p.c) + at), _mm512_setzero_ps(), _CMP_GT_OQ), value);
      _mm512_storeu_ps(c + at, value);
    }
  }
}

template <int kVectors>
void Rows(const DenseProduct& p, const Left& left, const Right& right, const Block& block, std::size_t rows) {
  std::size_t row = 0;
  for (; row + kTileRows <= rows; row += kTileRows) Tile<kTileRows, kVectors>(p, left, right, block, row);
  for (; row + 4 <= rows; row += 4) Tile<4, kVectors>(p, left, right, block, row);
  for (; row < rows; ++row) Tile<1, kVectors>(p, left, right, block, row);
}

std::size_t Smaller(std::size_t a, std::size_t b) { return a < b ? a : b; }

}  // namespace

void MultiplyInBfloat16(const DenseProduct& p) {
  Left left;
  Right right;
  for (std::size_t row0 = 0; row0 < p.rows; row0 += kRows) {
    const std::size_t rows = Smaller(kRows, p.rows - row0);
    for (std::size_t k0 = 0; k0 < p.depth; k0 += kDepth) {
      const std::size_t depth = Smaller(kDepth, p.depth - k0);
      left.Pack(p.a + row0 * p.a_row + k0 * p.a_depth, p.a_row, p.a_depth, rows, depth);
      for (std::size_t column0 = 0; column0 < p.columns; column0 += kPanel) {
        const std::size_t vectors = Smaller(kPanel, p.columns - column0) / kLanes;
        right.Pack(p.b + k0 * p.b_stride + column0, p.b_stride, depth, vectors);
        const Block block{row0, column0, (depth + 1) / 2, k0 == 0, k0 + depth == p.depth};
        vectors == 2 ? Rows<2>(p, left, right, block, rows) : Rows<1>(p, left, right, block, rows);
      }
    }
  }
}

}  // namespace fuseline
