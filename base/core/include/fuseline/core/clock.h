#pragma once

#include <cstdint>

namespace fuseline {

// The two times of the machine. Neither decides anything about a session: event time comes from events alone.
// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual std::int64_t wall_ms() const = 0;       // Since the Unix epoch; may jump.
  virtual std::int64_t monotonic_us() const = 0;  // From some fixed instant; never goes back.
};

class SystemClock final : public Clock {
 public:
  std::int64_t wall_ms() const override;
  std::int64_t monotonic_us() const override;
};

}  // namespace fuseline
