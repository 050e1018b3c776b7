// Proven of the whole program on a real broker and a real Redis: how far partitions drift apart changes nothing of what is learned; a
// replay of a topic goes on where its state stopped, and builds sessions that were lost again; what the gate refuses is kept and never
// served; one process at a time holds a state folder; a stop is clean and says so.

#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/fusion/policy_keys.h"
#include "fuseline/policy_store/archive.h"
#include "fuseline/test_support/matchers.h"
#include "loop_harness.h"

namespace fuseline::test {
namespace {

constexpr std::uint64_t kEvents = 12'000;
constexpr const char* kTopic = "whole.events";

class WholeProgramTest : public testing::Test {
 protected:
  // One topic for all of them; nobody writes to it later.
  static void SetUpTestSuite() {
    auto kafka = SharedKafka();
    if (!kafka) return;
    const auto events = SimulatedEvents(/*seed=*/7, kEvents);
    ASSERT_TRUE(events);
    ASSERT_THAT(MakeEventsTopic(**kafka, kTopic, /*partitions=*/3, *events), IsOk());
  }

  // The last line of a replay of the topic.
  static std::string Replay(const KafkaProcess& kafka, const std::string& state, const std::vector<std::string>& settings) {
    std::vector<std::string> arguments = {"replay", "--topic", "--json", "--state", state};
    for (const std::string& setting : settings) arguments.insert(arguments.end(), {"--set", setting});
    for (const std::string& setting : {std::string("fuseline.log_level=warn"), "kafka.brokers=" + kafka.bootstrap_servers(),
                                       std::string("kafka.events_topic=") + kTopic, std::string("learner.warmup_transitions=100"),
                                       std::string("learner.version_every_steps=20")}) {
      arguments.insert(arguments.end(), {"--set", setting});
    }
    std::string output;
    EXPECT_EQ(RunFuseline(arguments, &output), 0);
    return output;
  }

  TempDir dir_;
};

TEST_F(WholeProgramTest, HowFarPartitionsDriftApartChangesNothing) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());

  const std::string wide = Replay(*kafka, dir_ / "wide", {});
  // A learner that holds two trajectories of a partition always has one that is ahead.
  const std::string narrow = Replay(*kafka, dir_ / "narrow",
                                    {"learner.queue_trajectories=2", "sessionizer.max_outbox=3", "sessionizer.commit_records=400",
                                     "learner.checkpoint_every_trajectories=10"});

  const auto result = nlohmann::json::parse(wide);
  EXPECT_EQ(result["accounting"]["read"], kEvents);
  EXPECT_EQ(result["accounting"]["pending"], 0);
  EXPECT_GT(result["versions"], 0) << wide;
  EXPECT_EQ(narrow, wide);
}

TEST_F(WholeProgramTest, AReplayOfATopicGoesOnWhereItsStateStopped) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());

  const std::string once = Replay(*kafka, dir_ / "state", {});

  EXPECT_EQ(Replay(*kafka, dir_ / "state", {}), once);
}

TEST_F(WholeProgramTest, LostSessionsAreBuiltAgainFromTheLogAndNothingIsLearnedTwice) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  const std::string once = Replay(*kafka, dir_ / "state", {});

  std::filesystem::remove_all(std::filesystem::path(dir_ / "state") / "sessions");

  EXPECT_EQ(Replay(*kafka, dir_ / "state", {}), once);
}

