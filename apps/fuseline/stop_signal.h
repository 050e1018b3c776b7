#pragma once

#include <stop_token>

namespace fuseline {

// Ctrl-C and SIGTERM as a stop token, so that every command ends at a clean checkpoint. A second signal ends the process
// at once: what was committed is safe in any case. One per process, made in main before any thread is.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  std::stop_token token() const { return source_.get_token(); }
  bool stopped() const { return source_.stop_requested(); }
  void RequestStop() { source_.request_stop(); }

 private:
  std::stop_source source_;
  struct Watcher;
  Watcher* watcher_;
};

}  // namespace fuseline
