// What every registered algorithm must do, by name: nothing here knows one of them. Exact restart, all-or-nothing steps, the same
// numbers from the same seed, an actor that the plain network serves as the learner computes it.

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <string>

#include <gtest/gtest.h>

#include "algorithm.h"
#include "fuseline/core/file.h"
#include "fuseline/fusion/policy_network.h"
#include "fuseline/learner/algorithms.h"
#include "fuseline/proto/schema.h"
#include "fuseline/test_support/matchers.h"
#include "learner_world.h"
#include "random_batch.h"

namespace fuseline {
namespace {

using test::BatchFor;
using test::kBatchState;

constexpr std::size_t kBatch = 16;

class EveryAlgorithmTest : public ::testing::TestWithParam<std::string> {
 protected:
  v1::Config Config(std::uint64_t seed = 1) const {
    v1::Config config = test::SmallConfig();
    config.mutable_learner()->set_algorithm(GetParam());
    config.mutable_learner()->set_soft_update_every(3);
    config.mutable_fuseline()->set_seed(seed);
    return config;
  }
  static std::unique_ptr<Algorithm> Make(const v1::Config& config) { return CreateAlgorithm(config, test::kBatchProblem).value(); }
  AlgorithmTraits traits() const { return AlgorithmTraitsOf(GetParam()).value(); }