TEST_F(WholeProgramTest, AVersionThatTheGateRefusesIsArchivedWithItsReasonsAndNeverPointedTo) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  for (const bool refuses : {true, false}) {
    ASSERT_OK_AND_ASSIGN(const auto redis, RedisProcess::Start());
    LoopProcess run(*kafka, *redis, kTopic,
                    {"fuseline.log_level=error", "sessionizer.gap_ms=120000", "learner.warmup_transitions=100", "learner.version_every_steps=10",
                     refuses ? "gate.max_ensemble_deviation=0" : "gate.max_ensemble_deviation=1e9"});  // No ensemble is of one mind.
    ASSERT_THAT(run.Start(), IsOk());
    ASSERT_THAT(run.WaitUntilLearned(kEvents, /*patience_ms=*/60'000), IsOk());
    const auto served = [](const nlohmann::json& status) { return status["live_version"] > 0; };
    if (!refuses) {
      ASSERT_THAT(run.WaitUntil(served, /*patience_ms=*/60'000), IsOk());
    }
    ASSERT_EQ(run.Interrupt(), 130) << run.log();

    DiskFileSystem files;
    const Archive archive = Archive::OpenReadOnly(run.state() + "/policy", files);
    ASSERT_OK_AND_ASSIGN(const auto versions, archive.List());
    ASSERT_GE(versions.size(), 3U);
    std::size_t refused = 0;
    for (const std::uint64_t version : versions) {
      ASSERT_OK_AND_ASSIGN(const ArchivedVersion archived, archive.Get(version));
      const v1::GateVerdict& verdict = archived.version.manifest.gate();
      if (verdict.passed()) continue;
      ++refused;
      EXPECT_THAT(verdict.reasons(), testing::Contains(testing::HasSubstr("gate.max_ensemble_deviation")));
      EXPECT_THAT(verdict.figures(), testing::Not(testing::IsEmpty()));
    }
    EXPECT_EQ(refused, refuses ? versions.size() : 0U);
    ASSERT_OK_AND_ASSIGN(const std::string live, redis->Command({"HEXISTS", PolicyKeys("default").aliases(), "live"}));
    EXPECT_EQ(live, refuses ? "0" : "1");
    ASSERT_OK_AND_ASSIGN(const std::string there, redis->Command({"ZCARD", PolicyKeys("default").versions()}));
    EXPECT_EQ(there == "0", refuses) << there;
  }
}

TEST_F(WholeProgramTest, OneProcessAtATimeHoldsAStateFolder) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  ASSERT_OK_AND_ASSIGN(const auto redis, RedisProcess::Start());
  LoopProcess run(*kafka, *redis, kTopic, {"fuseline.log_level=warn"});
  ASSERT_THAT(run.Start(), IsOk());
  ASSERT_THAT(run.WaitUntilLearned(kEvents, /*patience_ms=*/60'000), IsOk());

  std::string output;
  EXPECT_EQ(RunFuseline({"replay", "--topic", "--state", run.state(), "--set", "kafka.brokers=" + kafka->bootstrap_servers(), "--set",
                         std::string("kafka.events_topic=") + kTopic},
                        &output),
            5);
  EXPECT_EQ(RunFuseline({"status", "--state", run.state()}, &output), 0);
  EXPECT_THAT(output, testing::StartsWith("running"));

  EXPECT_EQ(run.Interrupt(), 130) << run.log();
  ASSERT_OK_AND_ASSIGN(const auto stored, run.StoredStatus());
  EXPECT_EQ(stored["running"], false);
  EXPECT_EQ(stored["accounting"]["read"], kEvents);
}

TEST_F(WholeProgramTest, LostSessionsOfARunAreBuiltAgainFromTheLowWaterAndALostLearnerIsRefused) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  ASSERT_OK_AND_ASSIGN(const auto redis, RedisProcess::Start());
  LoopProcess run(*kafka, *redis, kTopic, {"fuseline.log_level=warn"});
  ASSERT_THAT(run.Start(), IsOk());
  ASSERT_THAT(run.WaitUntilLearned(kEvents, /*patience_ms=*/60'000), IsOk());
  ASSERT_EQ(run.Interrupt(), 130) << run.log();
  ASSERT_OK_AND_ASSIGN(const auto before, run.StoredStatus());

  std::filesystem::remove_all(run.state() + "/sessions");
  ASSERT_THAT(run.Start(), IsOk());
  ASSERT_THAT(run.WaitUntilLearned(kEvents, /*patience_ms=*/60'000), IsOk());
  ASSERT_EQ(run.Interrupt(), 130) << run.log();
  ASSERT_OK_AND_ASSIGN(const auto after, run.StoredStatus());
  EXPECT_EQ(after["partitions"], before["partitions"]);
  EXPECT_EQ(after["learner"], before["learner"]);

  std::filesystem::remove_all(run.state());
  ASSERT_THAT(run.Start(), IsOk());
  EXPECT_EQ(run.Wait(), 4) << run.log();
  EXPECT_THAT(run.log(), testing::HasSubstr("fuseline.state_dir"));
}

TEST_F(WholeProgramTest, ATopicThatIsNotThereIsAnErrorAndNotMade) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  std::string output;
  for (int again = 0; again < 2; ++again) {
    EXPECT_EQ(RunFuseline({"run", "--set", "kafka.brokers=" + kafka->bootstrap_servers(), "--set", "kafka.events_topic=whole.absent", "--set",
                           "fuseline.state_dir=" + (dir_ / "state")},
                          &output),
              4);
  }
  EXPECT_FALSE(std::filesystem::exists(dir_ / "state"));
}

}  // namespace
}  // namespace fuseline::test
