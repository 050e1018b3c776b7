// ES and CEM, each move against plain arithmetic on one batch, and both on a bandit whose best action is known.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "algorithm.h"
#include "fuseline/test_support/matchers.h"
#include "learner_world.h"
#include "random_batch.h"

namespace fuseline {
namespace {

constexpr std::size_t kB = 12, kD = test::kActionWidth;

v1::Config ConfigOf(const char* algorithm) {
  v1::Config config = test::SmallConfig();
  config.mutable_learner()->set_algorithm(algorithm);
  config.mutable_learner()->set_omega_watch(0.5);
  return config;
}

TransitionBatch WeightedBatch(std::uint64_t seed) {
  TransitionBatch batch = test::RandomBatch(seed, kB, 1);
  for (std::size_t b = 0; b < kB; ++b) batch.weight[b] = 0.5F + 0.1F * static_cast<float>(b);
  return batch;
}

double ReturnOf(const TransitionBatch& batch, std::size_t b) { return batch.reward[b] + 0.5 * batch.reward[kB + b]; }

TEST(EvolutionStrategyTest, AStepIsTheWeightedSlopeOfTheReturnAgainstTheNoise) {
  v1::Config config = ConfigOf("es");
  config.mutable_es()->set_rate(0.01);
  const auto algorithm = CreateAlgorithm(config, test::kBatchProblem).value();
  const TransitionBatch batch = WeightedBatch(1);
  ASSERT_THAT(algorithm->Step(batch, 0), IsOk());

  double weights = 0, mean = 0, variance = 0;
  for (std::size_t b = 0; b < kB; ++b) weights += batch.weight[b];
  for (std::size_t b = 0; b < kB; ++b) mean += batch.weight[b] * ReturnOf(batch, b) / weights;
  for (std::size_t b = 0; b < kB; ++b) variance += batch.weight[b] * std::pow(ReturnOf(batch, b) - mean, 2) / weights;
  for (std::size_t d = 0; d < kD; ++d) {
    double noise = 0, with_return = 0, with_noise = 0;
    for (std::size_t b = 0; b < kB; ++b) noise += batch.weight[b] * batch.action[b * kD + d] / weights;
    for (std::size_t b = 0; b < kB; ++b) {
      with_return += batch.weight[b] * (batch.action[b * kD + d] - noise) * (ReturnOf(batch, b) - mean);
      with_noise += batch.weight[b] * std::pow(batch.action[b * kD + d] - noise, 2);
    }
    const double expected = std::clamp(0.01 * with_return / with_noise / std::sqrt(variance), -0.15, 0.15);
    EXPECT_NEAR(algorithm->actor_parameters()[d], expected, 1e-6) << "dimension " << d;
  }
}

TEST(CrossEntropyTest, AStepMovesMeanAndSpreadToTheEliteNearby) {
  v1::Config config = ConfigOf("cem");
  config.mutable_cem()->set_elite_share(0.3);  // Of 12: 4.
  config.mutable_cem()->set_rate(0.2);
  const auto algorithm = CreateAlgorithm(config, test::kBatchProblem).value();
  const TransitionBatch batch = WeightedBatch(2);
  ASSERT_THAT(algorithm->Step(batch, 0), IsOk());

  std::vector<std::size_t> order(kB);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, [&](std::size_t a, std::size_t b) { return ReturnOf(batch, a) > ReturnOf(batch, b); });
  const double spread = 0.3 / std::sqrt(12.0);
  double sum = 0;
  std::vector<double> nearness;
  for (std::size_t i = 0; i < 4; ++i) {
    double distance = 0;
    for (std::size_t d = 0; d < kD; ++d) distance += std::pow(batch.action[order[i] * kD + d] / spread, 2);
    nearness.push_back(batch.weight[order[i]] * std::exp(-0.5 * distance / kD));
    sum += nearness.back();
  }
  const TensorMap state = algorithm->Save();
  for (std::size_t d = 0; d < kD; ++d) {
    double mean = 0, square = 0;
    for (std::size_t i = 0; i < 4; ++i) mean += nearness[i] / sum * batch.action[order[i] * kD + d];
    for (std::size_t i = 0; i < 4; ++i) square += nearness[i] / sum * std::pow(batch.action[order[i] * kD + d] - mean, 2);
    EXPECT_NEAR(state.at("action").values[d], 0.2 * mean, 1e-6);
    EXPECT_NEAR(state.at("spread").values[d], std::sqrt(0.8 * spread * spread + 0.2 * square), 1e-6);
  }
}

// Reward 1 - |a - a*|^2, a* in the box. Rounds of exploration around the action that serves.
TEST(ConstantActorsTest, OnABanditEsAndCemMoveToTheKnownOptimumAndStaticStays) {
  const std::vector<float> best{0.3F, -0.3F, 0.2F, 0.0F};
  const auto distance_after = [&](const char* name) {
    const auto algorithm = CreateAlgorithm(ConfigOf(name), test::kBatchProblem).value();
    for (std::uint64_t step = 0; step < 1000; ++step) {
      TransitionBatch batch = test::RandomBatch(step, 64, 1);
      const auto serving = algorithm->actor_parameters();
      for (std::size_t b = 0; b < 64; ++b) {
        double distance = 0;
        for (std::size_t d = 0; d < kD; ++d) {
          batch.baseline[b * kD + d] = serving[d];
          batch.action[b * kD + d] += serving[d];
          distance += std::pow(batch.action[b * kD + d] - best[d], 2);
        }
        batch.reward[b] = batch.reward[64 + b] = static_cast<float>(1 - distance);
      }
      EXPECT_THAT(algorithm->Step(batch, step), IsOk());
    }
    double squared = 0;
    for (std::size_t d = 0; d < kD; ++d) squared += std::pow(algorithm->actor_parameters()[d] - best[d], 2);
    return std::sqrt(squared);
  };
  EXPECT_LT(distance_after("es"), 0.05);
  EXPECT_LT(distance_after("cem"), 0.05);
  EXPECT_NEAR(distance_after("static"), std::sqrt(0.22), 1e-6);
}

}  // namespace
}  // namespace fuseline
