// Each check of the gate with a candidate that fails it and nothing else, on sessions in which watching longer follows from an action
// near a known one. Every verdict carries its figures; what is not finite is refused before anything is compared.

#include "gate.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fuseline/test_support/matchers.h"
#include "learner_world.h"
#include "transition_builder.h"

namespace fuseline {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

class GateTest : public testing::Test {
 protected:
  GateTest() : config_(test::SmallConfig()) {
    config_.mutable_policy()->set_box_lower(-0.3);
    config_.mutable_policy()->set_box_upper(0.3);
    config_.mutable_gate()->set_max_outside_share(0.2);
    config_.mutable_gate()->set_ncis_tolerance(0);
    config_.mutable_gate()->set_ncis_bandwidth(0.15);
    config_.mutable_gate()->set_gauc_tolerance(0.01);
    config_.mutable_gate()->set_max_sessions(1'000);
  }

  // 300 sessions of two requests: the nearer the executed action lies to static + 0.1, the longer the watch.
  RowStore Sessions(int count = 300) {
    const TransitionBuilder builder(config_, SchemaOf(config_));
    const auto ranges = ActionRangesOf(config_.policy(), SchemaOf(config_)).value();
    RowStore rows(builder.layout(), "held_out");
    Random random(1, "gate", 0);
    const auto watch = [&](const test::Action& executed) {
      double distance = 0;
      for (std::size_t d = 0; d < executed.size(); ++d)
        distance += std::abs(executed[d] - ranges.static_action(static_cast<int>(d)) - 0.1);
      return static_cast<std::int64_t>(std::max(0.0, 30'000 - 30'000 * distance + 2'000 * random.NextNormal()));
    };
    for (int s = 0; s < count; ++s) {
      std::vector<v1::Step> steps;
      for (int t = 0; t < 2; ++t) steps.push_back(test::ExploredStep(config_, random, 2, watch));
      builder.AppendJudged(
          test::Session(test::Name(0, s), nullptr, "u" + std::to_string(s % 50), s, v1::TERMINATED, std::move(steps)), rows);
    }
    return rows;
  }

  // A policy that says static + offset everywhere.
  Actor Constant(float offset) const {
    const auto ranges = ActionRangesOf(config_.policy(), SchemaOf(config_)).value();
    return [ranges, offset, width = TransitionBuilder(config_, SchemaOf(config_)).encoder().state_width()](
               std::span<const float> states) -> Result<std::vector<float>> {
      std::vector<float> actions;
      for (std::size_t n = 0; n < states.size() / width; ++n)
        for (const float value : ranges.static_action()) actions.push_back(value + offset);
      return actions;
    };
  }

  v1::GateVerdict Judge(const RowStore& rows, Actor candidate, bool finite = true, double deviation = 1) {
    const auto space = ActionSpace::Create(ActionRangesOf(config_.policy(), SchemaOf(config_)).value()).value();
    const auto normaliser = Normaliser::Identity(rows.layout().shared + rows.layout().item);
    const GateSubjects subjects{.candidate = std::move(candidate),
                                .incumbent = Constant(incumbent_),
                                .fixed = Constant(0),
                                .deviation = [deviation](auto, auto) -> Result<std::vector<double>> {
                                  return std::vector<double>{deviation, deviation};
                                },
                                .finite = finite,
                                .in_round = [](const ConstRow&) { return true; }};
    const auto verdict = JudgeVersion(config_, space, normaliser, rows, subjects);
    EXPECT_THAT(verdict, IsOk());
    return verdict.value_or(v1::GateVerdict());
  }

  v1::Config config_;
  float incumbent_ = 0;  // The incumbent says static + this everywhere.
};

TEST_F(GateTest, ABetterPolicyPassesAndItsFiguresSayWhy) {
  const v1::GateVerdict verdict = Judge(Sessions(), Constant(0.1F));
  EXPECT_TRUE(verdict.passed()) << verdict.DebugString();
  EXPECT_THAT(verdict.reasons(), testing::IsEmpty());
  const auto& figures = verdict.figures();
  EXPECT_GT(figures.at("ncis"), figures.at("ncis_incumbent"));
  EXPECT_GT(figures.at("ncis_effective"), 50);
  EXPECT_EQ(figures.at("outside_share"), 0);
  EXPECT_EQ(figures.at("sessions"), 300);
}

TEST_F(GateTest, WhatIsNotFiniteIsRefusedBeforeAnythingIsCompared) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(Judge(Sessions(), Constant(0.1F), /*finite=*/false).reasons(), ElementsAre("a tensor is not finite"));
  const v1::GateVerdict verdict = Judge(Sessions(), Constant(kNan));
  EXPECT_FALSE(verdict.passed());
  EXPECT_THAT(verdict.reasons(), ElementsAre("an action is not finite"));
  EXPECT_EQ(verdict.figures().count("gauc"), 0U);
}

TEST_F(GateTest, APolicyOutsideTheBoxIsRefused) {
  const v1::GateVerdict verdict = Judge(Sessions(), Constant(-0.4F));
  EXPECT_FALSE(verdict.passed());
  EXPECT_THAT(verdict.reasons(), Contains(HasSubstr("outside_share")));
  EXPECT_EQ(verdict.figures().at("outside_share"), 1);
}

TEST_F(GateTest, AnEnsembleThatHasComeApartIsRefused) {
  EXPECT_THAT(Judge(Sessions(), Constant(0.1F), true, 101).reasons(), Contains(HasSubstr("ensemble")));
  EXPECT_THAT(Judge(Sessions(), Constant(0.1F), true, std::numeric_limits<double>::quiet_NaN()).reasons(),
              Contains(HasSubstr("ensemble")));
}

TEST_F(GateTest, APolicyThatEarnsLessIsRefusedByNcis) {
  const v1::GateVerdict verdict = Judge(Sessions(), Constant(-0.2F));
  EXPECT_FALSE(verdict.passed());
  EXPECT_THAT(verdict.reasons(), Contains(HasSubstr("ncis: lower confidence bound")));
  EXPECT_LT(verdict.figures().at("ncis"), verdict.figures().at("ncis_incumbent"));
}

TEST_F(GateTest, TooLittleEvidenceIsSaidAloud) {
  const v1::GateVerdict verdict = Judge(Sessions(3), Constant(-0.2F));
  EXPECT_TRUE(verdict.passed());
  EXPECT_THAT(verdict.reasons(), Contains("skipped ncis: fewer held-back sessions than gate.min_sessions"));
}

TEST_F(GateTest, WithoutEvidenceAVersionPassesOrIsRefusedAsTheSettingSays) {
  config_.mutable_gate()->set_without_evidence("refuse");
  const v1::GateVerdict few = Judge(Sessions(3), Constant(0.1F));
  EXPECT_FALSE(few.passed());
  EXPECT_THAT(few.reasons(), Contains("no evidence: gauc: fewer held-back sessions than gate.min_sessions (gate.without_evidence)"));
  config_.mutable_gate()->set_ncis_min_effective(1e6);
  const v1::GateVerdict thin = Judge(Sessions(), Constant(0.1F));
  EXPECT_FALSE(thin.passed());
  EXPECT_THAT(thin.reasons(), Contains("no evidence: ncis: effective sample below gate.ncis_min_effective (gate.without_evidence)"));
  config_.mutable_gate()->set_ncis_min_effective(20);
  EXPECT_TRUE(Judge(Sessions(), Constant(0.1F)).passed()) << "here there is evidence";
}

// Every step is within what the incumbent's check tolerates, and yet the sum of them is not allowed.
TEST_F(GateTest, ManySmallStepsDownEndAtTheFloorOfTheStaticWeights) {
  config_.mutable_gate()->set_gauc_tolerance(1);
  config_.mutable_gate()->set_ncis_tolerance(1);
  config_.mutable_gate()->set_static_ncis_tolerance(0.1);
  config_.mutable_gate()->set_static_gauc_tolerance(1);
  const RowStore rows = Sessions();
  const auto descend = [&] {
    float offset = 0;
    for (; offset > -0.25F; offset -= 0.02F) {
      incumbent_ = offset;
      const v1::GateVerdict verdict = Judge(rows, Constant(offset - 0.02F));
      EXPECT_GE(verdict.figures().at("ncis_effective"), 20);
      if (!verdict.passed()) {
        EXPECT_THAT(verdict.reasons(), ElementsAre(HasSubstr("ncis: lower confidence bound below the floor")));
        break;
      }
    }
    return offset;
  };
  const float with_floor = descend();
  config_.mutable_gate()->set_static_ncis_tolerance(10);
  const float without = descend();
  EXPECT_LT(with_floor, -0.01F) << "a step within the tolerance is allowed";
  EXPECT_GT(with_floor, -0.2F);
  EXPECT_LE(without, -0.25F) << "without a floor the same steps go on";
}

TEST_F(GateTest, ARankingFarBelowThatOfTheStaticWeightsIsRefusedWhateverTheIncumbentIs) {
  config_.mutable_gate()->set_ncis_tolerance(10);
  config_.mutable_gate()->set_static_ncis_tolerance(10);
  config_.mutable_gate()->set_static_gauc_tolerance(0);
  incumbent_ = -0.2F;
  const RowStore rows = Sessions();
  const v1::GateVerdict same = Judge(rows, Constant(incumbent_));
  ASSERT_NE(same.figures().at("gauc"), same.figures().at("gauc_static")) << "for the test to say anything";
  const bool below = same.figures().at("gauc") < same.figures().at("gauc_static");
  EXPECT_EQ(!same.passed(), below) << same.DebugString();
  EXPECT_THAT(Judge(rows, Constant(0)).reasons(), Not(Contains(HasSubstr("floor"))));
}

// One session in a hundred says that the worse action earns all that can be said, with the density of something impossible.
TEST_F(GateTest, AHundredthOfAbsurdReportsDoesNotTurnTheVerdict) {
  config_.mutable_learner()->set_session_reward_cap(100);  // Some ten times what an honest session earns here.
  RowStore rows = Sessions();
  const TransitionBuilder builder(config_, SchemaOf(config_));
  Random random(2, "poison", 0);
  for (int s = 0; s < 3; ++s) {
    v1::Step step = test::ExploredStep(config_, random, 2, [](const test::Action&) { return 300'000; });
    for (v1::RewardComponents& reward : *step.mutable_rewards()) reward.set_likes(4'000'000'000U);
    for (v1::ExposedItem& item : *step.mutable_exposure()->mutable_items())
      for (int d = 0; d < item.executed_action_size(); ++d) item.set_executed_action(d, item.baseline_action(d) - 0.2F);
    step.mutable_exposure()->set_log_density(s == 0 ? -120 : step.exposure().log_density());
    builder.AppendJudged(test::Session(test::Name(0, 1'000 + s), nullptr, "poison" + std::to_string(s), 0, v1::TERMINATED, {step}),
                         rows);
  }
  EXPECT_FALSE(Judge(rows, Constant(-0.2F)).passed());
  const v1::GateVerdict better = Judge(rows, Constant(0.1F));
  EXPECT_TRUE(better.passed()) << better.DebugString();
  EXPECT_THAT(better.reasons(), Not(Contains(HasSubstr("effective"))));
}

}  // namespace
}  // namespace fuseline
