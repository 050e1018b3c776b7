#include "fuseline/core/child_process.h"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace fuseline {
namespace {

// In the child, between fork and exec: only async-signal-safe calls.
[[noreturn]] void BecomeProgram(char* const* arguments, const char* output_file, pid_t parent, int report) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);  // The parent died before the line above.
  ::setpgid(0, 0);                          // Ctrl-C in the terminal is for the parent, which stops us in its order.
  if (*output_file != '\0') {
    const int output = ::open(output_file, O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (output >= 0) {
      ::dup2(output, STDOUT_FILENO);
      ::dup2(output, STDERR_FILENO);
    }
  }
  const int input = ::open("/dev/null", O_RDONLY);
  if (input >= 0) ::dup2(input, STDIN_FILENO);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execvp(arguments[0], arguments);
  const int reason = errno;
  [[maybe_unused]] const ssize_t written = ::write(report, &reason, sizeof reason);
  ::_exit(127);
}

}  // namespace

Result<ChildProcess> ChildProcess::Start(const std::vector<std::string>& arguments,
                                         const std::filesystem::path& output_file) {
  std::vector<char*> pointers;
  for (const std::string& argument : arguments) pointers.push_back(const_cast<char*>(argument.c_str()));
  pointers.push_back(nullptr);
  int report[2];  // Closed by a successful exec; otherwise carries errno.
  if (::pipe2(report, O_CLOEXEC) != 0) return Error(Code::kUnavailable, "cannot make a pipe:", std::strerror(errno));

  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid == 0) BecomeProgram(pointers.data(), output_file.c_str(), parent, report[1]);
  ::close(report[1]);
  if (pid < 0) {
    ::close(report[0]);
    return Error(Code::kUnavailable, "cannot fork:", std::strerror(errno));
  }
  int reason = 0;
  const bool failed = ::read(report[0], &reason, sizeof reason) == static_cast<ssize_t>(sizeof reason);
  ::close(report[0]);
  if (failed) {
    ::waitpid(pid, nullptr, 0);
    const Code code = reason == ENOENT ? Code::kNotFound : Code::kUnavailable;
    return Error(code, "cannot start program:", arguments.front(), std::strerror(reason));
  }
  return ChildProcess(pid);
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), exit_status_(other.exit_status_) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(exit_status_, other.exit_status_);
  return *this;
}

ChildProcess::~ChildProcess() {
  if (pid_ > 0) Kill();
}

bool ChildProcess::Reap(bool wait) {
  if (pid_ <= 0) return true;
  int status = 0;
  pid_t got = 0;
  do {
    got = ::waitpid(static_cast<pid_t>(pid_), &status, wait ? 0 : WNOHANG);
  } while (got < 0 && errno == EINTR);
  if (got == 0) return false;
  exit_status_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  pid_ = -1;
  return true;
}

bool ChildProcess::running() { return !Reap(/*wait=*/false); }

void ChildProcess::Signal(int signal_number) {
  if (!Reap(/*wait=*/false)) ::kill(static_cast<pid_t>(pid_), signal_number);
}

int ChildProcess::Stop(std::int64_t patience_ms) {
  Signal(SIGTERM);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(patience_ms);
  while (running() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return Kill();
}

int ChildProcess::Kill() {
  Signal(SIGKILL);
  return Wait();
}

int ChildProcess::Wait() {
  Reap(/*wait=*/true);
  return exit_status_;
}

}  // namespace fuseline
