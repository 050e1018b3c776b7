#pragma once

#include <cstdint>
#include <functional>

namespace fuseline::test {

// What a thread did of the things that a request's path may not do.
struct Deeds {
  std::uint64_t allocations = 0;   // malloc and its kin, and so every operator new,
  std::uint64_t releases = 0;      // and free of anything but null.
  std::uint64_t locks = 0;         // POSIX mutexes and read-write locks, and so the standard library's.
  bool saw_system_calls = false;   // Whether this kernel can tell them (x86-64, Linux 5.11); if it can:
  std::uint64_t system_calls = 0;  // 1 if there was any: the first one fails, and the watch is over.
  std::int64_t system_call = -1;   // Its number.
};

// Whether this build can watch: not under a sanitizer, which has an allocator and locks of its own.
bool CanWatch();

// Runs `work` on a thread of its own, and counts what that thread does while `work` watches it.
// The program that links this has the C library's allocator and locks replaced by ones that count, then do the same.
class Watch {
 public:
  static void Begin();  // Of the calling thread. REQUIRES: it is inside Run.
  static void End();
  static Deeds Run(const std::function<void()>& work);
};

}  // namespace fuseline::test
