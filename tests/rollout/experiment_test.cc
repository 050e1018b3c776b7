// Experiments: what they cannot be, how they may change, and whom their arms hold.
#include "fuseline/rollout/experiment.h"

#include <functional>
#include <initializer_list>
#include <iterator>
#include <string>
#include <tuple>
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

TEST(ExperimentTest, OfTwoHistoriesWhatCannotBeUndoneIsFurther) {
  // Along one history: by revision.
  const v1::Experiment first = TwoArms("s", 500);
  const v1::Experiment paused = *Changed(first, v1::Experiment::PAUSED, 500, "ann@host", "", 1);
  const v1::Experiment grown = *Changed(paused, v1::Experiment::RUNNING, 1'000, "ann@host", "", 2);
  const v1::Experiment stopped = *Changed(grown, v1::Experiment::STOPPED, 1'000, "ann@host", "", 3);
  const v1::Experiment* const history[] = {&first, &paused, &grown, &stopped};
  for (std::size_t i = 0; i < std::size(history); ++i) {
    for (std::size_t j = 0; j < std::size(history); ++j) EXPECT_EQ(IsFurther(*history[i], *history[j]), i > j) << i << ' ' << j;
  }
  // Another one from the first on, that knows nothing of it: more revisions do not begin again what has ended, nor send users home.
  const v1::Experiment again = *Changed(*Changed(first, v1::Experiment::PAUSED, 500, "bob@host", "", 4), v1::Experiment::PAUSED, 500, "bob@host", "", 5);
  ASSERT_EQ(again.revision(), grown.revision());
  const v1::Experiment later = *Changed(*Changed(again, v1::Experiment::PAUSED, 500, "bob@host", "", 6), v1::Experiment::RUNNING, 500, "bob@host", "", 7);
  EXPECT_TRUE(IsFurther(stopped, later));
  EXPECT_TRUE(IsFurther(grown, later));
  EXPECT_FALSE(IsFurther(later, grown));
}

TEST(ExperimentTest, ARampOfOneNeverReachesAUserOfAnother) {
  // Every pair that may run at once, over parts that touch, overlap, or are of another namespace.
  std::vector<v1::Experiment> all = {TwoArms("whole")};
  for (const auto& [name, begin, end] : std::initializer_list<std::tuple<const char*, double, double>>{
           {"feed", 0, 0.3}, {"feed", 0.3, 0.6}, {"feed", 0.5, 1}, {"search", 0, 0.3}}) {
    all.push_back(TwoArms("salt " + std::to_string(all.size())));
    all.back().mutable_within()->set_name(name);
    all.back().mutable_within()->set_begin(begin);
    all.back().mutable_within()->set_end(end);
  }
  int apart = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    for (std::size_t j = 0; j < all.size(); ++j) {
      const bool may = MayShareUsers(all[i], all[j]);
      EXPECT_EQ(may, MayShareUsers(all[j], all[i]));
      int shared = 0;
      const ArmChooser other = *ArmChooser::Create(all[j]);
      for (const std::uint32_t stage : kRampStages) {
        v1::Experiment ramped = all[i];
        ramped.set_coverage(stage);
        const ArmChooser chooser = *ArmChooser::Create(ramped);
        for (int user = 0; user < 2'000; ++user) {
          const std::string id = "u" + std::to_string(user);
          shared += chooser.Choose(id) != kNoArm && other.Choose(id) != kNoArm ? 1 : 0;
        }
      }
      EXPECT_EQ(shared > 0, may) << i << ' ' << j;
      apart += may ? 0 : 1;
    }
  }
  EXPECT_EQ(apart, 4) << "two pairs, each way";
}

}  // namespace
}  // namespace fuseline
