#pragma once

#include <charconv>
#include <cstdint>
#include <string_view>

#include "fuseline/core/status.h"

namespace fuseline {

// A decimal number as Redis gives it. Errors: kCorrupt for anything else.
inline Result<std::uint64_t> ParseNumber(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size()) return number;
  return Error(Code::kCorrupt, "redis holds no number where one is expected:", text);
}

}  // namespace fuseline
