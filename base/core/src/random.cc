#include "fuseline/core/random.h"

#include <cmath>
#include <numbers>

#include "fuseline/core/check.h"
#include "fuseline/core/digest.h"

namespace fuseline {
namespace {

constexpr std::uint64_t kGolden = 0x9e3779b97f4a7c15ULL;

std::uint64_t Mix(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

}  // namespace

Random::Random(std::uint64_t run_seed, std::string_view purpose, std::uint64_t counter)
    : state_(Mix(Mix(Mix(run_seed + kGolden) + Fnv1a64(purpose)) + counter * kGolden)) {}

Random Random::FromState(std::uint64_t state) { return Random(state); }

std::uint64_t Random::NextU64() { return Mix(state_ += kGolden); }

double Random::NextUniform() { return static_cast<double>(NextU64() >> 11) * 0x1.0p-53; }

double Random::NextUniform(double lo, double hi) { return lo + (hi - lo) * NextUniform(); }

std::uint64_t Random::NextBelow(std::uint64_t n) {
  FUSELINE_CHECK(n > 0);
  const std::uint64_t unbiased_below = UINT64_MAX - UINT64_MAX % n;  // Draws from here on would favour small numbers.
  std::uint64_t draw = NextU64();
  while (draw >= unbiased_below) draw = NextU64();
  return draw % n;
}

double Random::NextNormal() {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - NextUniform()));
  return radius * std::cos(2.0 * std::numbers::pi * NextUniform());
}

}  // namespace fuseline
