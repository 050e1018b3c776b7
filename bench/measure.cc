#include "measure.h"

#include <ctime>
#include <fstream>
#include <string>

#include "fuseline/core/check.h"

namespace fuseline::bench {
namespace {

double Seconds(clockid_t clock) {
  timespec now{};
  FUSELINE_CHECK(clock_gettime(clock, &now) == 0);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double StatusMib(const std::string& field) {  // /proc/self/status counts in KiB.
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(field + ":")) return std::strtod(line.c_str() + field.size() + 1, nullptr) / 1024;
  }
  return 0;
}

}  // namespace

Cost CostOf(const std::function<void()>& work) {
  const double cpu_s = Seconds(CLOCK_PROCESS_CPUTIME_ID), wall_s = Seconds(CLOCK_MONOTONIC);
  work();
  return {Seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu_s, Seconds(CLOCK_MONOTONIC) - wall_s};
}

double ThreadSeconds() { return Seconds(CLOCK_THREAD_CPUTIME_ID); }

double MemoryMib() { return StatusMib("VmRSS"); }
double PeakMemoryMib() { return StatusMib("VmHWM"); }

}  // namespace fuseline::bench
