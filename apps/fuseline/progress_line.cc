#include "progress_line.h"

#include <cmath>
#include <cstdio>
#include <iostream>

#include <unistd.h>

#include "fuseline/core/clock.h"

namespace fuseline {
namespace {

constexpr std::int64_t kTerminalEveryUs = 250'000;
constexpr std::int64_t kElsewhereEveryUs = 10'000'000;

}  // namespace

ProgressLine::ProgressLine() : terminal_(::isatty(STDERR_FILENO) == 1) {
  if (!terminal_) next_us_ = SystemClock().monotonic_us() + kElsewhereEveryUs;
}

ProgressLine::~ProgressLine() {
  if (terminal_ && shown_) std::cerr << '\n';
}

bool ProgressLine::due() const { return SystemClock().monotonic_us() >= next_us_; }

void ProgressLine::Show(const std::string& text) {
  if (terminal_) {
    std::cerr << "\r\x1b[K" << text << std::flush;
  } else {
    std::cerr << text << '\n';
  }
  shown_ = true;
  next_us_ = SystemClock().monotonic_us() + (terminal_ ? kTerminalEveryUs : kElsewhereEveryUs);
}

std::string EtaText(double done, double total, double elapsed_s) {
  if (done <= 0 || total < done) return "?";
  const auto seconds = static_cast<long long>(std::ceil(elapsed_s * (total - done) / done));
  char text[48];
  if (seconds < 60) {
    std::snprintf(text, sizeof text, "%lld s", seconds);
  } else if (seconds < 3600) {
    std::snprintf(text, sizeof text, "%lld min %02lld s", seconds / 60, seconds % 60);
  } else {
    std::snprintf(text, sizeof text, "%lld h %02lld min", seconds / 3600, seconds / 60 % 60);
  }
  return text;
}

std::string RateText(double per_second) {
  char text[32];
  if (per_second < 1e3) {
    std::snprintf(text, sizeof text, "%.0f", per_second);
  } else if (per_second < 1e6) {
    std::snprintf(text, sizeof text, "%.1f k", per_second / 1e3);
  } else {
    std::snprintf(text, sizeof text, "%.2f M", per_second / 1e6);
  }
  return text;
}

}  // namespace fuseline
