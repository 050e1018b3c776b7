// Steps over memory that stays, which is what a CUDA graph repeats, against ordinary ones; carried out without a graph,
// so on any machine.

#include "torch/fixed_step.h"

#include <cmath>
#include <limits>
#include <set>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/fusion/weights_file.h"
#include "fuseline/test_support/matchers.h"
#include "random_batch.h"
#include "torch/torch_algorithm.h"

namespace fuseline {
namespace {

constexpr std::size_t kBatch = 16;
constexpr std::uint64_t kSteps = 30, kActorDelay = 3;

v1::Config ConfigOf(const std::string& algorithm) {
  v1::Config config = test::SmallConfig();
  config.mutable_learner()->set_algorithm(algorithm);
  config.mutable_learner()->set_soft_update_every(4);
  config.mutable_learner()->set_max_gradient_norm(0.5);  // So small that it cuts.
  return config;
}

std::unique_ptr<Algorithm> Make(const std::string& algorithm) {
  return CreateAlgorithm(ConfigOf(algorithm), test::kBatchProblem).value();
}

Status Fix(Algorithm& algorithm, std::unique_ptr<StepRunner> runner) {
  return dynamic_cast<TorchAlgorithm&>(algorithm).StepInFixedMemory(std::move(runner));
}

Result<StepFigures> Step(Algorithm& algorithm, const std::string& name, std::uint64_t step) {
  const AlgorithmTraits traits = AlgorithmTraitsOf(name).value();
  const TransitionBatch critics = test::BatchFor(traits, step, kBatch);
  const TransitionBatch actor = step < kActorDelay ? TransitionBatch() : test::BatchFor(traits, 1'000 + step, kBatch);
  return algorithm.Step(critics, actor, step);
}

void ExpectSame(const TensorMap& fixed, const TensorMap& ordinary) {
  for (const auto& [name, tensor] : ordinary) {
    double apart = 0,
           size = 0;  // Single values may differ more: Adam divides what is next to nothing by what is next to nothing.
    for (std::size_t i = 0; i < tensor.values.size(); ++i) {
      apart += std::pow(static_cast<double>(fixed.at(name).values[i]) - tensor.values[i], 2);
      size += std::pow(tensor.values[i], 2);
    }
    EXPECT_LE(apart, 1e-8 * size) << name;
  }
}

class FixedStepTest : public ::testing::TestWithParam<std::string> {};

TEST_P(FixedStepTest, AFixedStepIsTheOrdinaryStep) {
  const auto ordinary = Make(GetParam()), fixed = Make(GetParam());
  ASSERT_THAT(Fix(*fixed, MakePlainRunner()), IsOk());
  for (std::uint64_t step = 0; step < kSteps; ++step) {
    ASSERT_OK_AND_ASSIGN(const StepFigures expected, Step(*ordinary, GetParam(), step));
    ASSERT_OK_AND_ASSIGN(const StepFigures figures, Step(*fixed, GetParam(), step));
    EXPECT_NEAR(figures.critic_loss, expected.critic_loss, 1e-4 * expected.critic_loss) << "step " << step;
    EXPECT_NEAR(figures.actor_loss, expected.actor_loss, 1e-4) << "step " << step;
    EXPECT_EQ(figures.actor_moved, expected.actor_moved);
    ASSERT_EQ(figures.td_error.size(), expected.td_error.size());
    for (std::size_t b = 0; b < expected.td_error.size(); ++b)
      EXPECT_NEAR(figures.td_error[b], expected.td_error[b], 1e-4);
  }
  ExpectSame(fixed->Save(), ordinary->Save());
}

TEST_P(FixedStepTest, WhatIsNotFiniteLeavesEverythingAsItWasAndTheNextStepAsIfItHadNotBeen) {
  const auto clean = Make(GetParam()), poisoned = Make(GetParam());
  ASSERT_THAT(Fix(*clean, MakePlainRunner()), IsOk());
  ASSERT_THAT(Fix(*poisoned, MakePlainRunner()), IsOk());
  for (std::uint64_t step = 0; step < 6; ++step) {
    ASSERT_THAT(Step(*clean, GetParam(), step), IsOk());
    ASSERT_THAT(Step(*poisoned, GetParam(), step), IsOk());
  }
  const std::string before = EncodeWeights(poisoned->Save());
  for (const auto vector :
       {&TransitionBatch::reward, &TransitionBatch::baseline}) {  // The critics' step, and the actor's alone.
    TransitionBatch batch = test::BatchFor(AlgorithmTraitsOf(GetParam()).value(), 2, kBatch);
    (batch.*vector)[0] = std::numeric_limits<float>::infinity();
    ASSERT_OK_AND_ASSIGN(const StepFigures figures, poisoned->Step(batch, 7));  // A soft update would be due as well.
    EXPECT_TRUE(figures.undone);
    EXPECT_EQ(EncodeWeights(poisoned->Save()), before);
  }
  for (std::uint64_t step = 8; step < 12; ++step) {
    ASSERT_THAT(Step(*clean, GetParam(), step), IsOk());
    ASSERT_THAT(Step(*poisoned, GetParam(), step), IsOk());
  }
  EXPECT_EQ(EncodeWeights(poisoned->Save()), EncodeWeights(clean->Save()));
}

INSTANTIATE_TEST_SUITE_P(ByName, FixedStepTest, ::testing::Values("enhanced_rl", "integrated_rl"),
                         [](const auto& instance) { return instance.param; });

// What a graph of each kind would have been captured of.
class Watcher final : public StepRunner {
 public:
  explicit Watcher(std::vector<std::pair<std::uint64_t, bool>>& seen) : seen_(seen) {}
  void Run(std::uint64_t kind, const std::function<bool()>& body) override { seen_.emplace_back(kind, body()); }

 private:
  std::vector<std::pair<std::uint64_t, bool>>& seen_;
};

TEST(StepKindTest, AStepIsOfOneOfFourKindsAndTheFirstIsRepeatedByNone) {
  std::vector<std::pair<std::uint64_t, bool>> seen;
  const auto algorithm = Make("enhanced_rl");
  ASSERT_THAT(Fix(*algorithm, std::make_unique<Watcher>(seen)), IsOk());
  for (std::uint64_t step = 0; step < kSteps; ++step) ASSERT_THAT(Step(*algorithm, "enhanced_rl", step), IsOk());

  std::set<std::uint64_t> kinds;
  for (const auto& [kind, repeats] : seen) kinds.insert(kind);
  EXPECT_EQ(kinds.size(), 3U) << "without the actor no soft update was due";
  EXPECT_FALSE(seen[0].second) << "it put the critics at the level of the rewards";
  for (std::size_t step = 1; step < seen.size(); ++step) EXPECT_TRUE(seen[step].second) << "step " << step;
}

TEST(StepKindTest, WithoutCudaAndForOtherAlgorithmsItIsRefused) {
  EXPECT_THAT(Fix(*Make("enhanced_rl"), nullptr), HasCode(Code::kInvalidInput));
  EXPECT_THAT(Fix(*Make("td3"), MakePlainRunner()), HasCode(Code::kInvalidInput));
  v1::Config config = ConfigOf("enhanced_rl");
  config.mutable_learner()->set_device("cpu");
  config.mutable_learner()->set_cuda_graph(true);
  const auto made = CreateAlgorithm(config, test::kBatchProblem);
  ASSERT_FALSE(made);
  EXPECT_THAT(made.error(), MessageNames("learner.cuda_graph"));
}

}  // namespace
}  // namespace fuseline
