#include "watched_thread.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <thread>

#include <dlfcn.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/ucontext.h>

#include "fuseline/core/check.h"

namespace fuseline::test {
namespace {

constexpr char kAllow = 0, kBlock = 1;

// Of the calling thread. Plain data of the program itself: to reach it allocates nothing.
constinit thread_local bool watched = false;
constinit thread_local Deeds deeds;
constinit thread_local char selector = kAllow;  // Read by the kernel at each system call, once it was told to.

#if defined(__x86_64__) && defined(PR_SET_SYSCALL_USER_DISPATCH)

// In place of a system call of the watched thread.
void Refuse(int, siginfo_t* info, void* context) {
  selector = kAllow;
  watched = false;
  ++deeds.system_calls;
  deeds.system_call = info->si_syscall;
  static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RAX] = -ENOSYS;
}

bool WatchSystemCalls() {
  struct sigaction action {};
  action.sa_sigaction = Refuse;
  action.sa_flags = SA_SIGINFO;
  FUSELINE_CHECK(sigaction(SIGSYS, &action, nullptr) == 0);
  return prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0UL, 0UL, &selector) == 0;
}

#else

bool WatchSystemCalls() { return false; }

#endif

}  // namespace

void Watch::Begin() {
  watched = true;
  selector = kBlock;
}

void Watch::End() {
  selector = kAllow;
  watched = false;
}

Deeds Watch::Run(const std::function<void()>& work) {
  Deeds done;
  std::thread([&] {
    deeds.saw_system_calls = WatchSystemCalls();
    work();
    done = deeds;
  }).join();
  return done;
}

}  // namespace fuseline::test

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)

bool fuseline::test::CanWatch() { return false; }

#else

bool fuseline::test::CanWatch() { return true; }

namespace {

using fuseline::test::Deeds;

void Count(std::uint64_t Deeds::*what) {
  if (fuseline::test::watched) ++(fuseline::test::deeds.*what);
}

template <typename Lock>
Lock LockOf(int (*function)(Lock*) noexcept);  // Names the type that a function takes.

// The C library's own function of that name.
template <typename Function>
Function* Next(std::atomic<void*>& found, const char* name) {
  void* function = found.load(std::memory_order_acquire);
  if (function == nullptr) found.store(function = dlsym(RTLD_NEXT, name), std::memory_order_release);
  return reinterpret_cast<Function*>(function);
}

}  // namespace

extern "C" {

// glibc's other names for the functions that are replaced.
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* old, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);
void __libc_free(void* block);

void* malloc(std::size_t size) noexcept {
  Count(&Deeds::allocations);
  return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) noexcept {
  Count(&Deeds::allocations);
  return __libc_calloc(count, size);
}
void* realloc(void* old, std::size_t size) noexcept {
  Count(&Deeds::allocations);
  return __libc_realloc(old, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  Count(&Deeds::allocations);
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** block, std::size_t alignment, std::size_t size) noexcept {
  Count(&Deeds::allocations);
  *block = __libc_memalign(alignment, size);
  return *block == nullptr ? ENOMEM : 0;
}
void free(void* block) noexcept {
  if (block != nullptr) Count(&Deeds::releases);
  __libc_free(block);
}

#define FUSELINE_COUNTED_LOCK(name)                      \
  int name(decltype(LockOf(&name))* lock) noexcept {     \
    static std::atomic<void*> next;                      \
    Count(&Deeds::locks);                                \
    return Next<int(decltype(lock))>(next, #name)(lock); \
  }
FUSELINE_COUNTED_LOCK(pthread_mutex_lock)
FUSELINE_COUNTED_LOCK(pthread_mutex_trylock)
FUSELINE_COUNTED_LOCK(pthread_rwlock_rdlock)
FUSELINE_COUNTED_LOCK(pthread_rwlock_wrlock)
#undef FUSELINE_COUNTED_LOCK

}  // extern "C"

#endif
