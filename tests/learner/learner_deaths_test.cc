// Exactly once and bit-identical across deaths, of the policy and of the scorer beside it: whatever dies and whatever the interleaving,
// the digests are those of the undisturbed run.

#include "learner_fixture.h"

#include <string>
#include <vector>

#include "fuseline/learner/algorithms.h"

namespace fuseline {
namespace {

using test::Mark;
using test::Record;
using test::SmallConfig;

TEST_F(LearnerTest, WhateverDiesAndWhateverTheInterleavingTheWeightsAreThoseOfTheUndisturbedRun) {
  const v1::Config config = SmallConfig();
  const auto stream = test::Sessions(config, /*partitions=*/2, 120);
  const test::TempDir calm;
  const Outcome expected = Run(calm.path(), config, stream, nullptr);
  ASSERT_GT(expected.progress.versions, 3U);
  ASSERT_EQ(expected.progress.trajectories, 240U);
  ASSERT_LT(expected.progress.buffered, expected.progress.transitions) << "the buffer must have evicted";
  int deaths = 0;
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE("chaos seed " + std::to_string(seed));
    const test::TempDir folder;
    Random chaos(seed, "chaos", 0);
    const Outcome outcome = Run(folder.path(), config, stream, &chaos);
    EXPECT_EQ(outcome.weights, expected.weights);
    EXPECT_EQ(outcome.versions, expected.versions);
    EXPECT_EQ(outcome.progress.transitions, expected.progress.transitions);
    EXPECT_EQ(outcome.progress.left_out, expected.progress.left_out);
    deaths += outcome.deaths;
  }
  EXPECT_GT(deaths, 10);
}

TEST_F(LearnerTest, EveryAlgorithmComesThroughDeathsWithTheWeightsOfTheUndisturbedRun) {
  for (const std::string& name : AlgorithmNames()) {
    SCOPED_TRACE(name);
    v1::Config config = SmallConfig();
    config.mutable_learner()->set_algorithm(name);
    config.mutable_learner()->set_actor_delay_steps(3);
    config.mutable_learner()->set_version_every_steps(10);
    const auto stream = test::Sessions(config, /*partitions=*/2, 40);
    const test::TempDir calm;
    const Outcome expected = Run(calm.path(), config, stream, nullptr);
    EXPECT_GT(expected.progress.versions, 1U);
    EXPECT_EQ(expected.progress.steps_undone, 0U);
    int deaths = 0;
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
      SCOPED_TRACE("chaos seed " + std::to_string(seed));
      const test::TempDir folder;
      Random chaos(seed, "chaos", 0);
      const Outcome outcome = Run(folder.path(), config, stream, &chaos);
      EXPECT_EQ(outcome.weights, expected.weights);
      EXPECT_EQ(outcome.versions, expected.versions);
      deaths += outcome.deaths;
    }
    EXPECT_GT(deaths, 0);
  }
}

TEST_F(LearnerTest, TheScorerComesThroughDeathsTooAndChangesNothingOfThePolicy) {
  const v1::Config config = test::SmallScorerConfig({"scorer.weights=linear"});
  const auto stream = test::Sessions(config, /*partitions=*/2, 120);
  const test::TempDir calm, without;
  const Outcome expected = Run(calm.path(), config, stream, nullptr);
  ASSERT_GT(expected.scorers.size(), 5U);
  ASSERT_TRUE(expected.progress.scorer.has_value());
  EXPECT_EQ(expected.progress.scorer->versions, expected.scorers.size());
  EXPECT_EQ(expected.progress.scorer->phase, "weighted training");
  EXPECT_GT(expected.progress.scorer->held_back, 20U);
  int deaths = 0;
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    SCOPED_TRACE("chaos seed " + std::to_string(seed));
    const test::TempDir folder;
    Random chaos(seed, "chaos", 0);
    const Outcome outcome = Run(folder.path(), config, stream, &chaos);
    EXPECT_EQ(outcome.weights, expected.weights);
    EXPECT_EQ(outcome.versions, expected.versions);
    EXPECT_EQ(outcome.scorers, expected.scorers);
    EXPECT_EQ(outcome.progress.scorer->impressions, expected.progress.scorer->impressions);
    deaths += outcome.deaths;
  }
  EXPECT_GT(deaths, 4);

  const Outcome alone = Run(without.path(), SmallConfig(), stream, nullptr);
  EXPECT_EQ(alone.weights, expected.weights);
  EXPECT_EQ(alone.versions, expected.versions);
  EXPECT_FALSE(alone.progress.scorer.has_value());
}

