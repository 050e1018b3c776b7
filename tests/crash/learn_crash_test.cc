// Proven of `fuseline learn` on a real broker and a real Redis: behind a topic of trajectories it learns what `fuseline run` learns from the
// same events, weights and all, of the policy and of the scorer beside it, though it is killed and though the topic repeats itself; and it stops a partition, aloud, at a gap in the
// names and at a record that it cannot read, never going on past it.

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/core/http.h"
#include "fuseline/core/file.h"
#include "fuseline/proto/trajectory_name.h"
#include "fuseline/proto/trajectory_record.h"
#include "fuseline/test_support/matchers.h"
#include "trajectories_harness.h"

namespace fuseline::test {
namespace {

constexpr std::uint64_t kEvents = 30'000;
constexpr int kPartitions = 3;
constexpr std::int64_t kPatienceMs = 60'000;

std::vector<std::string> LearnerSettings() {
  return {"learner.warmup_transitions=200", "learner.checkpoint_every_trajectories=40", "learner.version_every_steps=50",
          "fuseline.log_level=warn",        "scorer.learn=true",                        "scorer.weights=linear",
          "scorer.tasks=click,valid",       "scorer.embedding_width=4",                 "scorer.bottom=8",
          "scorer.tower=5",                 "scorer.experts=2",                         "scorer.critic_hidden=8",
          "scorer.batch=64",                "scorer.pretraining_impressions=1000",      "scorer.critic_impressions=1000",
          "scorer.version_every_steps=10"};
}

ServedProcess LearnFrom(const KafkaProcess& kafka, const RedisProcess& redis, const std::string& topic) {
  std::vector<std::string> settings = LearnerSettings();
  settings.push_back("kafka.trajectories_topic=" + topic);
  settings.push_back("redis.address=unix:" + redis.socket_path());
  return ServedProcess(kafka, "learn", settings);
}

class LearnCrashTest : public testing::Test {
 protected:
  // What `run` learns from the events, and the topic that `sessionize` makes of them.
  static void SetUpTestSuite() {
    auto kafka = SharedKafka();
    if (!kafka) return;
    ASSERT_OK_AND_ASSIGN(const auto events, SimulatedEvents(/*seed=*/12, kEvents));
    ASSERT_THAT(MakeEventsTopic(**kafka, "learn.events", kPartitions, events), IsOk());
    ASSERT_OK_AND_ASSIGN(const auto redis, RedisProcess::Start());
    LoopProcess run(**kafka, *redis, "learn.events", LearnerSettings());
    ASSERT_THAT(run.Start(), IsOk());
    Member member(**kafka, "learn.events", "learn.trajectories", "learn");
    ASSERT_THAT(member.Start(), IsOk());
    ASSERT_THAT(run.WaitUntilLearned(kEvents, kPatienceMs), IsOk());
    ASSERT_EQ(run.Interrupt(), 130) << run.log();
    const auto is_done = [&](const nlohmann::json&) {
      return HasCommittedEverything(**kafka, "learn.events", "learn").value_or(false);
    };
    ASSERT_THAT(member.WaitUntil(is_done, kPatienceMs), IsOk());
    ASSERT_EQ(member.Interrupt(), 130) << member.log();
    ASSERT_OK_AND_ASSIGN(const auto status, run.StoredStatus());
    expected_ = new nlohmann::json(status["learner"]);
    expected_scorer_ = new nlohmann::json(LearnedOf(status["scorer"]));
    ASSERT_GT((*expected_scorer_)["versions"], 3) << *expected_scorer_;
    ASSERT_EQ((*expected_scorer_)["phase"], "weighted training") << *expected_scorer_;
    ASSERT_GT((*expected_)["versions"], 0) << *expected_;
    ASSERT_OK_AND_ASSIGN(auto topic, ReadTopic(**kafka, "learn.trajectories"));
    topic_ = new StoredTopic(std::move(topic));
  }

  // Without what was published: the last version may have been made in the last instant.
  static nlohmann::json LearnedOf(nlohmann::json scorer) {
    scorer.erase("live_version");
    scorer.erase("publication");
    return scorer;
  }

  static bool HasTrajectory(const StoredRecord& record, std::int32_t partition) {
    const auto decoded = DecodeTrajectoryRecord(record.value, partition);
    return decoded && decoded->has_trajectory();
  }

  // Index of the n-th trajectory of a partition.
  static std::size_t PlaceOf(std::int32_t partition, int n) {
    const auto& records = topic_->at(partition);
    for (std::size_t i = 0; i < records.size(); ++i) {
      if (HasTrajectory(records[i], partition) && n-- == 0) return i;
    }
    return records.size();
  }

  static nlohmann::json *expected_, *expected_scorer_;
  static StoredTopic* topic_;
};
nlohmann::json* LearnCrashTest::expected_ = nullptr;
nlohmann::json* LearnCrashTest::expected_scorer_ = nullptr;
StoredTopic* LearnCrashTest::topic_ = nullptr;

TEST_F(LearnCrashTest, BehindATopicThatRepeatsItselfTheSameIsLearnedThoughItIsKilled) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  // Given: every partition says its first third again after its first half.
  StoredTopic repeating;
  for (const auto& [partition, records] : *topic_) {
    const auto half = records.begin() + std::ssize(records) / 2;
    auto& out = repeating[partition];
    out.assign(records.begin(), half);
    out.insert(out.end(), records.begin(), records.begin() + std::ssize(records) / 3);
    out.insert(out.end(), half, records.end());
  }
  ASSERT_THAT(WriteTopic(*kafka, "repeating.trajectories", repeating), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto redis, RedisProcess::Start());
  ServedProcess learn = LearnFrom(*kafka, *redis, "repeating.trajectories");

