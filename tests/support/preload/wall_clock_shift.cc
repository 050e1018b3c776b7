// Preloaded into a program under test: its wall clock is off by FUSELINE_WALL_CLOCK_SHIFT_S seconds, as on a machine whose
// time nobody keeps. The monotonic clock is left alone, and a wait until a wall time of this clock still ends when it should: the kernel's clock
// is right, so the shift is taken off again. libfaketime does not reach into C11's condition variables, with which the Kafka client waits.

#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>

#include <cstdlib>

namespace {

constexpr time_t kWallTimeMin = 1'000'000'000;  // Less is a monotonic time: seconds since the machine started.

time_t Shift() {
  static const time_t shift = [] {
    const char* seconds = std::getenv("FUSELINE_WALL_CLOCK_SHIFT_S");
    return seconds == nullptr ? 0 : static_cast<time_t>(std::strtoll(seconds, nullptr, 10));
  }();
  return shift;
}

template <typename Function>
Function* Real(const char* name, const char* version = nullptr) {
  return reinterpret_cast<Function*>(version == nullptr ? dlsym(RTLD_NEXT, name) : dlvsym(RTLD_NEXT, name, version));
}

timespec KernelTime(const timespec& time) {
  timespec kernel = time;
  if (kernel.tv_sec > kWallTimeMin) kernel.tv_sec -= Shift();
  return kernel;
}

}  // namespace

extern "C" {

int clock_gettime(clockid_t clock, timespec* now) noexcept {
  static auto* const real = Real<int(clockid_t, timespec*)>("clock_gettime");
  const int result = real(clock, now);
  if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += Shift();
  return result;
}

int gettimeofday(timeval* now, void* zone) noexcept {
  static auto* const real = Real<int(timeval*, void*)>("gettimeofday");
  const int result = real(now, zone);
  if (result == 0) now->tv_sec += Shift();
  return result;
}

int timespec_get(timespec* now, int base) noexcept {
  static auto* const real = Real<int(timespec*, int)>("timespec_get");
  const int result = real(now, base);
  if (result == TIME_UTC) now->tv_sec += Shift();
  return result;
}

time_t time(time_t* now) noexcept {
  timespec shifted{};
  clock_gettime(CLOCK_REALTIME_COARSE, &shifted);
  if (now != nullptr) *now = shifted.tv_sec;
  return shifted.tv_sec;
}

// Conditions and locks are none of our business: pointers that are handed on.
int pthread_cond_timedwait(void* condition, void* lock, const timespec* until) {
  static auto* const real = Real<int(void*, void*, const timespec*)>("pthread_cond_timedwait", "GLIBC_2.3.2");
  const timespec kernel = KernelTime(*until);
  return real(condition, lock, &kernel);
}

int cnd_timedwait(void* condition, void* lock, const timespec* until) {
  static auto* const real = Real<int(void*, void*, const timespec*)>("cnd_timedwait");
  const timespec kernel = KernelTime(*until);
  return real(condition, lock, &kernel);
}

}  // extern "C"
