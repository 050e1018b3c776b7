// The loop from publisher to ranker goes through whatever stands between: least rights, TLS, a password file, sentinels with a failover, a
// cluster whose other node is asked first. Method: real redis-servers, a real sentinel, certificates made here.
#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fuseline/core/child_process.h"
#include "fuseline/core/file.h"
#include "fuseline/policy_store/aliases.h"
#include "fuseline/policy_store/fetch.h"
#include "fuseline/policy_store/publisher.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/redis_process.h"
#include "fuseline/test_support/server.h"
#include "fuseline/test_support/temp_dir.h"
#include "version_fixture.h"

namespace fuseline {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using test::RedisProcess;

// A publisher with its archive, and a ranker that follows it, each with its own way to Redis.
class Loop {
 public:
  Loop(RedisOptions writer, RedisOptions reader) : writer_(std::move(writer)), reader_(std::move(reader)) {}

  Status Open() {
    auto archive = Archive::Open(folder_.path(), /*part_bytes=*/2'000, disk_);
    if (!archive) return archive.error();
    archive_.emplace(std::move(*archive));
    auto publisher = Publisher::Open({.retention = {.keep_versions = 1}}, *archive_, [this] { return RedisConnection::Connect(writer_); },
                                     clock_, log_, metrics_);
    if (!publisher) return publisher.error();
    publisher_.emplace(std::move(*publisher));
    FUSELINE_RETURN_IF_ERROR(publisher_->Claim(1));
    RankerOptions options = OptionsOfRanker("", "ranker-1");
    options.redis = reader_;
    options.scorer = true;
    auto ranker = Ranker::Open(options, log_, metrics_, clock_);
    if (!ranker) return ranker.error();
    ranker_ = std::move(*ranker);
    return OkStatus();
  }
  // Everything that a learner and an operator do, and the ranker follows.
  void GoRound() {
    for (const std::uint64_t version : {1, 2, 3}) ASSERT_THAT(Publish(version), IsOk());
    ASSERT_TRUE(RankerTakes(3)) << ranker_->status().refused;
    ASSERT_OK_AND_ASSIGN(RedisConnection redis, RedisConnection::Connect(writer_));
    const PolicyKeys keys("default");
    ASSERT_OK_AND_ASSIGN(const v1::AliasState seen, ReadAliases(redis, keys));
    ASSERT_OK_AND_ASSIGN(const AliasMove move, PlanRollback(seen, 0));
    ASSERT_THAT(MoveAlias(redis, keys, seen, move, 100), IsOk());
    ASSERT_TRUE(RankerTakes(2));
    EXPECT_THAT(publisher_->Check(), IsOk());
    EXPECT_THAT(redis.Command({"ZADD", keys.left(), "1000", "1"}), IsOk());
    EXPECT_THAT(publisher_->Retain(), IsOk());
    EXPECT_TRUE(Eventually([&] {
      const auto acknowledged = redis.Command({"HGET", keys.acks(), "ranker-1"});
      return acknowledged && acknowledged->text.find(" 2 ") != std::string::npos;
    }));
    // Nor is the way to the scorer's keys, under another hash tag, closed to it.
    ASSERT_OK_AND_ASSIGN(RedisConnection of_scorer, RedisConnection::Connect(writer_));
    EXPECT_TRUE(Eventually([&] {
      const auto acknowledged = of_scorer.Command({"HGET", PolicyKeys(ScorerPolicyOf("default")).acks(), "ranker-1"});
      return acknowledged && acknowledged->text.find(" 0 ") != std::string::npos;
    }));
  }
  Status Publish(std::uint64_t version) {
    const auto published = publisher_->Publish(AcceptedVersion(version), PointLive::kYes);
    return published ? OkStatus() : published.error();
  }
  bool RankerTakes(std::uint64_t version) {
    return Eventually([&] { return ranker_->status().version == version; });
  }
  Publisher& publisher() { return *publisher_; }

 private:
  RedisOptions writer_, reader_;
  test::TempDir folder_;
  DiskFileSystem disk_;
  SystemClock clock_;
  Log log_{Severity::kError};
  Metrics metrics_;
  std::optional<Archive> archive_;
  std::optional<Publisher> publisher_;
  std::unique_ptr<Ranker> ranker_;
};

TEST(RedisAccessTest, TheDocumentedRightsAreEnoughAndARankersChangeNothingElse) {
  const test::TempDir dir;
  std::string users = ReadFile(std::string(std::getenv("FUSELINE_SOURCE_DIR")) + "/deploy/redis/users.acl").value();
  const std::string off = "user default off";
  ASSERT_TRUE(users.starts_with(off));
  users.replace(0, off.size(), "user default on nopass ~* &* +@all");  // By which the harness speaks to the server.
  ASSERT_THAT(WriteFileAtomically(dir / "users.acl", users), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto server, RedisProcess::Start({.extra_args = {"--aclfile", dir / "users.acl"}}));
  const std::string address = "unix:" + server->socket_path();
  const RedisOptions learner{.address = address, .user = "fuseline-learner", .password = "change-me-learner"};
  const RedisOptions ranker{.address = address, .user = "fuseline-ranker", .password = "change-me-ranker"};
  Loop loop(learner, ranker);
  ASSERT_THAT(loop.Open(), IsOk());
  loop.GoRound();

  ASSERT_OK_AND_ASSIGN(RedisConnection stranger, RedisConnection::Connect(ranker));
  const PolicyKeys keys("default");
  for (const RedisCommand& command : std::vector<RedisCommand>{{"SET", keys.epoch(), "9"},
                                                               {"HSET", keys.aliases(), "live", "x"},
                                                               {"DEL", keys.manifest(2)},
                                                               {"EVAL", "return 1", "0"},
                                                               {"GET", "fuseline:{other}:epoch"},
                                                               {"SET", "fuseline:{default.scorer}:epoch", "9"},
                                                               {"FLUSHALL"}}) {
    EXPECT_THAT(stranger.Command(command), AllOf(HasCode(Code::kInvalidInput), MessageNames("redis.user"))) << command[0];
  }
  ASSERT_OK_AND_ASSIGN(RedisConnection writer, RedisConnection::Connect(learner));
  EXPECT_THAT(FetchVersion(writer, keys, 2, {}), IsOk());
  EXPECT_THAT(writer.Command({"HDEL", keys.acks(), "ranker-1"}), IsOk()) << "of one that is gone";
  EXPECT_THAT(writer.Command({"FLUSHALL"}), HasCode(Code::kInvalidInput));
  EXPECT_THAT(writer.Command({"SET", "fuseline:{other}:epoch", "9"}), HasCode(Code::kInvalidInput));
}

TEST(RedisAccessTest, APasswordIsReadFromItsFileAtEachConnection) {
  const test::TempDir dir;
  ASSERT_OK_AND_ASSIGN(const auto server, RedisProcess::Start());
  ASSERT_THAT(server->Command({"CONFIG", "SET", "requirepass", "first"}), IsOk());
  ASSERT_THAT(WriteFileAtomically(dir / "password", "first\n"), IsOk());
  const RedisOptions options{.address = "unix:" + server->socket_path(), .password_file = dir / "password"};
  ASSERT_OK_AND_ASSIGN(RedisConnection redis, RedisConnection::Connect(options));
  ASSERT_THAT(redis.Command({"CONFIG", "SET", "requirepass", "second"}), IsOk());
  EXPECT_THAT(redis.Reconnect(), HasCode(Code::kInvalidInput));
  ASSERT_THAT(WriteFileAtomically(dir / "password", "second"), IsOk());
  EXPECT_THAT(redis.Reconnect(), IsOk());
  EXPECT_THAT(redis.Command({"PING"}), IsOk());
  RedisOptions missing = options;
  missing.password_file = dir / "none";
  EXPECT_THAT(RedisConnection::Connect(missing), AllOf(HasCode(Code::kInvalidInput), MessageNames("redis.password_file")));
}

// An authority, and a certificate of it for 127.0.0.1 and redis.test; then another authority.
struct Certificates {
  test::TempDir dir;

