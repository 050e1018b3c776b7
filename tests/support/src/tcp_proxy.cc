#include "fuseline/test_support/tcp_proxy.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <deque>
#include <limits>
#include <list>
#include <string>
#include <utility>
#include <vector>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuseline/core/clock.h"
#include "fuseline/core/guarded.h"
#include "fuseline/core/random.h"
#include "fuseline/core/stage.h"

namespace fuseline::test {
namespace {

constexpr std::size_t kChunkBytes = 64 << 10;
constexpr std::size_t kUnderWayBytesMax = 4 << 20;  // One way of one connection; then its sender waits, as in a full pipe.

class Descriptor {
 public:
  explicit Descriptor(int number = -1) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor() {
    if (number_ >= 0) close(number_);
  }
  int get() const { return number_; }
  bool open() const { return number_ >= 0; }

 private:
  int number_;
};

sockaddr_in Loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

// Bound, not listening. Another socket may be bound beside it, and listen.
Descriptor BoundSocket(int port) {
  Descriptor made(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int yes = 1;
  setsockopt(made.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  const sockaddr_in address = Loopback(port);
  if (bind(made.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return Descriptor();
  return made;
}

int PortOf(const Descriptor& socket) {
  sockaddr_in address{};
  socklen_t length = sizeof address;
  getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &length);
  return ntohs(address.sin_port);
}

// To loopback a connection is there, or refused, at once.
Descriptor Connected(int port) {
  Descriptor made(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const sockaddr_in address = Loopback(port);
  if (connect(made.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 && errno != EINPROGRESS) return Descriptor();
  return made;
}

// The close that follows sends a reset.
void ResetOnClose(const Descriptor& socket) {
  const linger none{.l_onoff = 1, .l_linger = 0};
  setsockopt(socket.get(), SOL_SOCKET, SO_LINGER, &none, sizeof none);
}

// One way of a connection.
struct Way {
  struct Chunk {
    std::int64_t due_us = 0;
    std::string bytes;
    std::size_t sent = 0;
  };
  std::deque<Chunk> chunks;
  std::size_t bytes = 0;
  std::int64_t last_due_us = 0;
  bool ended = false;     // Its sender says no more ...
  bool shut_down = false;  // ... and its receiver knows.

  bool WantsMore() const { return !ended && bytes < kUnderWayBytesMax; }
  bool IsDue(std::int64_t now_us) const { return !chunks.empty() && chunks.front().due_us <= now_us; }
};

struct Pair {
  std::array<Descriptor, 2> ends;  // Client, server.
  std::array<Way, 2> ways;         // ways[e] begins at ends[e].
  bool broken = false;
};

struct Control {
  LinkConditions conditions;
  int server_port = 0;
  bool cuts = false;
  std::uint64_t number = 0;  // Of the last order.
};

}  // namespace

struct TcpProxy::Loop {
  Loop(Descriptor reserved, Descriptor wake_up, std::uint64_t seed)
      : reservation(std::move(reserved)), wake(std::move(wake_up)), port(PortOf(reservation)), jitter(seed, "tcp proxy", 0) {}

  Status Run(std::stop_token stop);
  void Obey();
  void Accept();
  void Poll();
  void Serve(Pair& pair, std::size_t end, short events);
  void Receive(Pair& pair, std::size_t end);
  void Send(Pair& pair, std::size_t end);
  void CutAll();
  int TimeoutMs(std::int64_t now_us) const;
  void Break(Pair& pair);
  void WakeUp() {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(wake.get(), &one, sizeof one);
  }
  // Returns when it is done.
  template <typename Change>
  void Tell(Change change) {
    const std::uint64_t number = control.With([&](Control& given) {
      change(given);
      return ++given.number;
    });
    WakeUp();
    for (std::uint64_t done = obeyed; done < number; done = obeyed) obeyed.wait(done);
  }

  const Descriptor reservation, wake;
  const int port;
  Guarded<Control> control;
  std::atomic<std::uint64_t> obeyed = 0;
  Guarded<Counts> counts;

  // The thread's own.
  const SystemClock clock;
  Random jitter;
  LinkConditions conditions;
  int server_port = 0;
  Descriptor listener;
  std::list<Pair> pairs;
  std::string buffer = std::string(kChunkBytes, '\0');

  std::unique_ptr<Stage> thread;  // Last: it uses the members above.
};

Status TcpProxy::Loop::Run(std::stop_token stop) {
  const std::stop_callback wakes(stop, [this] { WakeUp(); });
  while (!stop.stop_requested()) {
    Obey();
    Poll();
    std::erase_if(pairs, [](const Pair& pair) { return pair.broken || (pair.ways[0].shut_down && pair.ways[1].shut_down); });
  }
  CutAll();
  return OkStatus();
}

void TcpProxy::Loop::Obey() {
  const Control asked = control.With([](Control& given) {
    const Control copy = given;
    given.cuts = false;
    return copy;
  });
  conditions = asked.conditions;
  server_port = asked.server_port;
  if (asked.cuts) CutAll();
  if (conditions.refuses) {
    listener = Descriptor();
  } else if (!listener.open()) {
    listener = BoundSocket(port);
    listen(listener.get(), SOMAXCONN);
  }
  obeyed = asked.number;
  obeyed.notify_all();
}

void TcpProxy::Loop::CutAll() {
  counts.With([&](Counts& all) { all.cut += pairs.size(); });
  for (const Pair& pair : pairs) {
    for (const Descriptor& end : pair.ends) ResetOnClose(end);
  }
  pairs.clear();
}

void TcpProxy::Loop::Accept() {
  Descriptor client(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!client.open()) return;
  Descriptor server = Connected(server_port);
  if (!server.open()) ResetOnClose(client);
  if (!server.open()) return;
  const int yes = 1;
  for (const Descriptor* end : {&client, &server}) setsockopt(end->get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  pairs.push_back({.ends = {std::move(client), std::move(server)}});
  counts.With([](Counts& all) { ++all.connections; });
}

// While it holds, nobody's descriptor is looked at: an end that closed would be news again and again.
void TcpProxy::Loop::Poll() {
  std::vector<pollfd> asked = {{wake.get(), POLLIN, 0}, {listener.get(), POLLIN, 0}};
  const std::int64_t now_us = clock.monotonic_us();
  for (const Pair& pair : pairs) {
    for (std::size_t end = 0; end < 2; ++end) {
      const auto events = static_cast<short>((pair.ways[end].WantsMore() ? POLLIN : 0) | (pair.ways[1 - end].IsDue(now_us) ? POLLOUT : 0));
      asked.push_back({conditions.holds || events == 0 ? -1 : pair.ends[end].get(), events, 0});
    }
  }
  if (poll(asked.data(), asked.size(), TimeoutMs(now_us)) < 0) return;
  std::uint64_t woken = 0;
  if (asked[0].revents != 0) [[maybe_unused]] const ssize_t taken = read(wake.get(), &woken, sizeof woken);
  auto answer = asked.begin() + 2;
  for (Pair& pair : pairs) {
    for (std::size_t end = 0; end < 2; ++end, ++answer) Serve(pair, end, answer->revents);
  }
  if (asked[1].revents != 0) Accept();
}

// Until the next chunk is due. One that is due already waits for its receiver, which poll reports.
int TcpProxy::Loop::TimeoutMs(std::int64_t now_us) const {
  if (conditions.holds) return -1;
  std::int64_t first_us = std::numeric_limits<std::int64_t>::max();
  for (const Pair& pair : pairs) {
    for (const Way& way : pair.ways) {
      if (!way.chunks.empty() && !way.IsDue(now_us)) first_us = std::min(first_us, way.chunks.front().due_us);
    }
  }
  return first_us == std::numeric_limits<std::int64_t>::max() ? -1 : static_cast<int>((first_us - now_us) / 1'000 + 1);
}

// A reset is passed on.
void TcpProxy::Loop::Break(Pair& pair) {
  pair.broken = true;
  for (const Descriptor& each : pair.ends) ResetOnClose(each);
}

void TcpProxy::Loop::Serve(Pair& pair, std::size_t end, short events) {
  if (pair.broken || events == 0) return;
  if ((events & (POLLIN | POLLHUP | POLLERR)) != 0 && pair.ways[end].WantsMore()) Receive(pair, end);
  if ((events & (POLLOUT | POLLHUP | POLLERR)) != 0) Send(pair, 1 - end);
}

void TcpProxy::Loop::Receive(Pair& pair, std::size_t end) {
  Way& way = pair.ways[end];
  const ssize_t count = recv(pair.ends[end].get(), buffer.data(), buffer.size(), 0);
  if (count < 0) {
    if (errno != EAGAIN && errno != EINTR) Break(pair);
    return;
  }
  const auto more_ms = static_cast<std::int64_t>(jitter.NextBelow(static_cast<std::uint64_t>(conditions.jitter_ms) + 1));
  const std::int64_t wait_ms = conditions.delay_ms + more_ms;
  way.last_due_us = std::max(way.last_due_us, clock.monotonic_us() + wait_ms * 1'000);
  if (conditions.bytes_per_s > 0) way.last_due_us += count * 1'000'000 / conditions.bytes_per_s;
  way.ended = count == 0;
  way.bytes += static_cast<std::size_t>(count);
  way.chunks.push_back({.due_us = way.last_due_us, .bytes = buffer.substr(0, static_cast<std::size_t>(count))});
}

// What is due of the way that begins at `end`. An empty chunk is its end.
void TcpProxy::Loop::Send(Pair& pair, std::size_t end) {
  Way& way = pair.ways[end];
  const int receiver = pair.ends[1 - end].get();
  const std::int64_t now_us = clock.monotonic_us();
  std::uint64_t passed = 0;
  while (way.IsDue(now_us) && !pair.broken) {
    Way::Chunk& chunk = way.chunks.front();
    if (chunk.bytes.empty()) {
      shutdown(receiver, SHUT_WR);
      way.shut_down = true;
    } else {
      const ssize_t count = send(receiver, chunk.bytes.data() + chunk.sent, chunk.bytes.size() - chunk.sent, MSG_NOSIGNAL);
      if (count < 0 && (errno == EAGAIN || errno == EINTR)) break;
      if (count < 0) Break(pair);
      if (count < 0) break;
      passed += static_cast<std::uint64_t>(count);
      chunk.sent += static_cast<std::size_t>(count);
      way.bytes -= static_cast<std::size_t>(count);
      if (chunk.sent < chunk.bytes.size()) continue;
    }
    way.chunks.pop_front();
  }
  counts.With([&](Counts& all) { all.bytes += passed; });
}

TcpProxy::TcpProxy(std::unique_ptr<Loop> loop) : loop_(std::move(loop)) {}
TcpProxy::~TcpProxy() = default;

Result<std::unique_ptr<TcpProxy>> TcpProxy::Start(std::uint64_t seed) {
  Descriptor reservation = BoundSocket(0);
  Descriptor wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!reservation.open() || !wake.open()) return Error(Code::kUnavailable, "no socket for a proxy:", std::strerror(errno));
  auto loop = std::make_unique<Loop>(std::move(reservation), std::move(wake), seed);
  loop->Obey();  // It listens when this returns.
  loop->thread = std::make_unique<Stage>("proxy", [loop = loop.get()](std::stop_token stop) { return loop->Run(stop); });
  return std::unique_ptr<TcpProxy>(new TcpProxy(std::move(loop)));
}

int TcpProxy::port() const { return loop_->port; }

void TcpProxy::Serve(int server_port) {
  loop_->Tell([&](Control& control) { control.server_port = server_port; });
}

void TcpProxy::Set(const LinkConditions& conditions) {
  loop_->Tell([&](Control& control) { control.conditions = conditions; });
}

void TcpProxy::Cut() {
  loop_->Tell([](Control& control) { control.cuts = true; });
}

TcpProxy::Counts TcpProxy::counts() const { return loop_->counts.Copy(); }

}  // namespace fuseline::test
