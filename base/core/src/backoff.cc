#include "fuseline/core/backoff.h"

#include <algorithm>

namespace fuseline {

Backoff::Backoff(std::int64_t first_ms, std::int64_t longest_ms, std::uint64_t seed)
    : first_ms_(first_ms), longest_ms_(longest_ms), current_ms_(first_ms), random_(seed, "backoff", 0) {}

std::int64_t Backoff::NextMs() {
  const std::int64_t whole_ms = current_ms_;
  current_ms_ = std::min(longest_ms_, current_ms_ * 2);
  return whole_ms / 2 + static_cast<std::int64_t>(random_.NextBelow(static_cast<std::uint64_t>(whole_ms / 2 + 1)));
}

void Backoff::Reset() { current_ms_ = first_ms_; }

}  // namespace fuseline
