// What the Redis connection promises: bytes come back as they went, errors say what to do, deadlines hold, a broken connection
// says so until it is made again. Method: a real redis-server.
#include "fuseline/redis/connection.h"

#include <memory>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/redis_process.h"

namespace fuseline {
namespace {

using ::testing::AllOf;

using test::RedisProcess;

class RedisConnectionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(server_, RedisProcess::Start({.tcp = true, .append_only = true, .extra_args = {}}));
  }
  RedisOptions Options() const { return {.address = "unix:" + server_->socket_path()}; }

  std::unique_ptr<RedisProcess> server_;
};

TEST_F(RedisConnectionTest, BytesComeBackAsTheyWentOverBothKindsOfAddress) {
  std::string every_byte;
  for (int i = 0; i < 256; ++i) every_byte += static_cast<char>(i);
  const std::string large(3'000'000, '\r');
  for (const std::string& address : {"unix:" + server_->socket_path(), "127.0.0.1:" + std::to_string(server_->port())}) {
    ASSERT_OK_AND_ASSIGN(RedisConnection redis, RedisConnection::Connect({.address = address}));
    for (const std::string& value : {every_byte, large, std::string()}) {
      ASSERT_THAT(redis.Command({"SET", "key", value}), IsOk());
      ASSERT_OK_AND_ASSIGN(const RedisReply reply, redis.Command({"GET", "key"}));
      EXPECT_TRUE(reply.is_string() && reply.text == value) << address << ", " << reply.text.size() << " bytes";
    }
  }
}

TEST_F(RedisConnectionTest, RepliesKeepTheirKindAndTheirNesting) {
  ASSERT_OK_AND_ASSIGN(RedisConnection redis, RedisConnection::Connect(Options()));
  ASSERT_OK_AND_ASSIGN(const RedisReply reply, redis.Command({"EVAL", "return {1, 'two', {false, {3}}}", "0"}));
  ASSERT_EQ(reply.elements.size(), 3u);
  EXPECT_EQ(reply.elements[0].integer, 1);
  EXPECT_EQ(reply.elements[1].text, "two");
  EXPECT_TRUE(reply.elements[2].elements[0].is_nil());
  EXPECT_EQ(reply.elements[2].elements[1].elements[0].integer, 3);
}

TEST_F(RedisConnectionTest, AnErrorInsideAPipelineIsReportedAndTheNextReplyStillFitsItsQuestion) {
  ASSERT_OK_AND_ASSIGN(RedisConnection redis, RedisConnection::Connect(Options()));
  EXPECT_THAT(redis.Pipeline({{"SET", "a", "1"}, {"LPUSH", "a", "x"}, {"SET", "b", "2"}}), HasCode(Code::kInternal));
  ASSERT_OK_AND_ASSIGN(const auto replies, redis.Pipeline({{"GET", "a"}, {"GET", "b"}}));
  EXPECT_EQ(replies[0].text + replies[1].text, "12");
}

TEST_F(RedisConnectionTest, ScriptsSayNoInTwoWords) {
  ASSERT_OK_AND_ASSIGN(RedisConnection redis, RedisConnection::Connect(Options()));
  const RedisScript refusing("return redis.error_reply('REFUSED because of ' .. ARGV[1])");
  const RedisScript missing("return redis.error_reply('ABSENT ' .. KEYS[1])");
  EXPECT_THAT(redis.Eval(refusing, {}, {"rain"}), AllOf(HasCode(Code::kConflict), MessageNames("because of rain")));
  EXPECT_THAT(redis.Eval(missing, {"sun"}, {}), AllOf(HasCode(Code::kNotFound), MessageNames("sun")));
  EXPECT_TRUE(redis.connected());
}

TEST_F(RedisConnectionTest, AScriptIsSentAgainOnlyWhenTheServerForgotIt) {
  ASSERT_OK_AND_ASSIGN(RedisConnection redis, RedisConnection::Connect(Options()));
  const RedisScript script("return ARGV[1]");
  for (const bool forget : {false, false, true}) {
    if (forget) {
      ASSERT_THAT(redis.Command({"SCRIPT", "FLUSH"}), IsOk());
    }
    ASSERT_OK_AND_ASSIGN(const RedisReply reply, redis.Eval(script, {}, {"said"}));
    EXPECT_EQ(reply.text, "said");
  }
  ASSERT_OK_AND_ASSIGN(const RedisReply stats, redis.Command({"INFO", "commandstats"}));
  EXPECT_TRUE(RedisInfoField(stats.text, "cmdstat_eval").starts_with("calls=2,")) << stats.text;
  EXPECT_TRUE(RedisInfoField(stats.text, "cmdstat_evalsha").starts_with("calls=3,")) << stats.text;
}

