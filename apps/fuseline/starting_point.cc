#include "starting_point.h"

#include <charconv>

namespace fuseline {

Result<kafka::StartPosition> ParseStartingPoint(std::string_view text) {
  if (text == "earliest") return kafka::StartPosition::Earliest();
  if (text == "latest") return kafka::StartPosition::Latest();
  for (const auto& [prefix, make] : {std::pair(std::string_view("offset:"), &kafka::StartPosition::Offset),
                                     std::pair(std::string_view("time:"), &kafka::StartPosition::Timestamp)}) {
    if (!text.starts_with(prefix)) continue;
    const std::string_view number = text.substr(prefix.size());
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
    if (error == std::errc() && end == number.data() + number.size() && value >= 0) return make(value);
  }
  return Error(Code::kInvalidInput, "a starting point is earliest, latest, offset:N or time:MS, not", text);
}

}  // namespace fuseline
