// One thread of one room: it runs, is asked to stop, and says what became of it.

#include "fuseline/core/stage.h"

#include <atomic>
#include <optional>

#include <gtest/gtest.h>

#include "fuseline/core/backoff.h"
#include "fuseline/test_support/matchers.h"

namespace fuseline {
namespace {

TEST(StageTest, JoinGivesWhatTheBodyReturned) {
  Stage stage("ingest", [](std::stop_token) { return ErrorStatus(Code::kCorrupt, "broken segment"); });
  EXPECT_THAT(stage.Join(), HasCode(Code::kCorrupt));
  EXPECT_TRUE(stage.finished());
  EXPECT_EQ(stage.name(), "ingest");
  EXPECT_THAT(stage.Join(), HasCode(Code::kCorrupt)) << "asking again changes nothing";
}

TEST(StageTest, AStopReachesABodyThatSleeps) {
  Stage stage("sleeper", [](std::stop_token stop) {
    return SleepFor(stop, 600'000) ? ErrorStatus(Code::kInternal, "slept to the end") : OkStatus();
  });
  EXPECT_FALSE(stage.finished());
  stage.RequestStop();
  EXPECT_THAT(stage.Join(), IsOk());
}

TEST(StageTest, TheEndOfItsOwnerStopsAndJoins) {
  std::atomic<bool> has_ended = false;
  {
    Stage stage("owned", [&](std::stop_token stop) {
      SleepFor(stop, 600'000);
      has_ended = true;
      return OkStatus();
    });
  }
  EXPECT_TRUE(has_ended);
}

TEST(StageTest, ASleepWithoutAStopEndsByItself) {
  std::stop_source nobody_asks;
  EXPECT_TRUE(SleepFor(nobody_asks.get_token(), 1));
}

TEST(BackoffTest, DoublesToItsLongestWithJitterOfAHalfAndStartsOver) {
  Backoff backoff(/*first_ms=*/100, /*longest_ms=*/1'000, /*seed=*/7);
  for (const std::int64_t whole_ms : {100, 200, 400, 800, 1'000, 1'000}) {
    const auto wait_ms = backoff.NextMs();
    EXPECT_GE(wait_ms, whole_ms / 2);
    EXPECT_LE(wait_ms, whole_ms);
  }
  backoff.Reset();
  EXPECT_LE(backoff.NextMs(), 100);
}

TEST(BackoffTest, ClientsWithOtherSeedsComeBackAtOtherTimes) {
  Backoff a(1'000'000, 1'000'000, 1), b(1'000'000, 1'000'000, 2), a_again(1'000'000, 1'000'000, 1);
  const auto first = a.NextMs();
  EXPECT_NE(first, b.NextMs());
  EXPECT_EQ(first, a_again.NextMs());
}

}  // namespace
}  // namespace fuseline
