#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fuseline/core/child_process.h"
#include "fuseline/core/status.h"
#include "fuseline/test_support/temp_dir.h"

namespace fuseline::test {

// A real redis-server that belongs to one test: in a temporary folder, on a Unix socket and, if
// asked, on a free loopback port, with the eviction policy that Fuseline demands.
// Thread-compatible.
class RedisProcess {
 public:
  struct Options {
    bool tcp = false;          // Also listen on 127.0.0.1:port().
    bool append_only = false;  // Keep the data over Kill() and Restart(); else a restart is empty.
    std::vector<std::string>
        extra_args;  // Handed to redis-server, e.g. {"--maxmemory-policy", "allkeys-lru"}.
  };

  // Returns once the server answers PING, within 10 s.
  // Errors: kUnavailable if it cannot be started; the message ends with its log.
  static Result<std::unique_ptr<RedisProcess>> Start(Options options);
  static Result<std::unique_ptr<RedisProcess>> Start() { return Start(Options()); }

  const std::string& socket_path() const { return socket_path_; }
  int port() const { return port_; }  // 0 without Options::tcp.
  std::int64_t pid() const { return process_->pid(); }

  void Kill();       // SIGKILL: as a power cut, for the server.
  Status Restart();  // The same folder, socket and port. REQUIRES: it was killed or has ended.
  void Pause();      // SIGSTOP: connections stay, answers stop.
  void Resume();     // SIGCONT.

  // Runs one command and returns the answer as redis-cli prints it, without its last newline:
  // `Command({"FLUSHALL"})` is "OK". Errors: kUnavailable if the server does not answer,
  // kInvalidInput if it answers with an error.
  Result<std::string> Command(const std::vector<std::string>& args);

 private:
  explicit RedisProcess(Options options) : options_(std::move(options)) {}
  Status Launch();

  Options options_;
  TempDir dir_;  // Outlives the process below.
  std::string socket_path_;
  int port_ = 0;
  std::optional<ChildProcess> process_;
};

}  // namespace fuseline::test
