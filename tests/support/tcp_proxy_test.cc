// What comes through the proxy is what was sent, later or never; what it refuses, cuts and holds is refused, cut and held. Between a
// client and a server of this thread, over real sockets.

#include "fuseline/test_support/tcp_proxy.h"

#include <cerrno>
#include <chrono>
#include <string>
#include <utility>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "fuseline/test_support/matchers.h"

namespace fuseline::test {
namespace {

using std::chrono::steady_clock;

constexpr int kPatienceMs = 5'000;

class Socket {
 public:
  Socket() : number_(socket(AF_INET, SOCK_STREAM, 0)) {}
  explicit Socket(int number) : number_(number) {}
  Socket(Socket&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  ~Socket() {
    if (number_ >= 0) close(number_);
  }
  int get() const { return number_; }
  bool Connect(int port) {
    const sockaddr_in address{.sin_family = AF_INET, .sin_port = htons(static_cast<std::uint16_t>(port)),
                              .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
    return connect(number_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }
  void Write(const std::string& bytes) { ASSERT_EQ(send(number_, bytes.data(), bytes.size(), MSG_NOSIGNAL), std::ssize(bytes)); }
  bool Readable(int wait_ms) {
    pollfd asked{number_, POLLIN, 0};
    return poll(&asked, 1, wait_ms) == 1;
  }
  // Up to `bytes_max`; less at the end, or when the connection broke, which errno tells.
  std::string Read(std::size_t bytes_max) {
    std::string all;
    while (all.size() < bytes_max && Readable(kPatienceMs)) {
      char buffer[4'096];
      errno = 0;
      const ssize_t count = recv(number_, buffer, std::min(sizeof buffer, bytes_max - all.size()), 0);
      if (count <= 0) break;
      all.append(buffer, static_cast<std::size_t>(count));
    }
    return all;
  }

 private:
  int number_;
};

class TcpProxyTest : public testing::Test {
 protected:
  void SetUp() override {
    const sockaddr_in any{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
    ASSERT_EQ(bind(server_.get(), reinterpret_cast<const sockaddr*>(&any), sizeof any), 0);
    ASSERT_EQ(listen(server_.get(), 16), 0);
    sockaddr_in address{};
    socklen_t length = sizeof address;
    getsockname(server_.get(), reinterpret_cast<sockaddr*>(&address), &length);
    auto proxy = TcpProxy::Start(/*seed=*/7);
    ASSERT_THAT(proxy, IsOk());
    proxy_ = std::move(*proxy);
    proxy_->Serve(ntohs(address.sin_port));
  }

  Socket Accept() { return Socket(server_.Readable(kPatienceMs) ? accept(server_.get(), nullptr, nullptr) : -1); }
  // A connection that is whole.
  std::pair<Socket, Socket> Connection() {
    Socket client;
    EXPECT_TRUE(client.Connect(proxy_->port()));
    return {std::move(client), Accept()};
  }

  Socket server_;
  std::unique_ptr<TcpProxy> proxy_;
};

TEST_F(TcpProxyTest, PassesEverythingBothWaysAndTheEndsToo) {
  auto [client, server] = Connection();
  const std::string much(300'000, 'x');

  client.Write("question");
  shutdown(client.get(), SHUT_WR);
  EXPECT_EQ(server.Read(1'000), "question");
  server.Write(much);
  shutdown(server.get(), SHUT_WR);

  EXPECT_EQ(client.Read(much.size() + 1), much);
  proxy_->Set({});  // What it was doing is done, and counted.
  EXPECT_EQ(proxy_->counts().connections, 1u);
  EXPECT_EQ(proxy_->counts().bytes, much.size() + 8);
}

TEST_F(TcpProxyTest, ADelayIsAtLeastAsLongAsAsked) {
  auto [client, server] = Connection();
  proxy_->Set({.delay_ms = 60, .jitter_ms = 20});
  const auto begin = steady_clock::now();

  for (const char* part : {"one ", "two ", "three"}) client.Write(part);

  EXPECT_EQ(server.Read(13), "one two three");
  EXPECT_GE(steady_clock::now() - begin, std::chrono::milliseconds(60));
}

TEST_F(TcpProxyTest, AThrottleTakesAtLeastBytesOverRate) {
  auto [client, server] = Connection();
  proxy_->Set({.bytes_per_s = 100'000});
  const auto begin = steady_clock::now();

  client.Write(std::string(20'000, 'x'));

  EXPECT_EQ(server.Read(20'000).size(), 20'000u);
  EXPECT_GE(steady_clock::now() - begin, std::chrono::milliseconds(200));
}

TEST_F(TcpProxyTest, ABlackHoleKeepsEverythingUntilItEnds) {
  auto [client, server] = Connection();
  proxy_->Set({.holds = true});

  client.Write("held");
  Socket newcomer;
  EXPECT_TRUE(newcomer.Connect(proxy_->port()));
  Socket newcomers_server = Accept();
  newcomer.Write("held too");
  EXPECT_FALSE(server.Readable(/*wait_ms=*/100));
  EXPECT_FALSE(newcomers_server.Readable(/*wait_ms=*/0));

  proxy_->Set({});
  EXPECT_EQ(server.Read(4), "held");
  EXPECT_EQ(newcomers_server.Read(8), "held too");
}

TEST_F(TcpProxyTest, ACutResetsBothSidesAndTheNextConnectionIsWhole) {
  auto [client, server] = Connection();

  proxy_->Cut();

  EXPECT_EQ(client.Read(1), "");
  EXPECT_EQ(errno, ECONNRESET);
  EXPECT_EQ(server.Read(1), "");
  EXPECT_EQ(errno, ECONNRESET);
  EXPECT_EQ(proxy_->counts().cut, 1u);
  auto [next_client, next_server] = Connection();
  next_client.Write("again");
  EXPECT_EQ(next_server.Read(5), "again");
}

TEST_F(TcpProxyTest, RefusedNewcomersDoNotDisturbThoseOfBefore) {
  auto [client, server] = Connection();
  proxy_->Set({.refuses = true});
  Socket newcomer;
  EXPECT_FALSE(newcomer.Connect(proxy_->port()));
  EXPECT_EQ(errno, ECONNREFUSED);

  client.Write("still here");
  EXPECT_EQ(server.Read(10), "still here");

  proxy_->Set({});
  EXPECT_TRUE(Socket().Connect(proxy_->port()));
}

}  // namespace
}  // namespace fuseline::test
