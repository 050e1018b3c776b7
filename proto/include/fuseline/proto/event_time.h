#pragma once

#include <cstdint>
#include <limits>

namespace fuseline {

// Stream time before the first event, and after the end of a finite input.
inline constexpr std::int64_t kBeforeTimeMs = std::numeric_limits<std::int64_t>::min() / 4;
inline constexpr std::int64_t kEndOfTimeMs = std::numeric_limits<std::int64_t>::max() / 4;

}  // namespace fuseline
