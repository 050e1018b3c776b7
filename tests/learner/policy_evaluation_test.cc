// Fitted Q evaluation where the value is known: a session of two requests, whose items earn 1 each in the first and their actions in the
// second, which the log chose at random and the judged policy sets to 0.5; and, for the whole report, a log of explored sessions with a policy that lies
// where rewards are and one that lies away from them.

#include "fitted_q.h"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fuseline/core/random.h"
#include "fuseline/fusion/feature_encoding.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/learner/policy_evaluation.h"
#include "fuseline/test_support/matchers.h"
#include "learner_world.h"

namespace fuseline {
namespace {

constexpr float kJudged = 0.5F;

// State 0 is followed by state 1, which ends. One column of state, one of action; lists of one item or two.
EvaluationTransitions TwoStates(int sessions) {
  EvaluationTransitions t{.items = 2, .state_width = 1, .action_width = 1};
  Random random(1, "two states", 0);
  for (int s = 0; s < sessions; ++s) {
    for (int state = 0; state < 2; ++state) {
      const bool single = random.NextBelow(2) == 0;  // A list of one item alone: the other is masked.
      double earned = 0;
      for (int j = 0; j < 2; ++j) {
        const auto action = static_cast<float>(random.NextUniform(-1, 1));
        const bool there = j == 0 || !single;
        if (there) earned += state == 0 ? 1 : action;
        t.logged.state.push_back(static_cast<float>(state));
        t.logged.action.push_back(action);
        t.logged.mask.push_back(there ? 1.0F : 0.0F);
        t.judged_action.push_back(kJudged);
        t.next.state.push_back(1);
        t.next.action.push_back(kJudged);
        t.next.mask.push_back(state == 0 && there ? 1.0F : 0.0F);
      }
      t.reward.push_back(static_cast<float>(earned));
      ++t.count;
    }
  }
  return t;
}

ActedLists One(float state, float action) { return {{state, 0}, {action, 0}, {1, 0}}; }

class FittedQTest : public testing::Test {
 protected:
  FittedQTest() : config_(test::SmallConfig()) {
    config_.mutable_learner()->clear_hidden();
    config_.mutable_learner()->add_hidden(32);
    config_.mutable_evaluation()->set_fqe_steps(1'000);
    config_.mutable_evaluation()->set_fqe_batch(128);
    config_.mutable_evaluation()->set_fqe_rate(0.003);
    config_.mutable_evaluation()->set_fqe_soft_update(0.02);
  }
  double Value(const FitOptions& options, float state, float action) {
    const auto fitted = FittedQ::Fit(config_, TwoStates(400), options);
    EXPECT_THAT(fitted, IsOk());
    const auto values = (*fitted)->Values(One(state, action));
    EXPECT_THAT(values, IsOk());
    return values->front();
  }
  v1::Config config_;
};

TEST_F(FittedQTest, AValueIsTheRewardAndTheDiscountedValueOfWhatThePolicyDoesNext) {
  const FitOptions options{.gamma = 0.8, .purpose = "test"};
  // An item of the second earns 0.5, so one of the first is worth 1 + 0.8 * 0.5.
  EXPECT_NEAR(Value(options, 0, kJudged), 1.4, 0.15);
  EXPECT_NEAR(Value(options, 1, kJudged), 0.5, 0.15);
  EXPECT_NEAR(Value({.gamma = 0, .purpose = "test"}, 0, kJudged), 1, 0.1) << "a model of the reward alone";
}

TEST_F(FittedQTest, TheConservativeValueIsLower) {
  const double plain = Value({.gamma = 0.8, .purpose = "test"}, 1, kJudged);
  EXPECT_LT(Value({.gamma = 0.8, .conservative_weight = 0.5, .purpose = "test"}, 1, kJudged), plain);
}

TEST_F(FittedQTest, TheSameFitGivesTheSameValueToTheBit) {
  const FitOptions options{.gamma = 0.8, .purpose = "test"};
  EXPECT_EQ(Value(options, 0, 0.3F), Value(options, 0, 0.3F));
  EXPECT_THAT(FittedQ::Fit(config_, {}, options), HasCode(Code::kInvalidInput));
}

// Watching is longest at static + 0.15 in every dimension; so is the first item's, and its second task score.
class PolicyEvaluationTest : public FittedQTest {
 protected:
  PolicyEvaluationTest() {
    config_.mutable_policy()->set_box_lower(-0.3);
    config_.mutable_policy()->set_box_upper(0.3);
    config_.mutable_gate()->set_ncis_bandwidth(0.15);
  }

