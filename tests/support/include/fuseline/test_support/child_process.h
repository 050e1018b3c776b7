#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "fuseline/core/status.h"

namespace fuseline::test {

// A loopback TCP port that nothing listens on at the moment of the call. Somebody else may take it before it is used,
// so whoever starts a server on it is ready to try another one.
int FreePort();

// One program that a test runs beside itself: started with fork and exec, stopped by its process id alone, and killed by
// the kernel when the thread that started it ends, so that an aborted test leaves nothing running.
//
// Start it from the test's main thread (the kernel's promise is about the starting thread). Thread-compatible.
class ChildProcess {
 public:
  struct Options {
    std::vector<std::string> command;                // command[0] is looked up in PATH.
    std::map<std::string, std::string> environment;  // Added to this process's own.
    std::string output_path;                         // stdout and stderr go here, appended; empty: /dev/null.
  };

  // Errors: kUnavailable if the program cannot be executed; names it.
  static Result<ChildProcess> Start(const Options& options);

  ~ChildProcess();  // Kill().
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;

  pid_t pid() const { return pid_; }

  // True until the program has ended by itself or by a signal.
  bool running();

  void Signal(int signal);  // Nothing happens if it has ended.
  void Kill();              // SIGKILL, and waits for its end.

  // Sends `signal` and waits for the end; SIGKILL once `patience_ms` have passed.
  // Returns what WaitForExit returns.
  int Stop(int signal, int patience_ms);

  // Waits up to `patience_ms` for the end. Returns the exit status, 128 + n if signal n ended it, -1 if it still runs.
  int WaitForExit(int patience_ms);

 private:
  explicit ChildProcess(pid_t pid) : pid_(pid) {}

  pid_t pid_ = -1;         // -1 once moved from.
  int exit_status_ = -1;   // -1 while it runs.
};


// Asks `ready` every few milliseconds until it says yes, `process` has ended or `patience_ms` have passed.
// Errors: kUnavailable, with the last lines of `output_path`.
Status WaitUntilReady(ChildProcess& process, const std::string& output_path, int patience_ms,
                      const std::function<bool()>& ready);

// The last `lines_max` lines of a file, for messages; empty if there is none.
std::string TailOfFile(const std::string& path, int lines_max);

}  // namespace fuseline::test
