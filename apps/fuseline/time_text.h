#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "fuseline/core/status.h"

namespace fuseline {

// "2022-04-24T09:05:41.436Z"; times outside the years 0 to 9999 as their milliseconds.
std::string TimeText(std::int64_t ms);

// Milliseconds since the epoch, or a time in UTC as TimeText writes it, the parts behind the day optional.
// Errors: kInvalidInput.
Result<std::int64_t> ParseTime(std::string_view text);

}  // namespace fuseline
