#include "stop_signal.h"

#include <atomic>
#include <csignal>
#include <thread>

#include <unistd.h>

#include "command.h"

namespace fuseline {

// Signals are blocked in every thread and waited for in this one, so no code of ours runs inside a handler.
struct StopSignal::Watcher {
  sigset_t signals;
  std::atomic<bool> leaving = false;
  std::thread thread;
};

StopSignal::StopSignal() : watcher_(new Watcher) {
  sigemptyset(&watcher_->signals);
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1}) sigaddset(&watcher_->signals, signal);
  ::pthread_sigmask(SIG_BLOCK, &watcher_->signals, nullptr);
  watcher_->thread = std::thread([this] {
    for (;;) {
      int signal = 0;
      if (::sigwait(&watcher_->signals, &signal) != 0) continue;
      if (watcher_->leaving) return;
      if (signal == SIGUSR1) continue;
      if (source_.stop_requested()) ::_exit(kExitInterrupted);
      source_.request_stop();
    }
  });
}

StopSignal::~StopSignal() {
  watcher_->leaving = true;
  ::pthread_kill(watcher_->thread.native_handle(), SIGUSR1);
  watcher_->thread.join();
  delete watcher_;
}

}  // namespace fuseline