TEST_F(RedisConnectionTest, AReplyLargerThanTheLimitIsRefusedAndTheConnectionClosed) {
  RedisOptions options = Options();
  options.max_reply_bytes = 100'000;
  ASSERT_OK_AND_ASSIGN(RedisConnection redis, RedisConnection::Connect(options));
  ASSERT_THAT(redis.Command({"SET", "small", std::string(50'000, 'x')}), IsOk());
  ASSERT_THAT(redis.Command({"SET", "large", std::string(500'000, 'x')}), IsOk());
  ASSERT_THAT(redis.Pipeline({{"GET", "small"}, {"GET", "small"}, {"GET", "small"}}), IsOk());  // The limit is of one reply.
  EXPECT_THAT(redis.Command({"GET", "large"}), AllOf(HasCode(Code::kInvalidInput), MessageNames("redis.max_reply_bytes")));
  EXPECT_FALSE(redis.connected());
  EXPECT_THAT(redis.Command({"PING"}), HasCode(Code::kUnavailable));
  ASSERT_THAT(redis.Reconnect(), IsOk());
  EXPECT_THAT(redis.Command({"PING"}), IsOk());
}

TEST_F(RedisConnectionTest, AStreamIsReadFromAnIdAndAnEmptyWaitIsNoError) {
  ASSERT_OK_AND_ASSIGN(RedisConnection redis, RedisConnection::Connect(Options()));
  ASSERT_OK_AND_ASSIGN(const auto none, redis.ReadStream("s", "0", 10, 0));
  EXPECT_TRUE(none.empty());
  ASSERT_THAT(redis.Command({"XADD", "s", "1-1", "f", "one", "g", std::string_view("\0", 1)}), IsOk());
  ASSERT_THAT(redis.Command({"XADD", "s", "2-1", "f", "two"}), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto entries, redis.ReadStream("s", "0", 10, 50));
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].id, "1-1");
  EXPECT_EQ(entries[0].fields[1], std::pair(std::string("g"), std::string(1, '\0')));
  ASSERT_OK_AND_ASSIGN(const auto later, redis.ReadStream("s", entries[0].id, 10, 0));
  ASSERT_EQ(later.size(), 1u);
  EXPECT_EQ(later[0].fields[0].second, "two");
  ASSERT_OK_AND_ASSIGN(const auto waited, redis.ReadStream("s", "$", 10, 20));
  EXPECT_TRUE(waited.empty());
}

TEST_F(RedisConnectionTest, ASilentServerIsATimeOutAndADeadOneIsSeen) {
  RedisOptions options = Options();
  options.command_timeout_ms = 50;
  ASSERT_OK_AND_ASSIGN(RedisConnection redis, RedisConnection::Connect(options));
  server_->Pause();
  EXPECT_THAT(redis.Command({"PING"}), AllOf(HasCode(Code::kUnavailable), MessageNames("timed out")));
  EXPECT_FALSE(redis.connected());
  server_->Resume();
  ASSERT_THAT(redis.Reconnect(), IsOk());

  server_->Kill();
  EXPECT_THAT(redis.Command({"SET", "key", std::string(2'000'000, 'x')}), HasCode(Code::kUnavailable));
  EXPECT_THAT(redis.Reconnect(), HasCode(Code::kUnavailable));
  ASSERT_THAT(server_->Restart(), IsOk());
  ASSERT_THAT(redis.Reconnect(), IsOk());
  EXPECT_THAT(redis.Command({"PING"}), IsOk());
}

TEST_F(RedisConnectionTest, WrongCredentialsAndWrongAddressesAreTheCallersToMend) {
  ASSERT_THAT(server_->Command({"CONFIG", "SET", "requirepass", "secret"}), IsOk());
  RedisOptions options = Options();
  ASSERT_OK_AND_ASSIGN(RedisConnection stranger, RedisConnection::Connect(options));
  EXPECT_THAT(stranger.Command({"GET", "x"}), AllOf(HasCode(Code::kInvalidInput), MessageNames("redis.password")));
  options.password = "wrong";
  EXPECT_THAT(RedisConnection::Connect(options), HasCode(Code::kInvalidInput));
  options.password = "secret";
  options.database = 3;
  ASSERT_OK_AND_ASSIGN(RedisConnection friendly, RedisConnection::Connect(options));
  EXPECT_THAT(friendly.Command({"SET", "x", "1"}), IsOk());
  for (const char* address : {"", "nowhere", "host:", ":6379", "host:99999", "host:1x"}) {
    EXPECT_THAT(RedisConnection::Connect({.address = address}), AllOf(HasCode(Code::kInvalidInput), MessageNames("redis.address")));
  }
}

TEST_F(RedisConnectionTest, AReadOnlyReplicaIsUnavailableAndLeft) {
  ASSERT_THAT(server_->Command({"REPLICAOF", "127.0.0.1", "1"}), IsOk());
  ASSERT_OK_AND_ASSIGN(RedisConnection redis, RedisConnection::Connect(Options()));
  EXPECT_THAT(redis.Command({"SET", "x", "1"}), HasCode(Code::kUnavailable));
  EXPECT_FALSE(redis.connected());
}

}  // namespace
}  // namespace fuseline
