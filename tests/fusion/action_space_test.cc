// Action ranges, fusion formula and box noise against the formulas written out, and as properties of random inputs.
#include "fuseline/fusion/action_space.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "fuseline/proto/settings.h"
#include "fuseline/test_support/matchers.h"

namespace fuseline {
namespace {

// Two tasks: powers in [0, 2], biases in [0.1, 1.1].
v1::ActionRanges TwoTasks() {
  v1::ActionRanges ranges;
  for (const float lower : {0.0F, 0.0F, 0.1F, 0.1F}) ranges.add_lower(lower);
  for (const float upper : {2.0F, 2.0F, 1.1F, 1.1F}) ranges.add_upper(upper);
  for (const float action : {0.0F, 0.0F, -1.0F, 0.5F}) ranges.add_static_action(action);
  return ranges;
}

TEST(ActionSpaceTest, EndsAndMiddleOfTheNormalisedRangeAreThoseOfTheBusinessRange) {
  ASSERT_OK_AND_ASSIGN(const ActionSpace space, ActionSpace::Create(TwoTasks()));

  EXPECT_EQ(space.width(), 4U);
  EXPECT_EQ(space.task_count(), 2U);
  EXPECT_FLOAT_EQ(space.ToBusiness(0, -1.0F), 0.0F);
  EXPECT_FLOAT_EQ(space.ToBusiness(0, 0.0F), 1.0F);
  EXPECT_FLOAT_EQ(space.ToBusiness(2, 1.0F), 1.1F);
  EXPECT_FLOAT_EQ(space.ToNormalised(2, 0.6F), 0.0F);
}

TEST(ActionSpaceTest, BusinessAndNormalisedAreInversesOfEachOther) {
  ASSERT_OK_AND_ASSIGN(const ActionSpace space, ActionSpace::Create(TwoTasks()));
  for (std::size_t d = 0; d < space.width(); ++d) {
    for (float action = -1.0F; action <= 1.0F; action += 0.125F) {
      EXPECT_NEAR(space.ToNormalised(d, space.ToBusiness(d, action)), action, 1e-6);
    }
  }
}

TEST(ActionSpaceTest, RangesThatContradictThemselvesAreRefused) {
  using Change = void (*)(v1::ActionRanges&);
  const Change changes[] = {
      [](v1::ActionRanges& ranges) { ranges.Clear(); },
      [](v1::ActionRanges& ranges) { ranges.mutable_lower()->RemoveLast(); },
      [](v1::ActionRanges& ranges) { ranges.mutable_upper()->RemoveLast(); },
      [](v1::ActionRanges& ranges) { ranges.mutable_static_action()->RemoveLast(); },
      [](v1::ActionRanges& ranges) {  // An odd number.
        ranges.mutable_lower()->RemoveLast();
        ranges.mutable_upper()->RemoveLast();
        ranges.mutable_static_action()->RemoveLast();
      },
      [](v1::ActionRanges& ranges) { ranges.set_upper(1, ranges.lower(1)); },
      [](v1::ActionRanges& ranges) { ranges.set_lower(0, std::numeric_limits<float>::quiet_NaN()); },
      [](v1::ActionRanges& ranges) { ranges.set_upper(0, std::numeric_limits<float>::infinity()); },
      [](v1::ActionRanges& ranges) { ranges.set_static_action(0, 1.01F); },
      [](v1::ActionRanges& ranges) { ranges.set_static_action(3, std::numeric_limits<float>::quiet_NaN()); },
  };
  for (const Change change : changes) {
    v1::ActionRanges ranges = TwoTasks();
    change(ranges);
    EXPECT_THAT(ActionSpace::Create(ranges), HasCode(Code::kInvalidInput)) << ranges.ShortDebugString();
  }
}

TEST(ActionSpaceTest, FusedScoreIsTheLogOfTheProductOfPowers) {
  // given: powers 1.5 and 0.5, biases 0.1 and 0.6, in normalised form
  ASSERT_OK_AND_ASSIGN(const ActionSpace space, ActionSpace::Create(TwoTasks()));
  const std::vector<float> action{0.5F, -0.5F, -1.0F, 0.0F};

  // when
  const double score = space.FusedScore(std::vector<float>{0.3F, 0.7F}, action);

  // then
  EXPECT_NEAR(score, std::log(std::pow(0.3 + 0.1, 1.5) * std::pow(0.7 + 0.6, 0.5)), 1e-6);
}

TEST(ActionSpaceTest, WithFixedBiasesAPolicySaysThePowersAndTheBiasesAreStatic) {
  v1::ActionRanges ranges = TwoTasks();
  EXPECT_EQ(ActionSpace::Create(ranges).value().learned_width(), 4U);
  ranges.set_fixed_biases(true);
  ASSERT_OK_AND_ASSIGN(const ActionSpace space, ActionSpace::Create(ranges));

  EXPECT_EQ(space.width(), 4U) << "whoever logs an action writes all of it";
  EXPECT_EQ(space.learned_width(), 2U);
  const std::vector<float> scores{0.3F, 0.8F}, powers{0.5F, -0.25F}, whole{0.5F, -0.25F, -1.0F, 0.5F};
  EXPECT_EQ(space.FusedScore(scores, powers), space.FusedScore(scores, whole));
  // Powers 1.5 and 0.75; biases 0.1 and 0.85.
  EXPECT_NEAR(space.FusedScore(scores, powers), 1.5 * std::log(0.3 + 0.1) + 0.75 * std::log(0.8 + 0.85), 1e-6);
}

TEST(ActionSpaceTest, ThePaperOfBatchRlHasFixedBiasesAndWhatIsNamedBeatsThePreset) {
  v1::Config config = DefaultSettings();
  const auto fixed = [&] { return PolicyRangesOf(config).value().fixed_biases(); };
  for (const char* preset : {"small", "paper"}) {
    for (const char* algorithm : {"enhanced_rl", "batch_rl"}) {
      config.mutable_learner()->set_preset(preset);
      config.mutable_learner()->set_algorithm(algorithm);
      config.mutable_policy()->set_biases("preset");
      EXPECT_EQ(fixed(), std::string(preset) == "paper" && std::string(algorithm) == "batch_rl")
          << preset << ' ' << algorithm;
      config.mutable_policy()->set_biases("fixed");
      EXPECT_TRUE(fixed());
      config.mutable_policy()->set_biases("learned");
      EXPECT_FALSE(fixed());
    }
  }
}

TEST(ActionSpaceTest, ScoresWithoutALogarithmCountAsTheSmallestThatHasOne) {
  ASSERT_OK_AND_ASSIGN(const ActionSpace space, ActionSpace::Create(TwoTasks()));
  const std::vector<float> action{0.0F, -1.0F, -1.0F, -1.0F};  // Power 1 for the first task, 0 for the second.
  EXPECT_NEAR(space.FusedScore(std::vector<float>{-5.0F, 1.0F}, action), std::log(1e-6), 1e-9);
}

TEST(ActionSpaceTest, FusedOrderIsTheOrderOfTheProducts) {
  const auto space = ActionSpace::Create(TwoTasks());
  ASSERT_THAT(space, IsOk());
  EXPECT_TRUE(rc::check("order of sum of logs = order of product", [&](std::uint64_t seed) {
    Random random(seed, "order", 0);
    std::vector<float> action(4);
    for (float& value : action) value = static_cast<float>(random.NextUniform(-1, 1));
    std::vector<std::pair<double, double>> fused_and_product;
    for (int item = 0; item < 20; ++item) {
      const std::vector<float> scores{static_cast<float>(random.NextUniform()), static_cast<float>(random.NextUniform())};
      double product = 1;
      for (std::size_t i = 0; i < 2; ++i) {
        product *= std::pow(static_cast<double>(scores[i]) + space->ToBusiness(2 + i, action[2 + i]), space->ToBusiness(i, action[i]));
      }
      fused_and_product.emplace_back(space->FusedScore(scores, action), product);
    }
    for (const auto& [fused_a, product_a] : fused_and_product) {
      for (const auto& [fused_b, product_b] : fused_and_product) {
        if (product_a > product_b * (1 + 1e-12)) RC_ASSERT(fused_a > fused_b);
      }
    }
  }));
}

TEST(DrawRequestNoiseTest, EveryCandidateStaysInsideAndTheDensityIsThatOfTheRoom) {
  EXPECT_TRUE(rc::check("inside, and exact", [](std::uint64_t seed) {
    // given: baseline actions of which some lie at an edge, and a box that need not be symmetric
    Random random(seed, "given", 0);
    const std::size_t candidates = 1 + random.NextBelow(40);
    const std::size_t width = 1 + random.NextBelow(12);
    std::vector<float> baseline(candidates * width);
    const float reach = random.NextBelow(2) == 0 ? 1.0F : 0.5F;
    for (float& value : baseline) value = std::clamp(static_cast<float>(random.NextUniform(-1.3, 1.3)) * reach, -1.0F, 1.0F);
    const ExplorationBox box{static_cast<float>(-random.NextUniform()), static_cast<float>(random.NextUniform(0, 2))};

    // when
    std::vector<float> noise(width);
    Random draws(seed, "noise", 0);
    const double log_density = DrawRequestNoise(baseline, box, draws, noise);

    // then
    double expected = 0;
    for (std::size_t d = 0; d < width; ++d) {
      double lo = box.lower;
      double hi = box.upper;
      for (std::size_t j = 0; j < candidates; ++j) {
        const float value = baseline[j * width + d];
        lo = std::max(lo, -1.0 - value);
        hi = std::min(hi, 1.0 - value);
        const float executed = value + noise[d];
        RC_ASSERT(executed >= -1.0F && executed <= 1.0F);
      }
      RC_ASSERT(noise[d] >= box.lower && noise[d] <= box.upper);
      if (hi - lo >= 1e-6) {
        expected -= std::log(hi - lo);
      } else {
        RC_ASSERT(noise[d] == 0.0F);
      }
    }
    RC_ASSERT(std::abs(log_density - expected) < 1e-12 * (1 + std::abs(expected)));
  }));
}

TEST(DrawRequestNoiseTest, NoiseIsUniformOverTheRoom) {
  // given: a candidate whose upper room is cut from 0.15 to 0.05
  const std::vector<float> baseline{0.95F};
  const ExplorationBox box;
  const int draws = 20'000;

  // when
  std::vector<int> tenths(10, 0);
  double mean = 0;
  for (int i = 0; i < draws; ++i) {
    Random random(7, "uniform", static_cast<std::uint64_t>(i));
    std::vector<float> noise(1);
    DrawRequestNoise(baseline, box, random, noise);
    mean += noise[0] / draws;
    ++tenths[std::min<std::size_t>(9, static_cast<std::size_t>((noise[0] + 0.15) / 0.02))];
  }

  // then: nothing is piled up at the edge that cuts
  EXPECT_NEAR(mean, -0.05, 0.001);
  for (const int count : tenths) EXPECT_NEAR(count, draws / 10, 5 * std::sqrt(draws * 0.09));
}

TEST(DrawRequestNoiseTest, ADimensionWithoutRoomLeavesTheOthersTheirNoise) {
  const ExplorationBox box;
  std::vector<float> with_room(2);
  std::vector<float> without_room(2);
  Random first(3, "same", 1);
  Random second(3, "same", 1);

  DrawRequestNoise(std::vector<float>{0.0F, 0.2F}, box, first, with_room);
  const double log_density = DrawRequestNoise(std::vector<float>{1.0F, 0.2F, -1.0F, 0.2F}, box, second, without_room);

  EXPECT_EQ(without_room[0], 0.0F);
  EXPECT_EQ(without_room[1], with_room[1]);
  EXPECT_NEAR(log_density, -std::log(0.3), 1e-6);
}

}  // namespace
}  // namespace fuseline
