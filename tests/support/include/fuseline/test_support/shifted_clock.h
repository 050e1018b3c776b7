#pragma once

#include <atomic>
#include <cstdint>

#include "fuseline/core/clock.h"

namespace fuseline::test {

// The machine's clock, which a test can make jump ahead. Thread-safe.
class ShiftedClock final : public Clock {
 public:
  void Advance(std::int64_t ms) { ahead_ms_ += ms; }
  std::int64_t wall_ms() const override { return clock_.wall_ms() + ahead_ms_; }
  std::int64_t monotonic_us() const override { return clock_.monotonic_us() + 1'000 * ahead_ms_; }

 private:
  const SystemClock clock_;
  std::atomic<std::int64_t> ahead_ms_ = 0;
};

}  // namespace fuseline::test
