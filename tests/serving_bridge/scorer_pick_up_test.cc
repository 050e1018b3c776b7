// Rankers that go from features to order beside a real redis-server: a scorer and a policy, each picked up by itself.
#include <gtest/gtest.h>

#include "fuseline/fusion/acknowledgement.h"
#include "fuseline/proto/event_codec.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/redis_process.h"

#include "ranker_fixture.h"

namespace fuseline {
namespace {

struct Served {
  std::uint64_t policy = 0, scorer = 0;
  bool operator==(const Served&) const = default;
};

class ScorerPickUpTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(redis_, test::RedisProcess::Start());
    options_ = TestOptions(redis_->socket_path());
    options_.scorer = true;
  }
  std::unique_ptr<Ranker> Open() { return *Ranker::Open(options_, log_, metrics_, clock_); }
  HandPublisher Policies() const { return HandPublisher(options_); }
  HandPublisher Scorers() const { return HandPublisher(OfScorer(options_)); }
  double Refused(const std::string& reason) {
    return metrics_.GetCounter("fuseline_serving_bridge_versions_refused_total", "", {{"model", "scorer"}, {"reason", reason}}).value();
  }
  double Unscored(const std::string& reason) {
    return metrics_.GetCounter("fuseline_serving_bridge_unscored_total", "", {{"reason", reason}}).value();
  }

  // By which versions a request of features alone was ranked. Fails unless all of its actions and task scores are theirs.
  Served ServedBy(const Ranker& ranker, Ranker::Reader& reader) {
    OwnedRequest request(70, 1);
    const auto decision = ranker.Rank(request.unscored(5), reader);
    EXPECT_THAT(decision, IsOk());
    for (const float action : decision->baseline_actions) {
      if (decision->policy_version == 0) break;
      EXPECT_NEAR(action, ActionOf(decision->policy_version), 1e-6);
    }
    const auto tasks = static_cast<std::size_t>(options_.schema.tasks_size());
    EXPECT_EQ(decision->task_scores.size(), 5 * tasks);
    for (std::size_t i = 0; i < decision->task_scores.size(); ++i) {
      const v1::Task& task = options_.schema.tasks(static_cast<int>(i % tasks));
      const float share = decision->scorer_version == 0 ? 0 : ShareOf(decision->scorer_version);
      EXPECT_NEAR(decision->task_scores[i], task.min() + share * (task.max() - task.min()), 1e-4);
    }
    return {decision->policy_version, decision->scorer_version};
  }

  Log log_{Severity::kError};
  Metrics metrics_;
  SystemClock clock_;
  std::unique_ptr<test::RedisProcess> redis_;
  RankerOptions options_;
};

TEST_F(ScorerPickUpTest, FeaturesBecomeAnOrderOnceBothVersionsAreThere) {
  // given
  const auto ranker = Open();
  auto reader = ranker->NewReader();
  EXPECT_EQ(ServedBy(*ranker, reader), (Served{0, 0}));
  EXPECT_EQ(Unscored("scorer"), 1) << "the request is served all the same, and counted";

  // when
  Policies().Publish(VersionThatSays(3, options_), 1, 7);
  Scorers().Publish(ScorerThatSays(5, options_), 2, 9);

  // then
  ASSERT_TRUE(Eventually([&] { return ranker->status().version == 3 && ranker->status().scorer_version == 5; }));
  EXPECT_EQ(ServedBy(*ranker, reader), (Served{3, 5}));
  EXPECT_EQ(ranker->status().change, 7U) << "it is the policy's";
  EXPECT_EQ(Unscored("scorer"), 1);
  EXPECT_TRUE(Eventually([&] { return Scorers().AckOf("ranker-1").starts_with("9 5 "); }));
  EXPECT_TRUE(Eventually([&] { return Policies().AckOf("ranker-1").starts_with("7 3 "); }));
}

TEST_F(ScorerPickUpTest, AnExposureSaysWhoseTaskScoresItHas) {
  // given
  const auto ranker = Open();
  auto reader = ranker->NewReader();
  Scorers().Publish(ScorerThatSays(5, options_), 1, 1);
  ASSERT_TRUE(Eventually([&] { return ranker->status().scorer_version == 5; }));
  OwnedRequest request(20, 1);

  // when
  const RankingRequest unscored = request.unscored(4);
  ASSERT_OK_AND_ASSIGN(const Decision decision, ranker->Rank(unscored, reader));
  const v1::Event event = ranker->MakeExposureEvent(unscored, decision);
  ASSERT_OK_AND_ASSIGN(const Decision own, ranker->Rank(request.view(4), reader));
  const v1::Event own_event = ranker->MakeExposureEvent(request.view(4), own);

  // then
  EXPECT_THAT(ValidateEvent(event, EventLimits()), IsOk());
  EXPECT_EQ(event.exposure().scorer_version(), 5U);
  for (const v1::ExposedItem& item : event.exposure().items()) {
    ASSERT_EQ(item.task_scores_size(), options_.schema.tasks_size());
    for (int k = 0; k < item.task_scores_size(); ++k) {
      const v1::Task& task = options_.schema.tasks(k);
      EXPECT_NEAR(item.task_scores(k), task.min() + ShareOf(5) * (task.max() - task.min()), 1e-4);
    }
  }
  EXPECT_EQ(own_event.exposure().scorer_version(), 0U) << "a request that brings its own keeps them";
  EXPECT_EQ(own.scorer_version, 0U);
  EXPECT_EQ(own_event.exposure().items(0).task_scores(0), request.scores[own.order[0].candidate][0]);
}

