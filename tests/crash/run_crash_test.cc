// Proven: a SIGKILL of `fuseline run`, again and again at random moments while it reads a fixed topic, changes nothing. No
// session is lost and none is taken twice: in the end the account of every partition, the names taken and the digest of the
// weights are those of a run that was left alone.
// Method: the real program against a real broker and a real Redis; the moments come from a seed that is printed.

#include <chrono>
#include <iostream>
#include <thread>

#include <gtest/gtest.h>

#include "fuseline/core/random.h"
#include "fuseline/test_support/matchers.h"
#include "loop_harness.h"

namespace fuseline::test {
namespace {

constexpr std::uint64_t kEvents = 100'000;
constexpr int kPartitions = 3;
constexpr int kKills = 20;
constexpr std::int64_t kPatienceMs = 240'000;

// Commits, checkpoints and versions often, so that kills fall on all of them.
std::vector<std::string> Settings() {
  return {"learner.train_on_static=true",
          "learner.anchor_on_static=true",
          "learner.warmup_transitions=200",
          "learner.checkpoint_every_trajectories=40",
          "learner.version_every_steps=50",
          "sessionizer.commit_records=1500",
          "sessionizer.commit_interval_ms=50",
          "fuseline.log_level=warn"};
}

TEST(RunCrashTest, TwentyKillsAtRandomMomentsChangeNothing) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  const std::uint64_t seed = static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
  std::cout << "seed of the moments: " << seed << '\n';
  Random random(seed, "kills", 0);

  // Given: a fixed topic, and what an undisturbed run makes of it.
  const std::vector<v1::Event> events = SimulatedEvents(/*seed=*/5, kEvents);
  ASSERT_EQ(events.size(), kEvents);
  ASSERT_THAT(MakeEventsTopic(*kafka, "crash.events", kPartitions, events), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto redis, RedisProcess::Start());
  LoopProcess undisturbed(*kafka, *redis, "crash.events", Settings());
  ASSERT_THAT(undisturbed.Start(), IsOk());
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_THAT(undisturbed.WaitUntilLearned(kEvents, kPatienceMs), IsOk());
  const auto whole_us = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begin).count();
  ASSERT_EQ(undisturbed.Interrupt(), 130) << undisturbed.log();
  ASSERT_OK_AND_ASSIGN(const auto expected, undisturbed.StoredStatus());
  ASSERT_GT(expected["learner"]["versions"], 0) << expected;

  // When: the same is done by a process that is killed, at moments spread over the whole of it.
  ASSERT_OK_AND_ASSIGN(const auto other_redis, RedisProcess::Start());
  LoopProcess killed(*kafka, *other_redis, "crash.events", Settings());
  int in_the_middle = 0;
  for (int kill = 0; kill < kKills; ++kill) {
    ASSERT_THAT(killed.Start(), IsOk());
    const auto wait_us = static_cast<std::int64_t>(random.NextBelow(static_cast<std::uint64_t>(whole_us / 4)));
    std::this_thread::sleep_for(std::chrono::microseconds(wait_us));
    const auto status = killed.Ask();
    if (status && (*status)["accounting"]["read"] < kEvents) ++in_the_middle;
    ASSERT_TRUE(killed.running()) << killed.log();
    killed.Kill();
  }
  ASSERT_THAT(killed.Start(), IsOk());
  ASSERT_THAT(killed.WaitUntilLearned(kEvents, kPatienceMs), IsOk());
  ASSERT_EQ(killed.Interrupt(), 130) << killed.log();

  // Then: nothing tells the two apart.
  std::cout << kKills << " kills, " << in_the_middle << " of them while records were being read\n";
  ASSERT_OK_AND_ASSIGN(const auto actual, killed.StoredStatus());
  EXPECT_EQ(actual["partitions"], expected["partitions"]);
  EXPECT_EQ(actual["accounting_balanced"], true) << actual["accounting"];
  EXPECT_EQ(actual["trajectories"], expected["trajectories"]);
  EXPECT_EQ(actual["learner"], expected["learner"]);
}

}  // namespace
}  // namespace fuseline::test