TEST_F(LearnerTest, AScorerThatIsNotLearnedRestsAndGoesOnLater) {
  const v1::Config config = test::SmallScorerConfig({});
  const auto stream = test::Sessions(config, /*partitions=*/2, 120);
  std::vector<std::vector<v1::Trajectory>> half(2);
  for (std::size_t p = 0; p < 2; ++p) half[p].assign(stream[p].begin(), stream[p].begin() + 60);
  const test::TempDir folder;
  const auto run_until_names_end = [&](const v1::Config& settings, const std::vector<std::vector<v1::Trajectory>>& sessions) {
    auto learner = Open(folder.path(), settings).value();
    for (std::size_t p = 0; p < 2; ++p) {
      for (const v1::Trajectory& session : sessions[p]) EXPECT_THAT(learner->Offer(Record(session)), IsOk());
      EXPECT_THAT(learner->Offer(Mark(static_cast<std::int32_t>(p), kEndOfTimeMs)), IsOk());
    }
    while (!learner->idle()) {
      EXPECT_THAT(learner->Advance(), IsOk());
      if (const auto pending = learner->PendingVersion()) {
        EXPECT_THAT(learner->MarkStored(pending->manifest.version()), IsOk());
      }
      if (const auto pending = learner->PendingScorerVersion()) {
        EXPECT_THAT(learner->MarkScorerStored(pending->manifest.version()), IsOk());
      }
    }
    EXPECT_THAT(learner->Checkpoint(), IsOk());
    return learner->progress();
  };
  const LearnerProgress first = run_until_names_end(config, half);
  ASSERT_GT(first.scorer->versions, 1U);

  EXPECT_FALSE(run_until_names_end(SmallConfig(), half).scorer.has_value());
  const LearnerProgress later = run_until_names_end(config, stream);

  EXPECT_GT(later.scorer->versions, first.scorer->versions);
  const auto other = Open(folder.path(), test::SmallScorerConfig({"scorer.embedding_width=6"}));
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code, Code::kInvalidInput);
  EXPECT_NE(other.error().message.find("embedding 6"), std::string::npos) << other.error().message;
}

TEST_F(LearnerTest, WhileAVersionOfTheScorerWaitsAndTheNextIsDueNothingIsMerged) {
  const v1::Config config = test::SmallScorerConfig({"scorer.version_every_steps=1"});
  const auto stream = test::Sessions(config, /*partitions=*/2, 120);
  const test::TempDir folder;
  auto learner = Open(folder.path(), config).value();
  for (std::size_t p = 0; p < 2; ++p) {
    for (const v1::Trajectory& session : stream[p]) ASSERT_THAT(learner->Offer(Record(session)), IsOk());
  }

  std::vector<PolicyVersion> made;
  while (!learner->idle()) {
    ASSERT_OK_AND_ASSIGN(const auto version, learner->Advance());
    if (version) made.push_back(*version);
    if (version && !version->manifest.has_scorer()) {
      ASSERT_THAT(learner->MarkStored(version->manifest.version()), IsOk());
    }
  }

  ASSERT_EQ(made.size(), 1U) << "one of the scorer is pending";
  EXPECT_TRUE(made[0].manifest.has_scorer());
  EXPECT_EQ(made[0].manifest.policy(), config.policy().name() + ".scorer");
  EXPECT_EQ(made[0].manifest.scorer().lineage().steps(), 1U);
  EXPECT_EQ(learner->progress().scorer->steps, 2U);
  EXPECT_LT(made[0].manifest.lineage().trajectories_taken(), learner->progress().trajectories);
  EXPECT_EQ(learner->MarkScorerStored(2).code, Code::kInvalidInput);
  EXPECT_EQ(learner->MarkStored(1).code, Code::kInvalidInput) << "it is not the policy's";
  ASSERT_THAT(learner->MarkScorerStored(1), IsOk());
  EXPECT_FALSE(learner->idle());
}

}  // namespace
}  // namespace fuseline