  ASSERT_THAT(learn.Start({"--dry-run"}), IsOk());
  ASSERT_EQ(learn.Wait(), 0) << learn.log();

  // When: it is killed in the middle, twice, and left alone the third time.
  const auto expected = (*expected_)["trajectories"].get<std::uint64_t>();
  for (const std::uint64_t part : {expected / 3, 2 * expected / 3}) {
    ASSERT_THAT(learn.Start(), IsOk());
    ASSERT_THAT(learn.WaitUntil([&](const auto& status) { return status["learner"]["trajectories"] >= part; }, kPatienceMs), IsOk());
    learn.Kill();
  }
  ASSERT_THAT(learn.Start(), IsOk());
  const auto is_done = [&](const auto& status) { return status["learner"]["trajectories"] >= expected && status["idle"] == true; };
  ASSERT_THAT(learn.WaitUntil(is_done, kPatienceMs), IsOk());
  ASSERT_EQ(learn.Interrupt(), 130) << learn.log();

  // Then
  ASSERT_OK_AND_ASSIGN(const auto status, learn.StoredStatus());
  EXPECT_EQ(status["learner"], *expected_);
  EXPECT_EQ(LearnedOf(status["scorer"]), *expected_scorer_);
  EXPECT_TRUE(ReadFile(learn.state() + "/trajectories_read"));
}

TEST_F(LearnCrashTest, AGapInTheNamesStopsItsPartitionWithAnAlarm) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  constexpr std::int32_t kGapped = 1;
  constexpr int kBefore = 5;
  StoredTopic gapped = *topic_;
  gapped[kGapped].erase(gapped[kGapped].begin() + static_cast<std::ptrdiff_t>(PlaceOf(kGapped, kBefore)));
  ASSERT_THAT(WriteTopic(*kafka, "gapped.trajectories", gapped), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto redis, RedisProcess::Start());
  ServedProcess learn = LearnFrom(*kafka, *redis, "gapped.trajectories");
  ASSERT_OK_AND_ASSIGN(const auto last, DecodeTrajectoryRecord(topic_->at(kGapped)[PlaceOf(kGapped, kBefore - 1)].value, kGapped));

  std::uint64_t taken = kBefore;
  for (const auto& [partition, bytes] : TakeAll(*topic_).bytes) taken += partition == kGapped ? 0 : bytes.size();

  for (int life = 0; life < 2; ++life) {  // A restart does not go past it either.
    ASSERT_THAT(learn.Start(), IsOk());
    // All that can be taken is taken: the other partitions whole, this one up to the gap.
    const auto has_stopped = [&](const auto& status) {
      const auto& learner = status["learner"];
      return learner["stopped"].contains("1") && learner["trajectories"].template get<std::uint64_t>() + learner["waiting"].template get<std::uint64_t>() == taken;
    };
    ASSERT_THAT(learn.WaitUntil(has_stopped, kPatienceMs), IsOk());
    const auto answer = HttpGet(ReadFile(learn.state() + "/http_address").value_or(""), "/readyz", 1'000);
    EXPECT_FALSE(answer.has_value());  // 503.
    ASSERT_EQ(learn.Interrupt(), 130) << learn.log();
  }
  ASSERT_OK_AND_ASSIGN(const auto status, learn.StoredStatus());
  EXPECT_EQ(status["learner"]["learned_through"]["1"], NameText(last.trajectory().name())) << status;
  EXPECT_LT(status["learner"]["trajectories"], (*expected_)["trajectories"]);
}

TEST_F(LearnCrashTest, ARecordThatCannotBeReadStopsItsPartitionAndADifferentRepeatRaisesAnAlarm) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  StoredTopic doctored = *topic_;
  doctored[0].push_back({"", "garbage"});
  auto& records = doctored[2];
  const std::size_t place = PlaceOf(2, 3);
  StoredRecord other = records[place];
  ASSERT_OK_AND_ASSIGN(auto record, DecodeTrajectoryRecord(other.value, 2));
  record.mutable_trajectory()->set_user_id("somebody else");
  other.value = record.SerializeAsString();
  records.insert(records.begin() + static_cast<std::ptrdiff_t>(place) + 1, other);
  ASSERT_THAT(WriteTopic(*kafka, "doctored.trajectories", doctored), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto redis, RedisProcess::Start());
  ServedProcess learn = LearnFrom(*kafka, *redis, "doctored.trajectories");

  ASSERT_THAT(learn.Start(), IsOk());
  const auto is_done = [&](const auto& status) {
    return status["learner"]["trajectories"] == (*expected_)["trajectories"] && status["learner"]["stopped"].contains("0");
  };
  ASSERT_THAT(learn.WaitUntil(is_done, kPatienceMs), IsOk());
  const auto status = learn.Ask();
  ASSERT_TRUE(status);
  EXPECT_EQ((*status)["learner"]["repeats_differing"], 1);
  EXPECT_FALSE((*status)["learner"]["stopped"].contains("2"));
  EXPECT_EQ(learn.Interrupt(), 130) << learn.log();
}

}  // namespace
}  // namespace fuseline::test
