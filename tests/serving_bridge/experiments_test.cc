// Rankers serve experiments that stand in Redis: each user meets the version of his arm and no other, shadows change nothing, and what
// cannot be served is not begun.
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "fuseline/proto/schema.h"
#include "fuseline/rollout/experiment.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/redis_process.h"

#include "ranker_fixture.h"

namespace fuseline {
namespace {

constexpr int kUsers = 300;

v1::Experiment Canary(std::uint32_t coverage = kWholeShare) {
  v1::Experiment experiment;
  experiment.set_name("canary");
  experiment.set_coverage(coverage);
  v1::Arm& control = *experiment.add_arms();
  control.set_name("control");
  control.set_alias(std::string(kLiveAlias));
  v1::Arm& canary = *experiment.add_arms();
  canary.set_name("canary");
  canary.set_alias(std::string(kCanaryAlias));
  for (v1::Arm& arm : *experiment.mutable_arms()) arm.set_share(kWholeShare / 2);
  return experiment;
}

class ExperimentsTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(redis_, test::RedisProcess::Start());
    options_ = TestOptions(redis_->socket_path());
    options_.experiments.clear();
    publisher_.emplace(options_);
    publisher_->Publish(VersionThatSays(3, options_), 1, 1);
    publisher_->PutParts(VersionThatSays(7, options_));
    ranker_ = *Ranker::Open(options_, log_, metrics_, clock_);
    ASSERT_TRUE(Eventually([&] { return ranker_->status().version == 3; }));
  }

  void Write(const v1::Experiment& experiment) {
    auto redis = *RedisConnection::Connect(options_.redis);
    const std::string bytes = CanonicalBytes(experiment), key = PolicyKeys(options_.policy).experiments();
    ASSERT_THAT(redis.Command({"HSET", key, experiment.name(), bytes}), IsOk());
  }
  Decision DecisionOf(const std::string& user) {
    auto reader = ranker_->NewReader();
    OwnedRequest request(20, std::hash<std::string>()(user));
    request.user_id = user;
    auto decision = ranker_->Rank(request.view(5), reader);
    EXPECT_THAT(decision, IsOk());
    return *std::move(decision);
  }
  // Users by "arm version"; an arm of a user never changes meanwhile.
  std::map<std::string, std::set<std::string>> Census() {
    std::map<std::string, std::set<std::string>> census;
    for (int user = 0; user < kUsers; ++user) {
      const std::string id = "u" + std::to_string(user);
      const Decision decision = DecisionOf(id);
      EXPECT_EQ(decision.experiment, decision.arm == "learning" ? "" : "canary");
      EXPECT_NEAR(decision.baseline_action(0)[0], ActionOf(decision.policy_version), 1e-6);
      census[decision.arm + ' ' + std::to_string(decision.policy_version)].insert(id);
    }
    return census;
  }
  // Once a second version is live, the ranker has looked at the experiments that stood beside the first one.
  void PassALook(std::uint64_t change) {
    for (const std::uint64_t version : {4U, 3U}) {
      publisher_->Publish(VersionThatSays(version, options_), 1, ++change);
      ASSERT_TRUE(Eventually([&] { return ranker_->status().change == change; }));
    }
  }
  // Who is in which arm.
  static std::map<std::string, std::set<std::string>> Arms(const std::map<std::string, std::set<std::string>>& census) {
    std::map<std::string, std::set<std::string>> arms;
    for (const auto& [arm_and_version, users] : census) arms[arm_and_version.substr(0, arm_and_version.find(' '))].insert(users.begin(), users.end());
    return arms;
  }
  bool Serves(const std::string& arm_and_version) {
    return Eventually([&] { return Census().contains(arm_and_version); });
  }

  Log log_{Severity::kError};
  Metrics metrics_;
  SystemClock clock_;
  std::unique_ptr<test::RedisProcess> redis_;
  RankerOptions options_;
  std::optional<HandPublisher> publisher_;
  std::unique_ptr<Ranker> ranker_;
};

