#pragma once

// Vectors of FUSELINE_LANES float32, and the activations of them: what the kernels of every instruction set and
// precision share. Included by a file that is compiled for one instruction set; see dense_layer.h for why nothing else
// is included.
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

}  // namespace
}  // namespace fuseline
