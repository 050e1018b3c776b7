// The kernel that a judged policy stands for: its density against numeric integration, ratios whose mean is one, absurd densities that
// weigh no more than others. And NCIS against what can be said by hand.

#include "evaluation.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/core/random.h"
#include "learner_world.h"
#include "transition_builder.h"

namespace fuseline {
namespace {

using test::ExploredStep;
using test::SmallConfig;

constexpr double kBandwidth = 0.3;

TEST(EvaluationTest, TheKernelIsADensityOverWhereTheNoiseCouldFall) {
  for (const double centre : {0.0, 0.1, -0.4, 1.5}) {
    NoiseKernel kernel{.noise = {0}, .lower = {-0.15}, .upper = {0.15}, .centre = {centre}};
    double mass = 0, mean = 0;
    constexpr int kSlices = 10'000;
    for (int i = 0; i < kSlices; ++i) {
      kernel.noise[0] = -0.15 + 0.3 * (i + 0.5) / kSlices;
      mass += std::exp(kernel.LogDensity(kBandwidth)) * 0.3 / kSlices;
      mean += kernel.noise[0] * std::exp(kernel.LogDensity(kBandwidth)) * 0.3 / kSlices;
    }
    EXPECT_NEAR(mass, 1, 1e-6) << "around " << centre;
    Random random(5, "draws", 0);
    double drawn = 0;
    for (int i = 0; i < 4'000; ++i) drawn += kernel.Draw(kBandwidth, random)[0] / 4'000;
    EXPECT_NEAR(drawn, mean, 0.006) << "around " << centre;
  }
}

class RowJudgeTest : public testing::Test {
 protected:
  RowJudgeTest() : config_(SmallConfig()), builder_(config_, SchemaOf(config_)), rows_(builder_.layout(), "judged") {}

  ActionSpace Space() const {
    return ActionSpace::Create(ActionRangesOf(config_.policy(), SchemaOf(config_)).value()).value();
  }
  void AddSession(std::vector<v1::Step> steps) {
    builder_.AppendJudged(test::Session(test::Name(0, offset_++), nullptr, "u", 0, v1::TERMINATED, std::move(steps)), rows_);
  }
  // The logged baseline, moved by `offset` in every dimension.
  static std::vector<float> Around(const ConstRow& row, std::size_t width, float offset) {
    std::vector<float> actions(row.baseline, row.baseline + row.header->items * width);
    for (float& action : actions) action += offset;
    return actions;
  }

  v1::Config config_;
  TransitionBuilder builder_;
  RowStore rows_;
  std::int64_t offset_ = 0;
};

TEST_F(RowJudgeTest, RatiosHaveAMeanOfOneWhateverThePolicy) {
  const ActionSpace space = Space();
  const RowJudge judge(config_, space, builder_.layout());
  Random random(3, "rows", 0);
  for (int i = 0; i < 4'000; ++i) AddSession({ExploredStep(config_, random, 2, [](const test::Action&) { return 0; })});
  for (const float offset : {0.0F, 0.1F, -0.2F}) {
    double mean = 0;
    for (std::uint64_t r = 0; r < rows_.end_row(); ++r) {
      const ConstRow row = rows_.At(r);
      const auto kernel = judge.KernelOf(row, Around(row, builder_.layout().action, offset));
      ASSERT_TRUE(kernel && kernel->common);
      mean += std::exp(judge.LogRatio(row, *kernel)) / 4'000;
    }
    EXPECT_NEAR(mean, 1, 0.03) << offset;
  }
}

TEST_F(RowJudgeTest, NoiseOfEachItemItsOwnIsNoPropensityOfTheList) {
  const ActionSpace space = Space();
  const RowJudge judge(config_, space, builder_.layout());
  Random random(3, "rows", 0);
  v1::Step step = ExploredStep(config_, random, 2, [](const test::Action&) { return 0; });
  auto* moved = step.mutable_exposure()->mutable_items(1);
  moved->set_executed_action(0, moved->baseline_action(0) + 0.01F);
  AddSession({step});
  const ConstRow row = rows_.At(0);
  EXPECT_FALSE(judge.KernelOf(row, Around(row, builder_.layout().action, 0))->common);
}

TEST_F(RowJudgeTest, ARequestThatWasNotExploredHasNoKernel) {
  const ActionSpace space = Space();
  const RowJudge judge(config_, space, builder_.layout());
  Random random(3, "rows", 0);
  v1::Step step = ExploredStep(config_, random, 1, [](const test::Action&) { return 0; });
  step.mutable_exposure()->clear_log_density();
  AddSession({step});
  EXPECT_FALSE(judge.KernelOf(rows_.At(0), Around(rows_.At(0), builder_.layout().action, 0)));
}

TEST(EvaluationTest, NcisLeansTowardsRequestsNearThePolicy) {
  std::vector<LoggedRequest> requests;
  const double far = std::exp(-0.25 / (2 * 0.09));
  for (std::size_t i = 0; i < 100; ++i)
    requests.push_back({.session = i / 4, .log_ratio = i % 2 == 0 ? 0.0 : std::log(far), .reward = i % 2 == 0 ? 1.0 : 0.0});
  const NcisResult result = Ncis(requests, 10);
  EXPECT_NEAR(result.reward.value, 1 / (1 + far), 1e-9);
  EXPECT_NEAR(result.effective, 50 * (1 + far) * (1 + far) / (1 + far * far), 1e-6);
  EXPECT_NEAR(result.lower, result.reward.value, 1e-9) << "every session earned the same";
  EXPECT_EQ(result.capped_share, 0);
}

TEST(EvaluationTest, OneRequestOfAnAbsurdDensityWeighsTheCapsShareAndNoMore) {
  std::vector<LoggedRequest> requests;
  for (std::size_t i = 0; i < 100; ++i) requests.push_back({.session = i, .log_ratio = 0, .reward = i == 0 ? 1.0 : 0.0});
  for (const double absurd : {10.0, 300.0, 1e6}) {
    requests[0].log_ratio = absurd;
    EXPECT_GT(Ncis(requests, 1e9).reward.value, 0.99) << "without a cap it is all that counts";
    const NcisResult capped = Ncis(requests, 10);
    EXPECT_NEAR(capped.reward.value, 0.1, 1e-9) << "10 of 100";
    EXPECT_NEAR(capped.capped_share, 0.01, 1e-12);
    EXPECT_GT(capped.effective, 49) << "the others still say what they know";
    EXPECT_LT(capped.lower, capped.reward.value);
  }
}

TEST(EvaluationTest, CappedRatiosAreTheUncappedWhereNoneIsAbsurd) {
  Random random(9, "ratios", 0);
  std::vector<LoggedRequest> requests;
  for (std::size_t i = 0; i < 500; ++i) requests.push_back({.session = i, .log_ratio = 50 + 0.3 * random.NextNormal()});
  double capped = 0;
  const std::vector<double> ratios = CappedRatios(requests, 10, &capped);
  EXPECT_EQ(capped, 0);
  EXPECT_NEAR(std::accumulate(ratios.begin(), ratios.end(), 0.0), 500, 1e-9);
  EXPECT_NEAR(ratios[1] / ratios[0], std::exp(requests[1].log_ratio - requests[0].log_ratio), 1e-9);
}

}  // namespace
}  // namespace fuseline
