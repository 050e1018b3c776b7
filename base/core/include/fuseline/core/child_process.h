#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "fuseline/core/status.h"

namespace fuseline {

// A program that lives no longer than its owner: the kernel ends it when the thread that started it dies, Stop() ends it
// sooner. Start it from a thread that stays. Thread-compatible.
class ChildProcess {
 public:
  // `arguments[0]` is looked up in PATH. Output of both kinds goes to `output_file` (empty: where ours goes).
  // Errors: kNotFound if there is no such program, kUnavailable if it cannot be started.
  static Result<ChildProcess> Start(const std::vector<std::string>& arguments, const std::filesystem::path& output_file = {});

  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;
  ~ChildProcess();  // Kills it.

  std::int64_t pid() const { return pid_; }
  bool running();                  // False once it has ended.
  void Signal(int signal_number);  // Nothing when it has ended.
  // Asks it to end, kills it after `patience_ms`, and waits. Returns its exit status, 128 + signal when killed.
  int Stop(std::int64_t patience_ms);
  int Kill();  // SIGKILL, and waits.
  int Wait();  // Until it ends by itself.

 private:
  explicit ChildProcess(std::int64_t pid) : pid_(pid) {}
  bool Reap(bool wait);

  std::int64_t pid_ = -1;  // -1: none, or reaped.
  int exit_status_ = 0;
};

}  // namespace fuseline
