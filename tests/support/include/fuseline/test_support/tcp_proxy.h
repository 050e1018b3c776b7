#pragma once

#include <cstdint>
#include <memory>

#include "fuseline/core/status.h"

namespace fuseline::test {

// What a network does to those who speak through it.
struct LinkConditions {
  std::int64_t delay_ms = 0;     // Each chunk arrives so much later, each way, ...
  std::int64_t jitter_ms = 0;    // ... and up to so much more. Order stays.
  std::int64_t bytes_per_s = 0;  // Each way of each connection; 0: no limit.
  bool holds = false;            // A black hole: connections come about, and no byte goes either way until this ends.
  bool refuses = false;          // Nobody listens. Connections of before live on.
};

// A TCP proxy on a loopback port that disturbs what it passes on, as a network would: bytes come late, or never, or the connection
// breaks, but they are never altered, lost from the middle or put in another order. It stands between one process and a server that
// tells it to connect there. One thread of its own, poll(2); a pass costs it some 20 us for up to 64 KiB. Thread-safe.
class TcpProxy {
 public:
  // Holds its port from here on, whether it listens or not. `seed`: of the jitter. Errors: kUnavailable for want of sockets.
  static Result<std::unique_ptr<TcpProxy>> Start(std::uint64_t seed);
  ~TcpProxy();  // Cuts everything.

  int port() const;
  // Each is in force when it returns.
  void Serve(int server_port);  // Where to connect from now on, on loopback. Without it every connection breaks at once.
  void Set(const LinkConditions& conditions);
  void Cut();  // Resets every connection of now, towards both sides: what was on its way is gone.

  struct Counts {
    std::uint64_t connections = 0, cut = 0;
    std::uint64_t bytes = 0;  // Passed on, both ways.
  };
  Counts counts() const;

 private:
  struct Loop;
  explicit TcpProxy(std::unique_ptr<Loop> loop);
  std::unique_ptr<Loop> loop_;
};

}  // namespace fuseline::test
