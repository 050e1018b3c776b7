#pragma once

namespace fuseline {

[[noreturn]] void CheckFailed(const char* condition, const char* file, int line);

}  // namespace fuseline

// Always on. Only for our own invariants, never for input: a broken one stops the process.
#define FUSELINE_CHECK(condition)                                          \
  do {                                                                     \
    if (!(condition)) ::fuseline::CheckFailed(#condition, __FILE__, __LINE__); \
  } while (false)
