// Proven against figures worked out by other means: means with the user as the unit, Welch's interval, and subtraction of a mark.

#include "fuseline/simulator/arm_statistics.h"
#include "fuseline/test_support/matchers.h"

namespace fuseline {
namespace {

UserTotals Session(double reward) {
  UserTotals totals;
  totals.sessions = 1;
  totals.reward = reward;
  return totals;
}

TEST(ArmStatisticsTest, EveryUserCountsOnceHoweverOftenItCame) {
  ArmStatistics statistics;
  for (int n = 0; n < 9; ++n) statistics.AddSession("a", 1, Session(10));
  statistics.AddSession("a", 2, Session(20));

  const auto summary = statistics.Summarise("a");

  EXPECT_EQ(summary.users, 2U);
  EXPECT_EQ(summary.totals.sessions, 10U);
  EXPECT_DOUBLE_EQ(summary.mean_session_reward, 15);
  EXPECT_DOUBLE_EQ(summary.variance, 50);
}

TEST(ArmStatisticsTest, WelchsIntervalIsThatOfATextbook) {
  // Two samples of 15 and 10: means 20.6 and 23.1, variances 9.62 and 2.6. By the formula degrees = 22.09, quantile
  // 2.0734, standard error sqrt(0.9013) = 0.9494.
  double lower = 0, upper = 0;
  WelchInterval(20.6, 9.62, 15, 23.1, 2.6, 10, &lower, &upper);
  EXPECT_NEAR(lower, -2.5 - 2.0734 * 0.9494, 0.005);
  EXPECT_NEAR(upper, -2.5 + 2.0734 * 0.9494, 0.005);
}

TEST(ArmStatisticsTest, AComparisonNeedsTwoUsersOnEachSide) {
  ArmStatistics statistics;
  statistics.AddSession("a", 1, Session(1));
  statistics.AddSession("a", 2, Session(2));
  statistics.AddSession("b", 3, Session(1));
  EXPECT_THAT(statistics.Compare("a", "b"), HasCode(Code::kNotFound));
  statistics.AddSession("b", 4, Session(3));
  ASSERT_OK_AND_ASSIGN(const auto comparison, statistics.Compare("a", "b"));
  EXPECT_DOUBLE_EQ(comparison.difference, -0.5);
  EXPECT_DOUBLE_EQ(comparison.relative, -0.25);
}

TEST(ArmStatisticsTest, WhatWasBeforeAMarkIsTakenAway) {
  ArmStatistics statistics;
  statistics.AddSession("a", 1, Session(100));
  statistics.AddSession("a", 2, Session(100));
  const ArmStatistics mark = statistics;
  statistics.AddSession("a", 1, Session(4));

  const auto summary = statistics.Since(mark).Summarise("a");

  EXPECT_EQ(summary.users, 1U);
  EXPECT_DOUBLE_EQ(summary.mean_session_reward, 4);
}

}  // namespace
}  // namespace fuseline
