// The forms of exploration: the logged density is that of the noise really drawn. Normal noise against its own distribution by
// quadrature and by counting; BatchRL-MTF's mix by who gets what.
#include "fuseline/fusion/exploration.h"

#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace fuseline {
namespace {

constexpr Exploration kGaussian{.form = ExplorationForm::kGaussian, .gaussian_std = 0.2};

// The density of N(0, deviation^2) cut to [lo, hi], by the trapezium rule.
double SlowLogDensity(double x, double deviation, double lo, double hi) {
  const auto bell = [&](double at) { return std::exp(-0.5 * at * at / (deviation * deviation)); };
  constexpr int kParts = 20'000;
  double mass = 0;
  for (int i = 0; i < kParts; ++i) mass += 0.5 * (bell(lo + (hi - lo) * i / kParts) + bell(lo + (hi - lo) * (i + 1) / kParts)) * (hi - lo) / kParts;
  return std::log(bell(x) / mass);
}

TEST(ExplorationTest, NormalNoiseIsInsideItsRoomAndItsDensityIsThatOfTheTruncatedNormal) {
  // given: three candidates; the second dimension has little room above, the third none at all
  const std::vector<float> baseline{0.0F, 0.9F, -1.0F, 0.1F, 0.5F, 1.0F, -0.1F, 0.95F, 0.0F};
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    std::vector<float> noise(3);
    Random random(seed, "draws", 0);

    // when
    const DrawnNoise drawn = DrawNoise(kGaussian, false, baseline, {}, random, noise);

    // then
    const double hi = 1.0 - static_cast<double>(0.95F);
    EXPECT_LE(std::abs(noise[0]), 0.6F);
    EXPECT_LE(noise[1], static_cast<float>(hi));
    EXPECT_EQ(noise[2], 0.0F);
    const double expected = SlowLogDensity(noise[0], 0.2, -0.6, 0.6) + SlowLogDensity(noise[1], 0.2, -0.6, hi);
    EXPECT_NEAR(drawn.log_density, expected, 1e-6) << "seed " << seed;
    EXPECT_FLOAT_EQ(drawn.box.upper, 0.6F);
    EXPECT_FLOAT_EQ(drawn.box.lower, -0.6F);
  }
}

TEST(ExplorationTest, NormalNoiseFallsWhereItsDensitySaysAndNowhereInAHeap) {
  const std::vector<float> baseline{0.95F};
  constexpr int kDraws = 20'000;
  const double edges[] = {-0.6, -0.3, -0.2, -0.1, -0.05, 0.0, 0.05};
  std::vector<int> counts(6);
  for (int i = 0; i < kDraws; ++i) {
    std::vector<float> noise(1);
    Random random(5, "count", static_cast<std::uint64_t>(i));
    DrawNoise(kGaussian, false, baseline, {}, random, noise);
    for (std::size_t bin = 0; bin < 6; ++bin) counts[bin] += noise[0] > edges[bin] && noise[0] <= edges[bin + 1] ? 1 : 0;
  }
  const auto cumulative = [](double x) { return 0.5 * std::erfc(-x / (0.2 * std::sqrt(2.0))); };
  const double mass = cumulative(0.05) - cumulative(-0.6);
  for (std::size_t bin = 0; bin < 6; ++bin) {
    const double share = (cumulative(edges[bin + 1]) - cumulative(edges[bin])) / mass;
    EXPECT_NEAR(counts[bin], kDraws * share, 5 * std::sqrt(kDraws * share)) << "bin " << bin;
  }
}

TEST(ExplorationTest, TheBoxIsTheRequestNoiseAsEver) {
  const std::vector<float> baseline{0.2F, 0.95F};
  std::vector<float> one(2), other(2);
  Random first(1, "box", 0), second(1, "box", 0);
  const ExplorationBox box{-0.1F, 0.15F};
  const DrawnNoise drawn = DrawNoise({}, false, baseline, box, first, one);
  EXPECT_EQ(drawn.log_density, DrawRequestNoise(baseline, box, second, other));
  EXPECT_EQ(one, other);
  EXPECT_EQ(drawn.box.upper, box.upper);
}

TEST(ExplorationTest, WhatIsNotExploredGetsNoNoiseAndNoDensityAndTheRestWhatItGotAlone) {
  const std::vector<float> whole{0.2F, -0.5F, 0.0F, 0.3F, 0.4F, -0.2F, 0.0F, 0.3F}, leading{0.2F, -0.5F, 0.4F, -0.2F};
  for (const Exploration& exploration : {Exploration(), kGaussian}) {
    std::vector<float> noise(4, 9.0F), alone(2);
    Random first(1, "some", 0), second(1, "some", 0);
    const DrawnNoise drawn = DrawNoise(exploration, false, whole, {}, first, noise, /*explored=*/2);
    const DrawnNoise expected = DrawNoise(exploration, false, leading, {}, second, alone);
    EXPECT_EQ(drawn.log_density, expected.log_density);
    EXPECT_EQ(noise, (std::vector<float>{alone[0], alone[1], 0, 0}));
  }
}

TEST(ExplorationTest, HalfOfTheUsersExploreAroundTheStaticActionAndStayThere) {
  const Exploration mix{.form = ExplorationForm::kBatchRl};
  int around_static = 0;
  for (int user = 0; user < 4000; ++user) {
    const std::string name = "u" + std::to_string(user);
    const bool chosen = ExploresAroundStatic(mix, 7, name);
    EXPECT_EQ(ExploresAroundStatic(mix, 7, name), chosen);
    EXPECT_FALSE(ExploresAroundStatic(kGaussian, 7, name));
    around_static += chosen ? 1 : 0;
  }
  EXPECT_NEAR(around_static, 2000, 5 * std::sqrt(1000.0));

  std::vector<float> noise(1);
  Random random(1, "mix", 0);
  EXPECT_FLOAT_EQ(DrawNoise(mix, true, std::vector<float>{0.0F}, {}, random, noise).box.upper, 0.6F);
  EXPECT_FLOAT_EQ(DrawNoise(mix, false, std::vector<float>{0.0F}, {}, random, noise).box.upper, 0.3F);
}

TEST(ExplorationTest, UnlessOneIsNamedTheFormIsThatOfTheAlgorithm) {
  v1::Config config;
  config.mutable_ranker()->set_exploration_form("auto");
  config.mutable_learner()->set_algorithm("enhanced_rl");
  EXPECT_EQ(ExplorationOf(config).form, ExplorationForm::kBox);
  config.mutable_learner()->set_algorithm("batch_rl");
  EXPECT_EQ(ExplorationOf(config).form, ExplorationForm::kBatchRl);
  config.mutable_ranker()->set_exploration_form("box");
  EXPECT_EQ(ExplorationOf(config).form, ExplorationForm::kBox);
}

}  // namespace
}  // namespace fuseline
