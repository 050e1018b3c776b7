// A real redis-server is there when Start returns, is gone when it was killed, and comes back with
// or without its data.

#include "fuseline/test_support/redis_process.h"

#include <gtest/gtest.h>

#include "fuseline/test_support/matchers.h"

namespace fuseline::test {
namespace {

TEST(RedisProcessTest, ItAnswersAndForgetsOnRestart) {
  ASSERT_OK_AND_ASSIGN(const auto redis, RedisProcess::Start());
  EXPECT_EQ(redis->Command({"SET", "key", "value"}).value(), "OK");
  EXPECT_EQ(redis->Command({"GET", "key"}).value(), "value");
  EXPECT_EQ(redis->Command({"CONFIG", "GET", "maxmemory-policy"}).value(),
            "maxmemory-policy\nnoeviction");
  EXPECT_THAT(redis->Command({"INCR", "key"}), HasCode(Code::kInvalidInput));

  redis->Kill();
  EXPECT_THAT(redis->Command({"PING"}), HasCode(Code::kUnavailable));

  ASSERT_THAT(redis->Restart(), IsOk());
  EXPECT_EQ(redis->Command({"GET", "key"}).value(), "");
}

TEST(RedisProcessTest, WithAnAppendOnlyFileItRemembersWhatItAcknowledged) {
  ASSERT_OK_AND_ASSIGN(const auto redis,
                       RedisProcess::Start({.tcp = true, .append_only = true, .extra_args = {}}));
  EXPECT_NE(redis->port(), 0);
  ASSERT_EQ(redis->Command({"SET", "key", "value"}).value(), "OK");

  redis->Kill();
  ASSERT_THAT(redis->Restart(), IsOk());

  EXPECT_EQ(redis->Command({"GET", "key"}).value(), "value");
}

TEST(RedisProcessTest, AServerThatCannotStartIsAnErrorWithItsLog) {
  const auto redis = RedisProcess::Start(
      {.tcp = false, .append_only = false, .extra_args = {"--no-such-option", "1"}});

  EXPECT_THAT(redis, HasCode(Code::kUnavailable));
  EXPECT_THAT(redis, MessageNames("no-such-option"));
}

}  // namespace
}  // namespace fuseline::test
