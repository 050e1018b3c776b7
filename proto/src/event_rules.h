#pragma once

#include <cstdint>

namespace fuseline {

// The numbers behind the promises of event.proto, for both that check them: ValidateEvent and ScanEvent.
inline constexpr std::int64_t kEndOfYear9999Ms = 253'402'300'799'999;
inline constexpr int kDigestBytes = 32;
// The difference of two rounded floats may miss the box's edge by their rounding.
inline constexpr float kBoxTolerance = 1e-5F;

// A coverage of 1, in 1/10,000.
inline constexpr std::uint32_t kWholeCoverage = 10'000;
inline constexpr int kShadowsMax = 16;

}  // namespace fuseline
