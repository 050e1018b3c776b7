#pragma once

#include <chrono>
#include <cstdint>
#include <thread>

namespace fuseline {

// Looks every other millisecond until `condition` holds. Returns whether it did within `patience_ms`: how long a
// machine that does much else may take, no statement about speed. In namespace fuseline, as matchers.h.
template <typename Condition>
bool Eventually(const Condition& condition, std::int64_t patience_ms = 120'000) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(patience_ms);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

}  // namespace fuseline
