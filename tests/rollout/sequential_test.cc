// The formulas against values worked out by hand and against loops over the users.
#include "fuseline/rollout/sequential.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

namespace fuseline {
namespace {

TEST(SequentialTest, AMeanPerSessionHasTheVarianceOfTheDeltaMethod) {
  // Given three users with (y, n) of (2, 1), (3, 3), (1, 1)
  UserSums sums;
  sums.Add(2, 1);
  sums.Add(3, 3);
  sums.Add(9, 9);
  sums.Remove(9, 9);
  sums.Add(1, 1);

  // Then R = 6 / 5, the residuals are 0.8, -0.6, -0.2, and Var = 3 / 2 * 1.04 / 25
  const MeanEstimate estimate = SessionMean(sums);
  EXPECT_DOUBLE_EQ(estimate.mean, 1.2);
  EXPECT_NEAR(estimate.variance, 0.0624, 1e-15);
  EXPECT_EQ(estimate.users, 3);
  EXPECT_EQ(SessionMean({}).mean, 0);

  const MeanEstimate lost = Contrast(estimate, 0.5, {.mean = 2, .variance = 0.04, .users = 4});
  EXPECT_DOUBLE_EQ(lost.mean, 0.2);
  EXPECT_NEAR(lost.variance, 0.0624 + 0.25 * 0.04, 1e-15);
  EXPECT_EQ(lost.users, 7);
}

TEST(SequentialTest, WidthsAreThoseOfThePaper) {
  const ConfidenceSequence sequence(0.05, 1'000);
  const double rho2 = (-2 * std::log(0.05) + std::log(1 - 2 * std::log(0.05))) / 1'000;
  const double t = 400, variance = 0.25;  // s^2 = 100.
  const MeanEstimate estimate{.mean = 7, .variance = variance, .users = t};
  const double scale = 2 * (t * rho2 + 1) / (t * t * rho2);
  EXPECT_NEAR(sequence.HalfWidth(estimate), std::sqrt(100 * scale * std::log(std::sqrt(t * rho2 + 1) / 0.05)), 1e-12);
  const double one = (-2 * std::log(0.1) + std::log(1 - 2 * std::log(0.1))) / 1'000;
  const double one_scale = 2 * (t * one + 1) / (t * t * one);
  EXPECT_NEAR(sequence.OneSidedWidth(estimate), std::sqrt(100 * one_scale * std::log(1 + std::sqrt(t * one + 1) / 0.1)), 1e-12);
  EXPECT_LT(sequence.OneSidedWidth(estimate), sequence.HalfWidth(estimate));
  EXPECT_TRUE(std::isinf(sequence.HalfWidth({.users = 1})));
}

TEST(SequentialTest, TheWidthIsTightestWhereItWasAskedToBe) {
  // For a fixed s, the width at t* is smaller than that of sequences made for other t.
  const MeanEstimate estimate{.variance = 1, .users = 2'000};
  const double best = ConfidenceSequence(0.05, 2'000).HalfWidth(estimate);
  for (const double other : {200.0, 800.0, 5'000.0, 20'000.0}) EXPECT_LT(best, ConfidenceSequence(0.05, other).HalfWidth(estimate)) << other;
}

TEST(SequentialTest, TheSampleRatioIsTheProductOfPredictedOverExpectedShares) {
  // Given entries one by one, whose expected share changes on the way
  const std::vector<double> centre = {0.5, 0.3, 0.2}, later = {0.2, 0.2, 0.6};
  const std::vector<int> entries = {0, 0, 1, 2, 0, 1, 2, 2, 2, 0};
  std::vector<std::uint64_t> early_users(3), later_users(3);
  std::vector<double> counts(3);
  double log_e = 0;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const auto arm = static_cast<std::size_t>(entries[i]);
    const bool is_later = i >= 5;
    log_e += std::log((1'000 * centre[arm] + counts[arm]) / (1'000 + static_cast<double>(i))) - std::log(is_later ? later[arm] : centre[arm]);
    counts[arm] += 1;
    ++(is_later ? later_users : early_users)[arm];
  }

  // Then the closed form is that product
  const EntryStage stages[] = {{centre, early_users}, {later, later_users}};
  EXPECT_NEAR(LogSampleRatioE(centre, stages), log_e, 1e-9);
  EXPECT_EQ(LogSampleRatioE(centre, {}), 0);
}

TEST(SequentialTest, AUserWhereNobodyWasExpectedSettlesIt) {
  const std::vector<double> centre = {1, 0};
  const std::vector<std::uint64_t> users = {3, 1};
  const EntryStage stages[] = {{centre, users}};
  EXPECT_TRUE(std::isinf(LogSampleRatioE(centre, stages)));
}

}  // namespace
}  // namespace fuseline