  v1::Trajectory SessionOf(int s) {
    const auto ranges = ActionRangesOf(config_.policy(), SchemaOf(config_)).value();
    Random random(static_cast<std::uint64_t>(s), "session", 0);
    std::vector<v1::Step> steps;
    for (int t = 0; t < 2; ++t) {
      steps.push_back(test::ExploredStep(config_, random, 2, [&](const test::Action& executed) {
        double distance = 0;
        for (std::size_t d = 0; d < executed.size(); ++d)
          distance += std::abs(executed[d] - ranges.static_action(static_cast<int>(d)) - 0.15) / 4;
        return static_cast<std::int64_t>(std::max(0.0, 20'000 - 40'000 * distance + 1'000 * random.NextNormal()));
      }));
    }
    return test::Session(test::Name(0, s), nullptr, "u" + std::to_string(s), s, v1::TERMINATED, std::move(steps));
  }

  // A version whose actor says static + offset: no weights, the action in its bias.
  PolicyVersion VersionAt(std::uint64_t number, float offset) {
    PolicyVersion version;
    const v1::FeatureSchema schema = SchemaOf(config_);
    version.manifest.set_version(number);
    *version.manifest.mutable_schema() = schema;
    version.manifest.set_schema_digest(SchemaDigest(schema));
    *version.manifest.mutable_ranges() = ActionRangesOf(config_.policy(), schema).value();
    const auto width = static_cast<std::uint32_t>(FeatureEncoder(schema).state_width());
    version.manifest.mutable_actor()->add_widths(width);
    version.manifest.mutable_actor()->add_widths(test::kActionWidth);
    TensorMap tensors;
    tensors["actor.0.weight"] = {{test::kActionWidth, width}, std::vector<float>(test::kActionWidth * width)};
    std::vector<float> bias;
    for (const float value : version.manifest.ranges().static_action()) bias.push_back(std::atanh(value + offset));
    tensors["actor.0.bias"] = {{test::kActionWidth}, bias};
    tensors["normaliser.mean"] = {{width}, std::vector<float>(width)};
    tensors["normaliser.scale"] = {{width}, std::vector<float>(width, 1)};
    version.weights = EncodeWeights(tensors);
    return version;
  }
};

TEST_F(PolicyEvaluationTest, EveryEstimatorPrefersThePolicyThatLiesWhereTheRewardsAre) {
  auto evaluation = PolicyEvaluation::Create(config_, {VersionAt(1, 0.15F), VersionAt(2, -0.15F)}, /*with_static=*/true);
  ASSERT_THAT(evaluation, IsOk());
  for (int s = 0; s < 400; ++s) ASSERT_THAT((*evaluation)->Add(SessionOf(s)), IsOk());
  const auto report = (*evaluation)->Finish();
  ASSERT_THAT(report, IsOk());
  EXPECT_EQ(report->sessions, 400U);
  EXPECT_EQ(report->requests, 800U);
  EXPECT_EQ(report->explored, 800U);
  ASSERT_EQ(report->policies.size(), 3U);
  const PolicyReport &nobody = report->policies[0], &good = report->policies[1], &bad = report->policies[2];
  EXPECT_EQ(nobody.version, 0U);
  EXPECT_EQ(good.version, 1U);
  for (const auto member : {&PolicyReport::ncis, &PolicyReport::snips, &PolicyReport::dr, &PolicyReport::sndr, &PolicyReport::fqe,
                            &PolicyReport::conservative_fqe}) {
    ASSERT_TRUE(good.*member && bad.*member && nobody.*member);
    EXPECT_GT((good.*member)->value, (nobody.*member)->value);
    EXPECT_GT((nobody.*member)->value, (bad.*member)->value);
    EXPECT_TRUE(Interval95(*(good.*member)));
  }
  // The judged policy keeps its noise, so what DR says of it and SNIPS says of it are the same thing.
  EXPECT_NEAR(good.dr->value, good.snips->value, 4 * *good.snips->standard_error);
  EXPECT_NEAR(good.sndr->value, good.dr->value, 2 * *good.dr->standard_error);
  EXPECT_GT(good.ncis_ess, 50);
  EXPECT_LT(good.ncis_ess, 800);
  EXPECT_GT(nobody.inside_box_share, 0.999);
  EXPECT_LT(good.inside_box_share, 0.5);
  EXPECT_GT(good.mtf_gauc.users_used + good.mtf_gauc.users_skipped, 0U);
}

TEST_F(PolicyEvaluationTest, ALogOfNoiseForEachItemIsRefused) {
  auto evaluation = PolicyEvaluation::Create(config_, {}, true);
  ASSERT_THAT(evaluation, IsOk());
  v1::Trajectory trajectory = SessionOf(1);
  auto* item = trajectory.mutable_steps(0)->mutable_exposure()->mutable_items(1);
  item->set_executed_action(2, item->executed_action(2) + 0.05F);
  const Status refused = (*evaluation)->Add(trajectory);
  EXPECT_EQ(refused.code, Code::kInvalidInput);
  EXPECT_THAT(refused.message, testing::HasSubstr("noise of its own"));
}

TEST_F(PolicyEvaluationTest, WithoutExplorationOnlyTheRankingAndTheFittedValueAreSaid) {
  auto evaluation = PolicyEvaluation::Create(config_, {}, true);
  ASSERT_THAT(evaluation, IsOk());
  EXPECT_THAT((*evaluation)->Finish(), HasCode(Code::kInvalidInput)) << "no session at all";
  for (int s = 0; s < 50; ++s) {
    v1::Trajectory trajectory = SessionOf(s);
    for (v1::Step& step : *trajectory.mutable_steps()) step.mutable_exposure()->clear_log_density();
    ASSERT_THAT((*evaluation)->Add(trajectory), IsOk());
  }
  const auto report = (*evaluation)->Finish();
  ASSERT_THAT(report, IsOk());
  EXPECT_EQ(report->explored, 0U);
  EXPECT_FALSE(report->policies[0].ncis);
  EXPECT_FALSE(report->policies[0].dr);
  EXPECT_TRUE(report->policies[0].fqe);
}

TEST_F(PolicyEvaluationTest, AVersionOfOtherActionRangesIsRefusedByTheirKeys) {
  PolicyVersion other = VersionAt(7, 0);
  EXPECT_THAT(PolicyEvaluation::Create(config_, {other}, false), IsOk());
  config_.mutable_policy()->set_bias_max(config_.policy().bias_max() + 1);
  const auto refused = PolicyEvaluation::Create(config_, {other}, false);
  EXPECT_THAT(refused, HasCode(Code::kInvalidInput));
  EXPECT_THAT(refused, MessageNames("policy.bias_max"));
  EXPECT_THAT(refused, MessageNames("version 7"));
}

TEST_F(PolicyEvaluationTest, AVersionOfAnotherSchemaIsRefused) {
  PolicyVersion other = VersionAt(7, 0);
  other.manifest.set_schema_digest("another");
  EXPECT_THAT(PolicyEvaluation::Create(config_, {other}, false), HasCode(Code::kInvalidInput));
}

}  // namespace
}  // namespace fuseline