TEST_F(ExperimentsTest, EachUserMeetsTheVersionOfHisArmAndAGrowingCoverageMovesNobodyOut) {
  // Given an experiment at 25 %
  publisher_->Point(VersionThatSays(7, options_), 1, 2, kCanaryAlias);
  Write(Canary(2'500));
  ASSERT_TRUE(Serves("canary 7"));
  const auto before = Census();

  // When its coverage grows
  Write(Canary(10'000));
  ASSERT_TRUE(Eventually([&] { return !Census().contains("learning 3"); }));

  // Then whoever was in an arm is in it still
  const auto after = Census();
  ASSERT_EQ(before.size(), 3U);
  for (const std::string arm : {"control 3", "canary 7"}) {
    for (const std::string& user : before.at(arm)) EXPECT_TRUE(after.at(arm).contains(user)) << user;
  }
  EXPECT_NEAR(static_cast<double>(before.at("learning 3").size()), 0.75 * kUsers, 40);
  EXPECT_NEAR(static_cast<double>(after.at("canary 7").size()), 0.5 * kUsers, 45);
}

TEST_F(ExperimentsTest, WhenItEndsWhatIsLiveServesEverybody) {
  publisher_->Point(VersionThatSays(7, options_), 1, 2, kCanaryAlias);
  Write(Canary());
  ASSERT_TRUE(Serves("canary 7"));
  v1::Experiment ended = Canary();
  ended.set_state(v1::Experiment::ROLLED_BACK);
  Write(ended);
  EXPECT_TRUE(Eventually([&] {
    const auto census = Census();
    return census.size() == 1 && census.contains("learning 3");
  }));
}

TEST_F(ExperimentsTest, ItBeginsOnceEveryArmsVersionIsHereAndFollowsItsAlias) {
  // Given an experiment whose alias points nowhere
  Write(Canary());
  ASSERT_TRUE(Eventually([&] {
    return metrics_.GetCounter("fuseline_serving_bridge_experiments_refused_total", "experiments, arms and shadows that may not serve").value() > 0;
  }));
  EXPECT_EQ(Census().size(), 1U);

  // When it does, and then moves
  publisher_->Point(VersionThatSays(7, options_), 1, 2, kCanaryAlias);
  ASSERT_TRUE(Serves("canary 7"));
  publisher_->PutParts(VersionThatSays(9, options_));
  publisher_->Point(VersionThatSays(9, options_), 1, 3, kCanaryAlias);

  // Then so does the arm, and live stays what it was
  ASSERT_TRUE(Serves("canary 9"));
  EXPECT_TRUE(Census().contains("control 3"));
}

TEST_F(ExperimentsTest, ARefusedVersionLeavesAnArmItsLastGoodOne) {
  publisher_->Point(VersionThatSays(7, options_), 1, 2, kCanaryAlias);
  Write(Canary());
  ASSERT_TRUE(Serves("canary 7"));
  publisher_->PutParts(VersionThatSays(9, options_), /*flipped_part=*/0);
  publisher_->Point(VersionThatSays(9, options_), 1, 3, kCanaryAlias);
  ASSERT_TRUE(Eventually([&] {
    return metrics_.GetCounter("fuseline_serving_bridge_experiments_refused_total", "experiments, arms and shadows that may not serve").value() > 0;
  }));
  EXPECT_TRUE(Census().contains("canary 7"));
}

TEST_F(ExperimentsTest, AShadowIsScoredAndChangesNothing) {
  // Given what is served without a shadow
  v1::Experiment experiment = Canary();
  experiment.mutable_arms(1)->set_alias(std::string(kLiveAlias));
  Write(experiment);
  ASSERT_TRUE(Serves("canary 3"));
  std::map<std::string, Decision> plain;
  for (int user = 0; user < kUsers; ++user) plain["u" + std::to_string(user)] = DecisionOf("u" + std::to_string(user));

  // When two shadows are scored on every request: one that is what serves, and another
  for (const std::uint64_t version : {3U, 7U}) {
    v1::Arm& shadow = *experiment.add_shadows();
    shadow.set_name("shadow-" + std::to_string(version));
    shadow.set_version(version);
  }
  experiment.set_shadow_share(kWholeShare);
  Write(experiment);
  ASSERT_TRUE(Eventually([&] { return DecisionOf("u1").shadows.size() == 2; }));

  // Then the decisions are the same, and the figures say how far each shadow is from them
  for (const auto& [user, expected] : plain) {
    const Decision decision = DecisionOf(user);
    ASSERT_EQ(decision.order.size(), expected.order.size());
    for (std::size_t i = 0; i < expected.order.size(); ++i) EXPECT_EQ(decision.order[i].candidate, expected.order[i].candidate);
    EXPECT_EQ(decision.executed_actions, expected.executed_actions);
    ASSERT_EQ(decision.shadows.size(), 2U);
    EXPECT_EQ(decision.shadows[0].policy_version(), 3U);
    EXPECT_EQ(decision.shadows[0].rank_correlation(), 1);
    EXPECT_EQ(decision.shadows[0].top_overlap(), 1);
    EXPECT_NEAR(decision.shadows[0].action_difference(), 0, 1e-6);
    EXPECT_EQ(decision.shadows[1].policy_version(), 7U);
    EXPECT_NEAR(decision.shadows[1].action_difference(), std::abs(ActionOf(7) - ActionOf(3)), 1e-5);
  }
}

TEST_F(ExperimentsTest, NobodyLeavesHisArmWhenRedisForgetsTheExperiment) {
  publisher_->Point(VersionThatSays(7, options_), 1, 2, kCanaryAlias);
  Write(Canary());
  ASSERT_TRUE(Serves("canary 7"));
  const auto before = Census();
  auto redis = *RedisConnection::Connect(options_.redis);

  // When everything is lost, and first only the versions come back
  ASSERT_THAT(redis.Command({"FLUSHALL"}), IsOk());
  ASSERT_NO_FATAL_FAILURE(PassALook(1'000));
  // Then everybody is where he was
  EXPECT_EQ(Arms(Census()), Arms(before));
  // and a ranker that still knows follows its alias.
  publisher_->PutParts(VersionThatSays(9, options_));
  publisher_->Point(VersionThatSays(9, options_), 1, 1'100, kCanaryAlias);
  EXPECT_TRUE(Serves("canary 9"));

  // When something stands there that nobody can read
  ASSERT_THAT(redis.Command({"HSET", PolicyKeys(options_.policy).experiments(), "canary", "no experiment"}), IsOk());
  ASSERT_NO_FATAL_FAILURE(PassALook(1'200));
  EXPECT_EQ(Arms(Census()), Arms(before));

  // Only its end ends it.
  v1::Experiment ended = Canary();
  ended.set_state(v1::Experiment::STOPPED);
  Write(ended);
  EXPECT_TRUE(Eventually([&] { return Census().size() == 1; }));
}

TEST_F(ExperimentsTest, NobodyLeavesHisArmWhenRedisGoesBackInTime) {
  // Given a dump of when the experiment was small, and its ramp since
  publisher_->Point(VersionThatSays(7, options_), 1, 2, kCanaryAlias);
  Write(Canary(2'500));
  ASSERT_TRUE(Serves("canary 7"));
  ASSERT_THAT(redis_->Command({"SAVE"}), IsOk());
  Write(Canary(10'000));
  ASSERT_TRUE(Eventually([&] { return !Census().contains("learning 3"); }));
  const auto before = Census();

  // When Redis comes back with the dump
  publisher_.reset();
  redis_->Kill();
  ASSERT_THAT(redis_->Restart(), IsOk());
  publisher_.emplace(options_);
  ASSERT_NO_FATAL_FAILURE(PassALook(1'000));

  // Then the larger coverage serves on; and what has ended does not begin again
  EXPECT_EQ(Arms(Census()), Arms(before));
  v1::Experiment ended = Canary();
  ended.set_state(v1::Experiment::STOPPED);
  Write(ended);
  ASSERT_TRUE(Eventually([&] { return Census().size() == 1; }));
  Write(Canary());
  ASSERT_NO_FATAL_FAILURE(PassALook(2'000));
  EXPECT_EQ(Census().size(), 1U);
}

}  // namespace
}  // namespace fuseline
