// Experiments: what they cannot be, how they may change, and whom their arms hold.
#include "fuseline/rollout/experiment.h"

#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/test_support/matchers.h"
#include "simulated_sessions.h"

namespace fuseline {
namespace {

TEST(ExperimentTest, WhatItCannotBeIsNamed) {
  const std::pair<const char*, std::function<void(v1::Experiment&)>> faults[] = {
      {"name", [](v1::Experiment& e) { e.clear_name(); }},
      {"arms", [](v1::Experiment& e) { e.mutable_arms()->RemoveLast(); }},
      {"arms.share", [](v1::Experiment& e) { e.mutable_arms(0)->set_share(4'999); }},
      {"arms is there twice", [](v1::Experiment& e) { e.mutable_arms(1)->set_name("control"); }},
      {"static_weights", [](v1::Experiment& e) { e.mutable_arms(1)->clear_alias(); }},
      {"coverage", [](v1::Experiment& e) { e.set_coverage(10'001); }},
      {"hash_version", [](v1::Experiment& e) { e.set_hash_version(3); }},
      {"within", [](v1::Experiment& e) { e.mutable_within()->set_name("n"); }},
      {"guardrails.tolerance", [](v1::Experiment& e) { e.mutable_guardrails(0)->set_tolerance(1); }},
      {"shadow_share", [](v1::Experiment& e) { e.set_shadow_share(10'001); }},
  };
  ASSERT_THAT(ValidateExperiment(TwoArms("s")), IsOk());
  for (const auto& [named, fault] : faults) {
    v1::Experiment experiment = TwoArms("s");
    fault(experiment);
    EXPECT_THAT(ValidateExperiment(experiment), HasCode(Code::kInvalidInput)) << named;
    EXPECT_THAT(ValidateExperiment(experiment), MessageNames(named));
  }
}

TEST(ExperimentTest, ACoverageOnlyGrowsAndWhatHasEndedStaysSo) {
  const v1::Experiment first = TwoArms("s", 500);
  EXPECT_EQ(NextStage(first), 1'000U);
  const auto grown = Changed(first, v1::Experiment::RUNNING, NextStage(first), "ann@host", "looks well", 5);
  ASSERT_THAT(grown, IsOk());
  EXPECT_EQ(grown->revision(), 2U);
  EXPECT_EQ(grown->history(0).who(), "ann@host");
  EXPECT_EQ(grown->history(0).coverage(), 1'000U);
  EXPECT_THAT(Changed(*grown, v1::Experiment::RUNNING, 500, "ann@host", "", 6), HasCode(Code::kConflict));
  const auto stopped = Changed(*grown, v1::Experiment::STOPPED, 1'000, "ann@host", "", 7);
  ASSERT_THAT(stopped, IsOk());
  EXPECT_FALSE(IsServing(*stopped));
  EXPECT_THAT(Changed(*stopped, v1::Experiment::RUNNING, 10'000, "ann@host", "", 8), HasCode(Code::kConflict));
  EXPECT_EQ(NextStage(TwoArms("s")), 10'000U);
}

TEST(ExperimentTest, SharesExpectedAtACoverageAreThoseOfTheBucketsItHolds) {
  v1::Experiment experiment = TwoArms("s", 100);
  experiment.mutable_arms(0)->set_share(3'333);
  experiment.mutable_arms(1)->set_share(3'333);
  v1::Arm& third = *experiment.add_arms();
  third = experiment.arms(0);
  third.set_name("third");
  third.set_share(3'334);
  for (const std::uint32_t hash : {1U, 2U}) {
    experiment.set_hash_version(hash);
    for (const std::uint32_t coverage : {1U, 100U, 137U, 2'500U, 10'000U}) {
      experiment.set_coverage(coverage);
      const ArmChooser chooser = *ArmChooser::Create(experiment);
      std::vector<double> held(3);
      double all = 0;
      const std::uint32_t count = hash == 1 ? 1'000 : 10'000;
      for (std::uint32_t n = 0; n < count; ++n) {
        const int arm = ArmOfBucket(static_cast<double>(n) / count, chooser.ranges());
        if (arm != kNoArm) held[static_cast<std::size_t>(arm)] += 1, all += 1;
      }
      const std::vector<double> expected = ExpectedShares(experiment, coverage);
      for (std::size_t arm = 0; arm < 3; ++arm) EXPECT_DOUBLE_EQ(expected[arm], held[arm] / all) << hash << ' ' << coverage;
    }
  }
  EXPECT_DOUBLE_EQ(ExpectedShares(experiment, 0)[2], 0.3334);
}

TEST(ExperimentTest, ExperimentsInDisjointPartsOfANamespaceShareNobody) {
  v1::Experiment one = TwoArms("one"), two = TwoArms("two");
  one.mutable_within()->set_name("feed");
  one.mutable_within()->set_end(0.5);
  two.mutable_within()->set_name("feed");
  two.mutable_within()->set_begin(0.5);
  two.mutable_within()->set_end(1);
  const ArmChooser in_one = *ArmChooser::Create(one), in_two = *ArmChooser::Create(two);
  int first = 0;
  for (int user = 0; user < 5'000; ++user) {
    const std::string id = "u" + std::to_string(user);
    EXPECT_NE(in_one.Choose(id) == kNoArm, in_two.Choose(id) == kNoArm) << id;
    first += in_one.Choose(id) != kNoArm ? 1 : 0;
  }
  EXPECT_NEAR(first, 2'500, 180);
}

}  // namespace
}  // namespace fuseline
