#pragma once

#include <cstdint>
#include <string_view>

namespace fuseline {

// A generator seeded from (run seed, purpose, counter), so that a replay draws the same numbers whatever ran in
// between. SplitMix64 (Steele, Lea, Flood 2014) over a hash of the three. Value semantics, 16 bytes, not thread-safe.
class Random {
 public:
  Random(std::uint64_t run_seed, std::string_view purpose, std::uint64_t counter);

  std::uint64_t NextU64();
  double NextUniform();                       // In [0, 1), 53 bits.
  double NextUniform(double lo, double hi);   // In [lo, hi).
  std::uint64_t NextBelow(std::uint64_t n);   // In [0, n). REQUIRES: n > 0. Without bias.
  double NextNormal();                        // Mean 0, variance 1 (Box and Muller; one draw of two is kept).

  std::uint64_t state() const { return state_; }
  static Random FromState(std::uint64_t state);

 private:
  explicit Random(std::uint64_t state) : state_(state) {}
  std::uint64_t state_;
};

}  // namespace fuseline
