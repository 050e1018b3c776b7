#include "fuseline/test_support/server.h"

#include <chrono>
#include <deque>
#include <fstream>
#include <thread>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace fuseline::test {

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

Status WaitUntilReady(ChildProcess& process, const std::string& output_path, int patience_ms,
                      const std::function<bool()>& ready) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(patience_ms);
  while (process.running() && std::chrono::steady_clock::now() < deadline) {
    if (ready()) return OkStatus();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return ErrorStatus(Code::kUnavailable,
                     process.running() ? "not ready in time;" : "ended while it was starting;",
                     "its last lines:\n" + TailOfFile(output_path, /*lines_max=*/20));
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