  void Train(Algorithm& algorithm, std::uint64_t from, std::uint64_t to) const {
    for (std::uint64_t step = from; step < to; ++step) {
      ASSERT_OK_AND_ASSIGN(const StepFigures figures, algorithm.Step(BatchFor(traits(), step, kBatch), step));
      ASSERT_FALSE(figures.undone) << "step " << step;
    }
  }
};

TEST_P(EveryAlgorithmTest, WhatIsSavedAndRestoredGoesOnAsIfNothingHadHappened) {
  const auto first = Make(Config());
  Train(*first, 0, 20);
  const auto second = Make(Config(99));
  ASSERT_OK_AND_ASSIGN(const TensorMap stored, DecodeWeights(EncodeWeights(first->Save())));
  ASSERT_THAT(second->Restore(stored), IsOk());
  EXPECT_EQ(second->WeightsSha256(), first->WeightsSha256());

  const auto third = Make(Config());  // Of the same seed: what is drawn later is the same too.
  ASSERT_THAT(third->Restore(stored), IsOk());
  Train(*first, 20, 40);
  Train(*third, 20, 40);
  EXPECT_EQ(third->WeightsSha256(), first->WeightsSha256());
  EXPECT_EQ(EncodeWeights(third->Save()), EncodeWeights(first->Save()));
}

TEST_P(EveryAlgorithmTest, TheSameSeedGivesTheSameBitsAndAStepBelongsToItsNumber) {
  const auto one = Make(Config()), other = Make(Config());
  Train(*one, 0, 10);
  Train(*other, 0, 10);
  EXPECT_EQ(one->WeightsSha256(), other->WeightsSha256());
  EXPECT_EQ(one->actor_parameters(), other->actor_parameters());
}

TEST_P(EveryAlgorithmTest, AStateOfAnotherShapeIsRefusedAsCorrupt) {
  const auto algorithm = Make(Config());
  TensorMap tensors = algorithm->Save();
  for (const auto& [name, tensor] : algorithm->Save()) {
    TensorMap broken = tensors;
    broken[name].values.push_back(0);
    EXPECT_THAT(algorithm->Restore(broken), HasCode(Code::kCorrupt)) << name;
    broken.erase(name);
    EXPECT_THAT(algorithm->Restore(broken), HasCode(Code::kCorrupt)) << name;
  }
}

TEST_P(EveryAlgorithmTest, APoisonedStepIsUndoneAndTheNextOneIsAsIfItHadNotBeen) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const auto clean = Make(Config()), poisoned = Make(Config());
  Train(*clean, 0, 5);
  Train(*poisoned, 0, 5);
  const std::string before = EncodeWeights(poisoned->Save());
  for (const float poison : {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity}) {
    for (auto vector : {&TransitionBatch::reward, &TransitionBatch::action, &TransitionBatch::state, &TransitionBatch::next_state}) {
      TransitionBatch batch = BatchFor(traits(), 2, kBatch);
      (batch.*vector)[1] = poison;
      ASSERT_OK_AND_ASSIGN(const StepFigures figures, poisoned->Step(batch, 5));  // A soft update would be due as well.
      if (figures.undone || vector == &TransitionBatch::reward) {
        EXPECT_EQ(EncodeWeights(poisoned->Save()), before) << poison;
        continue;
      }
      for (const auto& [name, tensor] : poisoned->Save()) {  // It does not look there.
        for (const float value : tensor.values) ASSERT_TRUE(std::isfinite(value)) << name;
      }
      ASSERT_THAT(poisoned->Restore(DecodeWeights(before).value()), IsOk());
    }
  }
  Train(*clean, 6, 9);
  Train(*poisoned, 6, 9);
  EXPECT_EQ(EncodeWeights(poisoned->Save()), EncodeWeights(clean->Save())) << "moments and counts must have been restored too";
}

TEST_P(EveryAlgorithmTest, AnEmptyBatchOfTheActorLeavesThePolicy) {
  const auto algorithm = Make(Config());
  const auto actor = algorithm->Act(std::vector<float>(kBatchState, 0.5F)).value();
  for (std::uint64_t step = 0; step < 3; ++step) {
    ASSERT_OK_AND_ASSIGN(const StepFigures figures, algorithm->Step(BatchFor(traits(), step, kBatch), {}, step));
    EXPECT_FALSE(figures.actor_moved);
    EXPECT_EQ(figures.actor_loss, 0);
  }
  EXPECT_EQ(algorithm->Act(std::vector<float>(kBatchState, 0.5F)).value(), actor);
}

TEST_P(EveryAlgorithmTest, APolicyOfOneActionARequestSeesNoItem) {
  if (!traits().per_request) GTEST_SKIP() << "acts for each item";
  const auto algorithm = Make(Config());
  Train(*algorithm, 0, 20);
  const std::vector<float> two_items{0.3F, -0.2F, 0.5F, 0.9F, 0.3F, 0.1F, 2.5F, -0.7F};  // The first column is the user's.
  ASSERT_OK_AND_ASSIGN(const auto actions, algorithm->Act(two_items));
  const std::size_t width = actions.size() / 2;
  for (std::size_t d = 0; d < width; ++d) EXPECT_EQ(actions[d], actions[width + d]);
  ASSERT_OK_AND_ASSIGN(const CriticValues values, algorithm->Values(two_items, actions));
  for (std::size_t pair = 0; pair < values.mean.size(); pair += 2) EXPECT_EQ(values.mean[pair], values.mean[pair + 1]);
}

// As a version of it is served.
Result<PolicyNetwork> Served(const v1::Config& config, const Algorithm& algorithm) {
  v1::PolicyManifest manifest;
  *manifest.mutable_schema() = test::SmallSchema();
  manifest.set_schema_digest(SchemaDigest(manifest.schema()));
  *manifest.mutable_ranges() = PolicyRangesOf(config).value();
  algorithm.DescribePolicy(manifest);
  TensorMap tensors = algorithm.PolicyTensors();
  const Normaliser identity = Normaliser::Identity(FeatureEncoder(manifest.schema()).state_width());
  tensors["normaliser.mean"] = {{kBatchState}, identity.mean};
  tensors["normaliser.scale"] = {{kBatchState}, identity.scale};
  return PolicyNetwork::Create(manifest, tensors);
}

// `computed` may have an action's learned dimensions alone; the others must be those of the static action.
void ExpectServesWhatIsComputed(const PolicyNetwork& network, const Algorithm& algorithm) {
  Random random(4, "requests", 0);
  ActorWorkspace workspace;
  for (int request = 0; request < 20; ++request) {
    v1::Features user, item;
    user.add_dense(static_cast<float>(random.NextNormal()));
    item.add_dense(static_cast<float>(random.NextNormal()));
    const std::vector<float> scores{static_cast<float>(random.NextUniform()), static_cast<float>(random.NextUniform())};
    const std::vector<CandidateView> candidates{{ViewOf(item), scores}};
    std::vector<float> state(kBatchState), served(test::kActionWidth);
    ASSERT_THAT(network.encoder().EncodeShared(ViewOf(user), {}, std::span(state).first(network.encoder().shared_width())), IsOk());
    ASSERT_THAT(network.encoder().EncodeItem(candidates[0], std::span(state).subspan(network.encoder().shared_width())), IsOk());
    ASSERT_THAT(network.Act(ViewOf(user), {}, candidates, workspace, served), IsOk());
    ASSERT_OK_AND_ASSIGN(const auto computed, algorithm.Act(state));
    ASSERT_EQ(computed.size(), network.action_space().learned_width());
    for (std::size_t d = 0; d < served.size(); ++d)
      EXPECT_NEAR(served[d], d < computed.size() ? computed[d] : network.action_space().static_action()[d], 1e-5)
          << "request " << request;
  }
}

TEST_P(EveryAlgorithmTest, ThePlainNetworkServesWhatTheLearnerComputes) {
  const auto algorithm = Make(Config());
  Train(*algorithm, 0, 30);
  ASSERT_OK_AND_ASSIGN(const PolicyNetwork network, Served(Config(), *algorithm));
  ExpectServesWhatIsComputed(network, *algorithm);
}

TEST_P(EveryAlgorithmTest, WithFixedBiasesAnActionIsThePowersAlone) {
  v1::Config config = Config();
  config.mutable_policy()->set_biases("fixed");
  ASSERT_OK_AND_ASSIGN(const ActionSpace space, ActionSpace::Create(PolicyRangesOf(config).value()));
  ASSERT_OK_AND_ASSIGN(const auto algorithm,
                       CreateAlgorithm(config, ProblemOf(FeatureEncoder(test::SmallSchema()), space)));
  for (std::uint64_t step = 0; step < 30; ++step) {
    TransitionBatch batch = BatchFor(traits(), step, kBatch);
    for (auto vector : {&TransitionBatch::action, &TransitionBatch::baseline, &TransitionBatch::next_baseline})
      (batch.*vector).resize((batch.*vector).size() / 2);
    ASSERT_OK_AND_ASSIGN(const StepFigures figures, algorithm->Step(batch, step));
    ASSERT_FALSE(figures.undone) << "step " << step;
  }
  ASSERT_OK_AND_ASSIGN(const PolicyNetwork network, Served(config, *algorithm));
  EXPECT_EQ(network.action_space().learned_width(), test::kActionWidth / 2);
  ExpectServesWhatIsComputed(network, *algorithm);
}

TEST_P(EveryAlgorithmTest, ThePolicyStartsNearTheStaticAction) {
  Problem problem = test::kBatchProblem;
  problem.static_action = {0.5F, -0.8F, 0.0F, 0.9F};
  const auto algorithm = CreateAlgorithm(Config(), problem).value();
  for (const std::vector<float>& state : {std::vector<float>{0.9F, 0, 0, 0}, {-0.9F, 0, 0, 0}}) {
    ASSERT_OK_AND_ASSIGN(const auto action, algorithm->Act(state));
    for (std::size_t d = 0; d < action.size(); ++d) EXPECT_NEAR(action[d], problem.static_action[d], 0.12) << "dimension " << d;
  }
}

TEST_P(EveryAlgorithmTest, APolicyReturnedEarlierActsAsItDid) {
  const auto algorithm = Make(Config());
  Train(*algorithm, 0, 5);
  const std::vector<float> state{0.1F, 0.2F, -0.3F, 0.4F};
  const auto then = algorithm->actor_parameters();
  ASSERT_OK_AND_ASSIGN(const auto acted, algorithm->Act(state));
  Train(*algorithm, 5, 25);
  ASSERT_OK_AND_ASSIGN(const auto again, algorithm->ActAs(then, state));
  EXPECT_EQ(again, acted);
}

INSTANTIATE_TEST_SUITE_P(ByName, EveryAlgorithmTest, ::testing::ValuesIn(AlgorithmNames()),
                         [](const auto& instance) { return instance.param; });

TEST(AlgorithmRegistryTest, TheWorkedExampleIsRegisteredAndStandsInTheDocumentAsItIs) {
  EXPECT_THAT(AlgorithmTraitsOf("better_half"), IsOk());
  const std::filesystem::path root = std::getenv("FUSELINE_SOURCE_DIR");
  ASSERT_OK_AND_ASSIGN(const std::string document, ReadFile(root / "docs/adding_an_algorithm.md"));
  ASSERT_OK_AND_ASSIGN(const std::string example, ReadFile(root / "tests/learner/worked_example.cc"));
  EXPECT_NE(document.find("```cpp\n" + example + "```"), std::string::npos);
}

TEST(AlgorithmRegistryTest, AnUnknownNameIsRefusedWithAllThatAreKnown) {
  v1::Config config = test::SmallConfig();
  config.mutable_learner()->set_algorithm("enhanced");
  for (const Status& status : {CheckAlgorithm(config), CreateAlgorithm(config, test::kBatchProblem).error()}) {
    EXPECT_THAT(status, HasCode(Code::kInvalidInput));
    for (const std::string& name : AlgorithmNames()) EXPECT_THAT(status, MessageNames(name));
  }
  config.mutable_learner()->set_algorithm("static");
  EXPECT_THAT(CheckAlgorithm(config), IsOk());
}

}  // namespace
}  // namespace fuseline