  Status Make() {
    FUSELINE_RETURN_IF_ERROR(OpenSsl({"req", "-x509", "-subj", "/CN=authority", "-keyout", dir / "ca.key", "-out", dir / "ca.pem"}));
    FUSELINE_RETURN_IF_ERROR(OpenSsl({"req", "-x509", "-subj", "/CN=other", "-keyout", dir / "other.key", "-out", dir / "other.pem"}));
    return OpenSsl({"req", "-x509", "-CA", dir / "ca.pem", "-CAkey", dir / "ca.key", "-subj", "/CN=redis", "-addext",
                    "subjectAltName=IP:127.0.0.1,DNS:redis.test", "-addext", "basicConstraints=critical,CA:FALSE", "-keyout",
                    dir / "redis.key", "-out", dir / "redis.pem"});
  }
  Status OpenSsl(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "openssl");
    arguments.insert(arguments.end(), {"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"});
    FUSELINE_ASSIGN_OR_RETURN(ChildProcess child, ChildProcess::Start(arguments, dir / "openssl.log"));
    if (child.Wait() == 0) return OkStatus();
    return ErrorStatus(Code::kInternal, ReadFile(dir / "openssl.log").value_or("openssl failed"));
  }
};

TEST(RedisAccessTest, TlsIsVerifiedBothWays) {
  Certificates certificates;
  ASSERT_THAT(certificates.Make(), IsOk());
  const auto file = [&](const char* name) { return certificates.dir / name; };
  const std::string port = std::to_string(test::FreePort());
  ASSERT_OK_AND_ASSIGN(const auto server,
                       RedisProcess::Start({.extra_args = {"--tls-port", port, "--tls-cert-file", file("redis.pem"), "--tls-key-file",
                                                           file("redis.key"), "--tls-ca-cert-file", file("ca.pem"), "--tls-auth-clients", "yes"}}));
  RedisOptions options{.address = "127.0.0.1:" + port, .command_timeout_ms = 10'000};
  options.connect_timeout_ms = 10'000;
  options.tls = {.enabled = true, .ca_file = file("ca.pem"), .cert_file = file("redis.pem"), .key_file = file("redis.key")};
  Loop loop(options, options);
  ASSERT_THAT(loop.Open(), IsOk());
  loop.GoRound();

  ASSERT_OK_AND_ASSIGN(RedisConnection redis, RedisConnection::Connect(options));
  const std::string large(3'000'000, '\n');
  ASSERT_THAT(redis.Command({"SET", "large", large}), IsOk());
  ASSERT_OK_AND_ASSIGN(const RedisReply reply, redis.Command({"GET", "large"}));
  EXPECT_EQ(reply.text.size(), large.size());

  RedisOptions wrong = options;
  wrong.tls.ca_file = file("other.pem");
  EXPECT_THAT(RedisConnection::Connect(wrong), AllOf(HasCode(Code::kInvalidInput), MessageNames("redis.tls_ca_file")));
  wrong = options;
  wrong.tls.server_name = "another.test";
  EXPECT_THAT(RedisConnection::Connect(wrong), HasCode(Code::kInvalidInput));
  wrong.tls.server_name = "redis.test";
  EXPECT_THAT(RedisConnection::Connect(wrong), IsOk());
  wrong = options;
  wrong.tls.cert_file = wrong.tls.key_file = "";
  const auto unknown = RedisConnection::Connect(wrong);  // TLS 1.3 tells a client of its missing certificate only afterwards.
  EXPECT_FALSE(unknown && RedisConnection(RedisConnection::Connect(wrong).value()).Command({"PING"}));
  wrong = options;
  wrong.tls.ca_file = file("none.pem");
  EXPECT_THAT(RedisConnection::Connect(wrong), AllOf(HasCode(Code::kInvalidInput), MessageNames("redis.tls_ca_file")));
  wrong = options;
  wrong.tls.enabled = false;
  wrong.connect_timeout_ms = wrong.command_timeout_ms = 500;
  const auto plain = RedisConnection::Connect(wrong);
  EXPECT_FALSE(plain && RedisConnection(RedisConnection::Connect(wrong).value()).Command({"PING"})) << "a server that wants TLS";
  wrong = options;
  wrong.address = "unix:" + server->socket_path();
  EXPECT_THAT(RedisConnection::Connect(wrong), AllOf(HasCode(Code::kInvalidInput), MessageNames("redis.tls")));
}

TEST(RedisAccessTest, SentinelsSayWhereTheMasterIsAlsoAfterAFailover) {
  ASSERT_OK_AND_ASSIGN(const auto master, RedisProcess::Start({.tcp = true}));
  const std::string port = std::to_string(master->port());
  ASSERT_OK_AND_ASSIGN(const auto replica, RedisProcess::Start({.tcp = true, .extra_args = {"--replicaof", "127.0.0.1", port}}));
  const test::TempDir dir;
  const std::string sentinel_port = std::to_string(test::FreePort());
  std::ofstream(dir / "sentinel.conf") << "port " << sentinel_port << "\nbind 127.0.0.1\ndir " << dir.path() << "\nsentinel monitor loop 127.0.0.1 "
                                       << port << " 1\nsentinel down-after-milliseconds loop 500\nsentinel failover-timeout loop 2000\n";
  ASSERT_OK_AND_ASSIGN(ChildProcess sentinel, ChildProcess::Start({"redis-server", dir / "sentinel.conf", "--sentinel"}, dir / "sentinel.log"));
  // The first sentinel of the list is not there.
  RedisOptions options{.sentinels = "127.0.0.1:1, 127.0.0.1:" + sentinel_port, .sentinel_master = "loop", .command_timeout_ms = 10'000};
  ASSERT_TRUE(Eventually([&] { return RedisConnection::Connect(options).has_value(); })) << ReadFile(dir / "sentinel.log").value_or("");
  // It must know the replica before there is anybody to fail over to.
  ASSERT_TRUE(Eventually([&] {
    auto asked = RedisConnection::Connect({.address = "127.0.0.1:" + sentinel_port});
    const auto replicas = asked ? asked->Command({"SENTINEL", "replicas", "loop"}) : Result<RedisReply>();
    return replicas && replicas->elements.size() == 1;
  }));
  Loop loop(options, options);
  ASSERT_THAT(loop.Open(), IsOk());
  ASSERT_THAT(loop.Publish(1), IsOk());
  ASSERT_TRUE(loop.RankerTakes(1));

  master->Kill();
  // As the publication does: again while it is away, restored where the replica was behind.
  ASSERT_TRUE(Eventually([&] {
    const Status published = loop.Publish(2);
    if (published.code == Code::kNotFound) {
      EXPECT_THAT(loop.publisher().Restore(), IsOk());
    }
    return published.ok();
  })) << ReadFile(dir / "sentinel.log").value_or("");
  EXPECT_TRUE(loop.RankerTakes(2));
  ASSERT_OK_AND_ASSIGN(const RedisConnection redis, RedisConnection::Connect(options));
  EXPECT_THAT(redis.peer(), HasSubstr(std::to_string(replica->port())));
  options.sentinel_master = "nobody";
  EXPECT_THAT(RedisConnection::Connect(options), AllOf(HasCode(Code::kUnavailable), MessageNames("nobody")));
}

TEST(RedisAccessTest, EveryNodeOfAClusterLeadsToTheOneThatHasTheKeys) {
  std::vector<std::unique_ptr<RedisProcess>> nodes;
  std::vector<std::string> bus_ports;
  for (int i = 0; i < 2; ++i) {
    bus_ports.push_back(std::to_string(test::FreePort()));
    ASSERT_OK_AND_ASSIGN(auto node, RedisProcess::Start({.tcp = true, .extra_args = {"--cluster-enabled", "yes", "--cluster-port", bus_ports.back()}}));
    nodes.push_back(std::move(node));
  }
  ASSERT_THAT(nodes[0]->Command({"CLUSTER", "ADDSLOTSRANGE", "0", "8191"}), IsOk());
  ASSERT_THAT(nodes[1]->Command({"CLUSTER", "ADDSLOTSRANGE", "8192", "16383"}), IsOk());
  ASSERT_THAT(nodes[0]->Command({"CLUSTER", "MEET", "127.0.0.1", std::to_string(nodes[1]->port()), bus_ports[1]}), IsOk());
  for (const auto& node : nodes) {
    ASSERT_TRUE(Eventually([&] { return node->Command({"CLUSTER", "INFO"}).value_or("").starts_with("cluster_state:ok"); }));
  }
  for (const auto& node : nodes) {
    SCOPED_TRACE(node->port());
    ASSERT_THAT(nodes[0]->Command({"FLUSHALL"}), IsOk());
    ASSERT_THAT(nodes[1]->Command({"FLUSHALL"}), IsOk());
    const RedisOptions options{.address = "127.0.0.1:1, 127.0.0.1:" + std::to_string(node->port()), .command_timeout_ms = 10'000};
    Loop loop(options, options);
    ASSERT_THAT(loop.Open(), IsOk());
    loop.GoRound();
  }
}

}  // namespace
}  // namespace fuseline
