#pragma once

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <utility>

#include "fuseline/core/status.h"

namespace fuseline::bench {

// A benchmark has nobody to answer to: it says what is wrong and ends.
template <typename T>
T Must(Result<T> result) {
  if (result) return std::move(*result);
  std::fprintf(stderr, "%s\n", result.error().message.c_str());
  std::exit(1);
}
inline void Must(const Status& status) {
  if (!status.ok()) Must(Result<int>(tl::unexpected<Status>(status)));
}

// What a piece of work cost. CPU time is user and system time of all threads of the process that did it.
struct Cost {
  double cpu_s = 0;
  double wall_s = 0;
};
Cost CostOf(const std::function<void()>& work);  // Here, in this process.
double ThreadSeconds();                          // Of CPU, so far, of the calling thread.

// Resident memory of this process: now, and most so far.
double MemoryMib();
double PeakMemoryMib();

}  // namespace fuseline::bench
