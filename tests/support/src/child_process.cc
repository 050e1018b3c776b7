#include "fuseline/test_support/child_process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <deque>
#include <fstream>
#include <thread>
#include <utility>

extern char** environ;

namespace fuseline::test {
namespace {

constexpr auto kPollInterval = std::chrono::milliseconds(5);

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (auto& text : strings) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::vector<std::string> MergedEnvironment(const std::map<std::string, std::string>& added) {
  std::vector<std::string> merged;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    if (!added.contains(text.substr(0, text.find('=')))) merged.push_back(text);
  }
  for (const auto& [name, value] : added) merged.push_back(name + "=" + value);
  return merged;
}

// After fork only async-signal-safe calls are allowed, so everything is prepared before it. Tells the parent the errno of a
// failed exec through `report`, which closes by itself when exec succeeds.
[[noreturn]] void BecomeChild(char** command, char** environment, int output, int report, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);  // It died before the line above: nobody would ever stop us.
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  const int null_input = open("/dev/null", O_RDONLY);
  dup2(null_input, STDIN_FILENO);
  dup2(output, STDOUT_FILENO);
  dup2(output, STDERR_FILENO);
  execvpe(command[0], command, environment);
  const int error = errno;
  if (write(report, &error, sizeof error) < 0) _exit(126);
  _exit(127);
}

}  // namespace

int FreePort() {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  bind(listener, reinterpret_cast<sockaddr*>(&address), length);
  getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length);
  close(listener);
  return ntohs(address.sin_port);
}

Result<ChildProcess> ChildProcess::Start(const Options& options) {
  auto command = options.command;
  auto environment = MergedEnvironment(options.environment);
  auto command_pointers = Pointers(command);
  auto environment_pointers = Pointers(environment);
  const char* output_path = options.output_path.empty() ? "/dev/null" : options.output_path.c_str();
  const int output = open(output_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (output < 0) return Error(Code::kUnavailable, "cannot open the output file", output_path, std::strerror(errno));
  int report[2];
  if (pipe2(report, O_CLOEXEC) != 0) {
    close(output);
    return Error(Code::kUnavailable, "cannot make a pipe", std::strerror(errno));
  }

  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) BecomeChild(command_pointers.data(), environment_pointers.data(), output, report[1], parent);
  close(output);
  close(report[1]);
  int error = pid < 0 ? errno : 0;
  if (pid > 0 && read(report[0], &error, sizeof error) == sizeof error) waitpid(pid, nullptr, 0);
  close(report[0]);
  if (error != 0) return Error(Code::kUnavailable, "cannot run", options.command.front(), std::strerror(error));
  return ChildProcess(pid);
}

ChildProcess::~ChildProcess() { Kill(); }

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), exit_status_(other.exit_status_) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  if (this != &other) {
    Kill();
    pid_ = std::exchange(other.pid_, -1);
    exit_status_ = other.exit_status_;
  }
  return *this;
}

bool ChildProcess::running() { return pid_ > 0 && WaitForExit(0) == -1; }

void ChildProcess::Signal(int signal) {
  if (running()) kill(pid_, signal);
}

void ChildProcess::Kill() {
  if (pid_ > 0) Stop(SIGKILL, /*patience_ms=*/10'000);
}

int ChildProcess::Stop(int signal, int patience_ms) {
  Signal(signal);
  if (WaitForExit(patience_ms) == -1) {
    Signal(SIGKILL);
    WaitForExit(/*patience_ms=*/10'000);
  }
  return exit_status_;
}

int ChildProcess::WaitForExit(int patience_ms) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(patience_ms);
  while (exit_status_ == -1) {
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == pid_) {
      exit_status_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    } else if (std::chrono::steady_clock::now() >= deadline) {
      break;
    } else {
      std::this_thread::sleep_for(kPollInterval);
    }
  }
  return exit_status_;
}

Status WaitUntilReady(ChildProcess& process, const std::string& output_path, int patience_ms,
                      const std::function<bool()>& ready) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(patience_ms);
  while (process.running() && std::chrono::steady_clock::now() < deadline) {
    if (ready()) return {};
    std::this_thread::sleep_for(kPollInterval);
  }
  const char* why = process.running() ? "not ready in time" : "ended while it was starting";
  return Status{Code::kUnavailable, std::string(why) + "; its last lines:\n" + TailOfFile(output_path, /*lines_max=*/20)};
}

std::string TailOfFile(const std::string& path, int lines_max) {
  std::ifstream file(path);
  std::deque<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    lines.push_back(line);
    if (lines.size() > static_cast<std::size_t>(lines_max)) lines.pop_front();
  }
  std::string text;
  for (const auto& line : lines) text += line + "\n";
  return text;
}

}  // namespace fuseline::test
