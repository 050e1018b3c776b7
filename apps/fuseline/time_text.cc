#include "time_text.h"

#include <charconv>
#include <chrono>
#include <cstdio>
#include <ctime>

namespace fuseline {
namespace {

constexpr std::int64_t kLastMs = 253'402'300'799'999;  // Of the year 9999.

}  // namespace

std::string TimeText(std::int64_t ms) {
  if (ms < 0 || ms > kLastMs) return std::to_string(ms) + " ms";
  const auto seconds = static_cast<std::time_t>(ms / 1000);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  char day[32], text[48];
  std::strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(text, sizeof text, "%s.%03dZ", day, static_cast<int>(ms % 1000));
  return text;
}

Result<std::int64_t> ParseTime(std::string_view text) {
  std::int64_t ms = 0;
  const char* const end = text.data() + text.size();
  const auto number = std::from_chars(text.data(), end, ms);
  if (!text.empty() && number.ec == std::errc() && number.ptr == end) return ms;
  int year = 0, month = 0, day = 0, hour = 0, minute = 0, used = 0;
  double second = 0;
  const std::string whole(text);
  const int parts = std::sscanf(whole.c_str(), "%4d-%2d-%2d%nT%2d:%2d%n:%lf%n", &year, &month, &day, &used, &hour,
                                &minute, &used, &second, &used);
  const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day))};
  const std::string_view rest = std::string_view(whole).substr(static_cast<std::size_t>(used));
  const bool reads = (parts == 3 || parts == 5 || parts == 6) && (rest.empty() || rest == "Z");
  if (!reads || !date.ok() || hour > 23 || minute > 59 || second < 0 || second >= 60) {
    return Error(Code::kInvalidInput, "a time is milliseconds since 1970, or 2022-04-24T09:05:41.436Z, not", text);
  }
  const auto midnight = std::chrono::sys_days(date).time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(midnight).count() + (hour * 60 + minute) * 60'000 +
         static_cast<std::int64_t>(second * 1000 + 0.5);
}

}  // namespace fuseline
