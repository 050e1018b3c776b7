#pragma once

#include <cstdint>

#include "fuseline/core/random.h"

namespace fuseline {

// How long to wait before the next try: doubles from `first_ms` to `longest_ms`, each with full jitter in
// [half, whole] so that many clients do not come back together.
class Backoff {
 public:
  Backoff(std::int64_t first_ms, std::int64_t longest_ms, std::uint64_t seed);
  std::int64_t NextMs();
  void Reset();

 private:
  const std::int64_t first_ms_;
  const std::int64_t longest_ms_;
  std::int64_t current_ms_;
  Random random_;
};

}  // namespace fuseline
