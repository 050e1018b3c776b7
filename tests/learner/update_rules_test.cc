// When and how the parts of an algorithm move, seen through what it saves: delays, targets, signs. Update by update, from one batch.

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "algorithm.h"
#include "fuseline/test_support/matchers.h"
#include "learner_world.h"
#include "random_batch.h"

namespace fuseline {
namespace {

constexpr std::size_t kBatch = 16;

v1::Config ConfigOf(const std::string& algorithm) {
  v1::Config config = test::SmallConfig();
  config.mutable_learner()->set_algorithm(algorithm);
  return config;
}

std::unique_ptr<Algorithm> Make(const v1::Config& config) { return CreateAlgorithm(config, test::kBatchProblem).value(); }

TransitionBatch Batch(const v1::Config& config, std::uint64_t seed) {
  return test::BatchFor(AlgorithmTraitsOf(config.learner().algorithm()).value(), seed, kBatch);
}

// The steps, of the first `count`, at which a part moved.
std::vector<std::uint64_t> MovesOf(const v1::Config& config, const std::string& part, std::uint64_t count) {
  const auto algorithm = Make(config);
  EXPECT_THAT(algorithm->Step(Batch(config, count), 0), IsOk());  // The first puts critics and their targets at the level of the rewards.
  std::vector<std::uint64_t> moves;
  std::vector<float> last = algorithm->Save().at(part).values;
  for (std::uint64_t step = 0; step < count; ++step) {
    EXPECT_THAT(algorithm->Step(Batch(config, step), step), IsOk());
    const std::vector<float> now = algorithm->Save().at(part).values;
    if (now != last) moves.push_back(step);
    last = now;
  }
  return moves;
}

using Steps = std::vector<std::uint64_t>;

TEST(UpdateRulesTest, TargetsAndDelayedActorsMoveAtTheirSteps) {
  v1::Config td3 = ConfigOf("td3");
  td3.mutable_td3()->set_policy_delay(3);
  EXPECT_EQ(MovesOf(td3, "critic", 6), (Steps{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(MovesOf(td3, "actor", 6), (Steps{2, 5}));
  EXPECT_EQ(MovesOf(td3, "critic.target", 6), (Steps{2, 5}));
  EXPECT_EQ(MovesOf(td3, "actor.target", 6), (Steps{2, 5}));

  EXPECT_EQ(MovesOf(ConfigOf("ddpg"), "actor.target", 3), (Steps{0, 1, 2}));
  EXPECT_EQ(MovesOf(ConfigOf("cql_sac"), "log_alpha", 3), (Steps{0, 1, 2}));
  EXPECT_EQ(MovesOf(ConfigOf("iql"), "critic.target", 3), (Steps{0, 1, 2}));

  v1::Config batch_rl = ConfigOf("batch_rl");
  batch_rl.mutable_batch_rl()->set_soft_update_every(4);
  EXPECT_EQ(MovesOf(batch_rl, "critic.target", 8), (Steps{3, 7}));
  EXPECT_EQ(MovesOf(batch_rl, "perturbation.target", 8), (Steps{3, 7}));
  EXPECT_EQ(MovesOf(batch_rl, "decoder", 2), (Steps{0, 1}));

  v1::Config integrated = ConfigOf("integrated_rl");
  integrated.mutable_learner()->set_soft_update_every(5);
  EXPECT_EQ(MovesOf(integrated, "actor.target", 10), (Steps{4, 9}));
  EXPECT_EQ(MovesOf(integrated, "critic.target", 10), (Steps{4, 9}));
}

TEST(UpdateRulesTest, ATargetFollowsByItsRate) {
  v1::Config config = ConfigOf("ddpg");
  config.mutable_ddpg()->set_soft_update(0.25);
  const auto algorithm = Make(config);
  ASSERT_THAT(algorithm->Step(Batch(config, 0), 0), IsOk());  // Puts critics and their targets at the level of the rewards.
  const TensorMap before = algorithm->Save();
  ASSERT_THAT(algorithm->Step(Batch(config, 1), 1), IsOk());
  const TensorMap after = algorithm->Save();
  for (std::size_t i = 0; i < before.at("critic").values.size(); ++i) {
    const float expected = before.at("critic.target").values[i] + 0.25F * (after.at("critic").values[i] - before.at("critic.target").values[i]);
    EXPECT_NEAR(after.at("critic.target").values[i], expected, 1e-7);
  }
}

// A rate of 0 leaves what the start is. A group of critics begins at reward / (1 - gamma times the share of sessions that go on).
TEST(UpdateRulesTest, CriticsStartAtTheLevelOfTheRewardsUnlessTheStartIsPlain) {
  for (const char* start : {"levelled", "plain"}) {
    v1::Config config = ConfigOf("integrated_rl");
    config.mutable_learner()->set_start(start);
    config.mutable_learner()->set_critic_rate(0);
    config.mutable_learner()->set_gamma(0.8);
    const auto algorithm = Make(config);
    TransitionBatch batch = Batch(config, 4);
    for (std::size_t b = 0; b < kBatch; ++b) batch.terminated[b] = b < kBatch / 4 ? 1 : 0;
    std::vector<double> level(kRewardGroups, 0.0);
    for (std::size_t i = 0; i < batch.reward.size(); ++i) level[i / kBatch] += batch.reward[i] / (kBatch * (1 - 0.8 * 0.75));
    const std::size_t members = kRewardGroups * static_cast<std::size_t>(SizesOf(config.learner()).critics_per_group);
    const TensorMap before = algorithm->Save();
    ASSERT_THAT(algorithm->Step(batch, {}, 0), IsOk());
    const TensorMap after = algorithm->Save();
    const std::vector<float>&was = before.at("critic").values, &is = after.at("critic").values;
    std::size_t moved = 0;
    for (std::size_t i = 0; i < was.size(); ++i) {
      if (was[i] == is[i]) continue;
      const std::size_t member = moved++;
      EXPECT_NEAR(is[i] - was[i], level[member * kRewardGroups / members], 1e-5) << "member " << member;
    }
    EXPECT_EQ(moved, std::string(start) == "levelled" ? members : 0U);
    EXPECT_EQ(before.contains("critic.action_mean"), std::string(start) == "levelled") << "how critics see an action";
  }
}

TEST(UpdateRulesTest, TheTwoFormsOfIntegratedRlHaveTwoGroupsOrOne) {
  v1::Config config = ConfigOf("integrated_rl");
  config.mutable_learner()->set_preset("paper");
  config.mutable_learner()->clear_hidden();
  config.mutable_learner()->set_critics_per_group(0);
  EXPECT_EQ(SizesOf(config.learner()).critics_per_group, 24);
  EXPECT_EQ(SizesOf(config.learner()).batch, 16) << "what is named beats the preset";
  EXPECT_EQ(SizesOf(config.learner()).hidden, (std::vector<std::int64_t>{256, 128, 64}));
  EXPECT_NE(Make(config)->description().find("critic 48 x"), std::string::npos);

  const std::vector<float> states(2 * test::kBatchState, 0.5F), actions(2 * test::kActionWidth, 0.0F);
  EXPECT_EQ(Make(config)->Values(states, actions).value().deviation.size(), 2U);
  config.mutable_learner()->set_integrated_form("single");
  EXPECT_EQ(SizesOf(config.learner()).critics_per_group, 24);
  EXPECT_NE(Make(config)->description().find("critic 24 x"), std::string::npos);
  EXPECT_EQ(Make(config)->Values(states, actions).value().deviation.size(), 1U);
}

TEST(UpdateRulesTest, TheReplayBufferOfBatchRlInPresetPaperIsThePapers) {
  v1::Config config = DefaultSettings();
  for (const char* algorithm : {"enhanced_rl", "batch_rl"}) {
    for (const char* preset : {"small", "paper"}) {
      config.mutable_learner()->set_algorithm(algorithm);
      config.mutable_learner()->set_preset(preset);
      const bool as_paper = std::string(algorithm) == "batch_rl" && std::string(preset) == "paper";
      EXPECT_EQ(SizesOf(config.learner()).replay_transitions, as_paper ? 100'000 : 200'000)
          << algorithm << ' ' << preset;
    }
  }
  config.mutable_learner()->set_replay_transitions(7);
  EXPECT_EQ(SizesOf(config.learner()).replay_transitions, 7) << "what is named beats the preset";
}

// One-step sessions whose reward is known: the critics of every algorithm that has some must come to say it.
TEST(UpdateRulesTest, CriticsOfTheWeightedSumLearnWhatIsEarned) {
  for (const char* name : {"ddpg", "td3", "iql", "batch_rl", "integrated_rl"}) {
    v1::Config config = ConfigOf(name);
    config.mutable_learner()->set_integrated_form("single");
    config.mutable_learner()->set_omega_watch(0.5);
    config.mutable_learner()->set_critic_rate(0.01);
    config.mutable_ddpg()->set_critic_rate(0.01);
    config.mutable_td3()->set_critic_rate(0.01);
    config.mutable_iql()->set_critic_rate(0.01);
    config.mutable_batch_rl()->set_critic_rate(0.01);
    const auto algorithm = Make(config);
    for (std::uint64_t step = 0; step < 250; ++step) {
      TransitionBatch batch = Batch(config, step);
      batch.terminated.assign(kBatch, 1);
      for (std::size_t b = 0; b < kBatch; ++b) {
        batch.reward[b] = 1 + batch.state[b * test::kBatchState];  // Engagement; and watch:
        batch.reward[kBatch + b] = 2;
      }
      ASSERT_OK_AND_ASSIGN(const StepFigures figures, algorithm->Step(batch, step));
      ASSERT_EQ(figures.td_error.size(), kBatch) << name;
    }
    const std::vector<float> states{0.5F, 0, 0, 0, -0.5F, 0, 0, 0}, actions(2 * test::kActionWidth, 0.0F);
    ASSERT_OK_AND_ASSIGN(const CriticValues values, algorithm->Values(states, actions));
    EXPECT_NEAR(values.mean[0], 1.5 + 0.5 * 2, 0.25) << name;
    EXPECT_NEAR(values.mean[1], 0.5 + 0.5 * 2, 0.25) << name;
  }
}

TEST(UpdateRulesTest, AWeightOfZeroTeachesNothing) {
  for (const char* name : {"enhanced_rl", "integrated_rl", "ddpg", "td3", "cql_sac", "iql", "batch_rl"}) {
    const v1::Config config = ConfigOf(name);
    const auto one = Make(config), other = Make(config);
    TransitionBatch batch = Batch(config, 3), changed = batch;
    batch.weight[5] = changed.weight[5] = 0;
    const std::size_t pairs = batch.items;
    for (std::size_t l = 0; l < pairs; ++l) changed.reward[5 * pairs + l] += 100;
    ASSERT_THAT(one->Step(batch, {}, 0), IsOk());
    ASSERT_THAT(other->Step(changed, {}, 0), IsOk());
    EXPECT_EQ(one->WeightsSha256(), other->WeightsSha256()) << name;
    changed.weight[5] = 1;
    ASSERT_THAT(one->Step(batch, {}, 1), IsOk());
    ASSERT_THAT(other->Step(changed, {}, 1), IsOk());
    EXPECT_NE(one->WeightsSha256(), other->WeightsSha256()) << name;
  }
}

TEST(UpdateRulesTest, ABatchInWhichNothingCountsTeachesNothingAndIsNoFault) {
  for (const std::string name : {"enhanced_rl", "integrated_rl", "ddpg", "td3", "cql_sac", "iql", "batch_rl", "es", "cem"}) {
    const v1::Config config = ConfigOf(name);
    const auto algorithm = Make(config);
    const auto before = algorithm->actor_parameters();
    TransitionBatch batch = Batch(config, 3);
    batch.weight.assign(kBatch, 0);
    ASSERT_OK_AND_ASSIGN(const StepFigures figures, algorithm->Step(batch, 0));
    EXPECT_FALSE(figures.undone) << name;
    EXPECT_EQ(algorithm->actor_parameters(), before) << name;
  }
}

// Reward falls with the distance from a* in the box; one step a session. Every algorithm must find the direction; those that stay near
// the data must stay near a* too. (DDPG and TD3 believe their critics where nothing was logged, and go on to the corner.)
TEST(UpdateRulesTest, OnABanditEveryActorMovesTowardsTheBestAction) {
  constexpr std::size_t kWide = 32;
  const std::vector<float> best{0.1F, -0.1F, 0.1F, -0.1F};
  for (const char* name : {"integrated_rl", "ddpg", "td3", "cql_sac", "iql", "batch_rl"}) {
    v1::Config config = ConfigOf(name);
    for (const auto set : {&v1::Learner::set_actor_rate, &v1::Learner::set_critic_rate}) (config.mutable_learner()->*set)(0.003);
    config.mutable_ddpg()->set_actor_rate(0.003);
    config.mutable_ddpg()->set_critic_rate(0.003);
    config.mutable_td3()->set_actor_rate(0.003);
    config.mutable_td3()->set_critic_rate(0.003);
    config.mutable_cql_sac()->set_actor_rate(0.003);
    config.mutable_cql_sac()->set_critic_rate(0.003);
    config.mutable_cql_sac()->set_conservative_weight(1);
    config.mutable_iql()->set_actor_rate(0.003);
    config.mutable_iql()->set_critic_rate(0.003);
    config.mutable_iql()->set_value_rate(0.003);
    config.mutable_batch_rl()->set_critic_rate(0.003);
    config.mutable_batch_rl()->set_perturbation_rate(0.003);
    const auto algorithm = Make(config);
    for (std::uint64_t step = 0; step < 400; ++step) {
      TransitionBatch batch = test::BatchFor({.per_request = true}, step, kWide);
      batch.terminated.assign(kWide, 1);
      for (std::size_t b = 0; b < kWide; ++b) {
        double squared = 0;
        for (std::size_t d = 0; d < test::kActionWidth; ++d) squared += std::pow(batch.action[b * test::kActionWidth + d] - best[d], 2);
        batch.reward[b] = batch.reward[kWide + b] = static_cast<float>(2 - 40 * squared);
      }
      ASSERT_OK_AND_ASSIGN(const StepFigures figures, algorithm->Step(batch, step < 100 ? TransitionBatch{} : batch, step));
      ASSERT_FALSE(figures.undone) << name;
    }
    const auto action = algorithm->Act(std::vector<float>{0.2F, 0, 0, 0}).value();
    double along = 0;  // Of the way from the start, 0, to a*.
    for (std::size_t d = 0; d < test::kActionWidth; ++d) along += action[d] * best[d] / 0.04;
    EXPECT_GT(along, 0.3) << name;
    const bool stays_near = std::string(name) != "ddpg" && std::string(name) != "td3";
    EXPECT_TRUE(!stays_near || along < 2.5) << name << " " << along;
    RecordProperty(name, std::to_string(along));
  }
}

}  // namespace
}  // namespace fuseline