TEST_F(ScorerPickUpTest, ScorerAndPolicyAreSwappedEachByItself) {
  const auto ranker = Open();
  auto reader = ranker->NewReader();
  Policies().Publish(VersionThatSays(1, options_), 1, 1);
  Scorers().Publish(ScorerThatSays(1, options_), 1, 1);
  ASSERT_TRUE(Eventually([&] { return ServedBy(*ranker, reader) == Served{1, 1}; }));

  Scorers().Publish(ScorerThatSays(2, options_), 1, 2);
  ASSERT_TRUE(Eventually([&] { return ServedBy(*ranker, reader) == Served{1, 2}; }));

  Policies().Publish(VersionThatSays(9, options_), 1, 2);
  ASSERT_TRUE(Eventually([&] { return ServedBy(*ranker, reader) == Served{9, 2}; }));

  Scorers().Point(ScorerThatSays(1, options_), 1, 3);  // A rollback.
  ASSERT_TRUE(Eventually([&] { return ServedBy(*ranker, reader) == Served{9, 1}; }));
}

TEST_F(ScorerPickUpTest, AScorerThatMayNotServeIsRefusedByReasonAndTheLastGoodStays) {
  // given
  const auto ranker = Open();
  auto reader = ranker->NewReader();
  Policies().Publish(VersionThatSays(1, options_), 1, 1);
  Scorers().Publish(ScorerThatSays(1, options_), 1, 1);
  ASSERT_TRUE(Eventually([&] { return ServedBy(*ranker, reader) == Served{1, 1}; }));
  std::uint64_t number = 2;
  const auto refused = [&](const char* reason, const PolicyVersion& version, int flipped_part = -1) {
    const double before = Refused(reason);
    Scorers().PutParts(version, flipped_part);
    Scorers().Point(version, 1, number++);
    EXPECT_TRUE(Eventually([&] { return Refused(reason) > before; })) << reason << ' ' << number;
    EXPECT_EQ(ServedBy(*ranker, reader), (Served{1, 1}));
  };

  // when, then
  refused("digest", ScorerThatSays(number, options_), 0);
  PolicyVersion other = ScorerThatSays(number, options_);
  other.manifest.mutable_schema()->mutable_tasks(0)->set_name("other");
  refused("schema", other);
  other = ScorerThatSays(number, options_);
  other.manifest.mutable_scorer()->mutable_shape()->set_experts(3);
  refused("weights", other);
  other = ScorerThatSays(number, options_);
  other.manifest.set_policy(options_.policy);
  refused("policy", other);
  other = VersionThatSays(number, options_);  // A policy's, under the scorer's name.
  other.manifest.set_policy(ScorerPolicyOf(options_.policy));
  refused("weights", other);
  EXPECT_GE(ranker->status().scorer_refused, 5U);
  EXPECT_EQ(ranker->status().refused, 0U);

  // And a scorer's under the policy's name is no policy.
  PolicyVersion scorer = ScorerThatSays(2, options_);
  scorer.manifest.set_policy(options_.policy);
  Policies().Publish(scorer, 1, 2);
  EXPECT_TRUE(Eventually([&] { return ranker->status().refused > 0; }));
  EXPECT_EQ(ServedBy(*ranker, reader), (Served{1, 1}));

  // Repaired: taken.
  Scorers().Publish(ScorerThatSays(number, options_), 1, number);
  EXPECT_TRUE(Eventually([&] { return ServedBy(*ranker, reader) == (Served{1, number}); }));
}

TEST_F(ScorerPickUpTest, WhatServesGoesOnThroughARedisThatForgetsEverything) {
  const auto ranker = Open();
  auto reader = ranker->NewReader();
  Policies().Publish(VersionThatSays(1, options_), 1, 1);
  Scorers().Publish(ScorerThatSays(1, options_), 1, 1);
  ASSERT_TRUE(Eventually([&] { return ServedBy(*ranker, reader) == Served{1, 1}; }));

  auto redis = RedisConnection::Connect(options_.redis).value();
  ASSERT_THAT(redis.Command({"FLUSHALL"}), IsOk());

  EXPECT_EQ(ServedBy(*ranker, reader), (Served{1, 1}));
  Scorers().Publish(ScorerThatSays(2, options_), 1, 2);
  EXPECT_TRUE(Eventually([&] { return ServedBy(*ranker, reader) == Served{1, 2}; }));

  redis_->Kill();
  EXPECT_TRUE(Eventually([&] { return !ranker->status().redis_connected; }));
  EXPECT_EQ(ServedBy(*ranker, reader), (Served{1, 2}));
}

TEST_F(ScorerPickUpTest, AnUnsignedScorerIsRefusedWhereSignaturesAreAsked) {
  ASSERT_OK_AND_ASSIGN(options_.public_keys, PublicKeys::FromHex(std::string(64, '1')));
  const auto ranker = Open();
  Scorers().Publish(ScorerThatSays(1, options_), 1, 1);
  EXPECT_TRUE(Eventually([&] { return Refused("signature") > 0; }));
  EXPECT_EQ(ranker->status().scorer_version, 0U);
}

TEST_F(ScorerPickUpTest, WithoutTheSettingNoScorerIsFollowed) {
  options_.scorer = false;
  const auto ranker = Open();
  auto reader = ranker->NewReader();
  Scorers().Publish(ScorerThatSays(1, options_), 1, 1);
  Policies().Publish(VersionThatSays(1, options_), 1, 1);
  ASSERT_TRUE(Eventually([&] { return ranker->status().version == 1; }));
  OwnedRequest request(3, 1);

  EXPECT_THAT(ranker->Rank(request.unscored(), reader), testing::AllOf(HasCode(Code::kInvalidInput), MessageNames("task scores")));
  EXPECT_EQ(ranker->status().scorer_version, 0U);
  EXPECT_EQ(Scorers().AckOf("ranker-1"), "");
}

}  // namespace
}  // namespace fuseline
