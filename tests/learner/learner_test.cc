// The learner as its callers see it. Exactly once and bit-identical across deaths: a fixed stream of two partitions is offered in
// many interleavings, the object is dropped at random moments and opened again, and the final digest must be that of the
// undisturbed run. Learning: a contextual bandit whose best action is known and lies in the box.

#include "fuseline/learner/learner.h"

#include <cmath>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/core/digest.h"
#include "fuseline/core/file.h"
#include "fuseline/fusion/policy_network.h"
#include "fuseline/learner/algorithms.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"
#include "learner_world.h"
#include "stream_world.h"

namespace fuseline {
namespace {

using test::Action;
using test::ExploredStep;
using test::Mark;
using test::Name;
using test::Record;
using test::Session;
using test::SmallConfig;

class LearnerTest : public ::testing::Test {
 protected:
  Result<std::unique_ptr<Learner>> Open(const std::string& folder, const v1::Config& config) {
    auto learner = Learner::Open(folder, config, "test build", log_, metrics_, clock_);
    if (learner) (*learner)->ExpectPartitions(2);
    return learner;
  }

  struct Outcome {
    std::string weights;
    std::map<std::uint64_t, std::string> versions;  // Number → digest and verdict.
    std::map<std::uint64_t, std::string> scorers;   // The same of the scorer's.
    LearnerProgress progress;
    int deaths = 0;
  };

  // Offers the stream to its end. With `chaos` the order of calls is random and the learner dies now and then.
  Outcome Run(const std::string& folder, const v1::Config& config, const std::vector<std::vector<v1::Trajectory>>& stream,
              Random* chaos) {
    Outcome outcome;
    auto learner = Open(folder, config).value();
    std::vector<std::size_t> next(2, 0);
    const auto store = [&](const PolicyVersion& version) {
      const std::string text = ToHex(version.manifest.weights_sha256()) + (version.manifest.gate().passed() ? " passed" : " refused");
      auto& known = version.manifest.has_scorer() ? outcome.scorers : outcome.versions;
      const auto [seen, fresh] = known.emplace(version.manifest.version(), text);
      EXPECT_EQ(seen->second, text) << "version " << version.manifest.version() << " offered again, differently";
      EXPECT_EQ(Sha256Of(version.weights), version.manifest.weights_sha256());
    };
    const auto rewind = [&] {  // What an outbox does: everything after the last durable name, again.
      const auto durable = learner->DurableNames();
      for (std::size_t p = 0; p < 2; ++p) {
        const auto name = durable.find(static_cast<std::int32_t>(p));
        next[p] = name == durable.end() ? 0 : static_cast<std::size_t>(name->second.offset() / 10 + 1);
        if (next[p] > 0 && chaos != nullptr && chaos->NextBelow(2) == 0) --next[p];  // One too many: a repeat.
      }
    };
    for (;;) {
      for (std::size_t p = 0; p < 2; ++p) {
        const std::size_t burst = chaos != nullptr ? chaos->NextBelow(12) : 5;
        for (std::size_t i = 0; i < burst && next[p] < stream[p].size(); ++i)
          EXPECT_THAT(learner->Offer(Record(stream[p][next[p]++])), IsOk());
        if (next[p] == stream[p].size()) {
          EXPECT_THAT(learner->Offer(Mark(static_cast<std::int32_t>(p), kEndOfTimeMs)), IsOk());
        }
      }
      const auto made = learner->Advance();
      EXPECT_THAT(made, IsOk());
      if (!made) return outcome;
      if (*made) store(**made);
      const bool lazy = chaos != nullptr && chaos->NextBelow(3) == 0;
      if (const auto pending = learner->PendingVersion(); pending && !lazy) {
        store(*pending);
        EXPECT_THAT(learner->MarkStored(pending->manifest.version()), IsOk());
      }
      if (const auto pending = learner->PendingScorerVersion(); pending && !lazy) {
        store(*pending);
        EXPECT_THAT(learner->MarkScorerStored(pending->manifest.version()), IsOk());
      }
      if (chaos != nullptr && chaos->NextBelow(15) == 0) {
        EXPECT_THAT(learner->Checkpoint(), IsOk());
      }
      if (chaos != nullptr && chaos->NextBelow(12) == 0) {
        learner.reset();
        // What a kill inside an atomic write leaves behind.
        for (const char* name : {"/checkpoint.tmp", "/checkpoint-v1.tmp", "/tensors-1.bin.tmp"}) {
          EXPECT_THAT(WriteFileAtomically(folder + name, "x"), IsOk());
        }
        learner = Open(folder, config).value();
        ++outcome.deaths;
        rewind();
        continue;
      }
      const bool all_stored = !learner->PendingVersion() && !learner->PendingScorerVersion();
      if (next[0] == stream[0].size() && next[1] == stream[1].size() && learner->idle() && all_stored) break;
    }
    outcome.weights = learner->WeightsSha256();
    outcome.progress = learner->progress();
    return outcome;
  }

  Log log_{Severity::kError};
  Metrics metrics_;
  SystemClock clock_;
};

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

TEST_F(LearnerTest, AGapStopsThePartitionAndARepeatIsDropped) {
  const v1::Config config = SmallConfig();
  const auto stream = test::Sessions(config, /*partitions=*/2, 5)[0];
  const test::TempDir folder;
  auto learner = Open(folder.path(), config).value();

  EXPECT_THAT(learner->Offer(Record(stream[1])), HasCode(Code::kCorrupt)) << "its predecessor was never taken";
  ASSERT_THAT(learner->Offer(Record(stream[0])), IsOk());
  ASSERT_THAT(learner->Offer(Record(stream[1])), IsOk());
  EXPECT_THAT(learner->Offer(Record(stream[3])), HasCode(Code::kCorrupt));
  EXPECT_THAT(learner->Offer(Record(stream[0])), IsOk());
  EXPECT_EQ(learner->progress().repeats, 1U);
  EXPECT_EQ(learner->progress().repeats_differing, 0U);

  v1::Trajectory forged = stream[1];
  forged.set_user_id("somebody else");
  EXPECT_THAT(learner->Offer(Record(forged)), IsOk());
  EXPECT_EQ(learner->progress().repeats_differing, 1U);
  EXPECT_EQ(learner->progress().waiting, 2U);
  EXPECT_THAT(learner->Offer(Mark(7, 1)), HasCode(Code::kInvalidInput));
}

TEST_F(LearnerTest, TheMergeWaitsForASilentPartition) {
  const v1::Config config = SmallConfig();
  auto stream = test::Sessions(config, /*partitions=*/2, 3)[0];
  for (v1::Trajectory& trajectory : stream) trajectory.set_stream_time_ms(5000);
  const test::TempDir folder;
  auto learner = Open(folder.path(), config).value();
  for (const v1::Trajectory& trajectory : stream) ASSERT_THAT(learner->Offer(Record(trajectory)), IsOk());

  ASSERT_THAT(learner->Advance(), IsOk());
  EXPECT_EQ(learner->progress().trajectories, 0U) << "partition 1 may still bring something earlier";
  ASSERT_THAT(learner->Offer(Mark(1, 4999)), IsOk());
  EXPECT_TRUE(learner->idle());
  ASSERT_THAT(learner->Offer(Mark(1, 5000)), IsOk());
  ASSERT_THAT(learner->Advance(), IsOk());
  EXPECT_EQ(learner->progress().trajectories, 3U) << "(5000, partition 0) comes before (5000, partition 1)";
}

TEST_F(LearnerTest, AFlippedBitInTheCheckpointIsCorruptAndOtherNetworksAreRefused) {
  const v1::Config config = SmallConfig();
  const test::TempDir folder;
  Run(folder.path(), config, test::Sessions(config, /*partitions=*/2, 30), nullptr);
  ASSERT_THAT(Open(folder.path(), config).value()->Checkpoint(), IsOk());

  v1::Config other = config;
  other.mutable_learner()->set_critics_per_group(3);
  EXPECT_THAT(Open(folder.path(), other), HasCode(Code::kInvalidInput));
  other = config;
  other.mutable_policy()->set_power_max(config.policy().power_max() + 1);
  EXPECT_THAT(Open(folder.path(), other), HasCode(Code::kInvalidInput)) << "what is in the buffer lies within the old ranges";
  const auto refused = [&](const std::string& setting, const auto& set) {
    v1::Config changed = config;
    set(*changed.mutable_learner());
    EXPECT_THAT(Open(folder.path(), changed), HasCode(Code::kInvalidInput)) << setting << ": the networks would mean something else";
  };
  refused("actor_state", [](v1::Learner& learner) { learner.set_actor_state("without_scores"); });
  refused("start", [](v1::Learner& learner) { learner.set_start("plain"); });
  refused("integrated_form", [](v1::Learner& learner) { learner.set_integrated_form("single"); });
  const std::filesystem::path path = folder / "checkpoint";
  std::string bytes = ReadFile(path).value();
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  ASSERT_THAT(WriteFileAtomically(path, bytes), IsOk());
  EXPECT_THAT(Open(folder.path(), config), HasCode(Code::kCorrupt));
}

// A rollback is durable before it takes effect, takes effect between two trajectories, and holds until somebody says otherwise.
TEST_F(LearnerTest, ARollbackIsFollowedThroughADeathAndHoldsUntilItIsTakenBack) {
  const v1::Config config = SmallConfig();
  const auto stream = test::Sessions(config, /*partitions=*/2, 250);
  const test::TempDir folder;
  auto learner = Open(folder.path(), config).value();
  std::vector<std::size_t> next(2, 0);
  const auto learn_until = [&](std::uint64_t versions) {
    while (learner->progress().versions < versions) {
      ASSERT_LT(next[0], stream[0].size()) << "too short a stream";
      for (std::size_t p = 0; p < 2; ++p) {
        if (next[p] == stream[p].size()) continue;
        ASSERT_THAT(learner->Offer(Record(stream[p][next[p]++])), IsOk());
      }
      ASSERT_THAT(learner->Advance(), IsOk());
      if (const auto pending = learner->PendingVersion()) {
        ASSERT_THAT(learner->MarkStored(pending->manifest.version()), IsOk());
      }
    }
  };
  learn_until(4);
  ASSERT_EQ(learner->progress().incumbent, 4U);

  v1::Act act;
  act.set_number(10);
  act.set_incumbent(99);
  EXPECT_THAT(learner->Act(act), HasCode(Code::kNotFound));
  act.set_incumbent(2);
  act.set_holds(true);
  act.set_who("operator");
  ASSERT_THAT(learner->Act(act), IsOk());
  const std::uint64_t count = learner->progress().trajectories;
  EXPECT_EQ(learner->progress().incumbent, 4U) << "not before the next trajectory";

  learner.reset();  // Without a checkpoint: the act log alone knows.
  learner = Open(folder.path(), config).value();
  ASSERT_THAT(learner->Act(act), IsOk()) << "a repeat";
  const auto durable = learner->DurableNames();
  for (std::size_t p = 0; p < 2; ++p) next[p] = static_cast<std::size_t>(durable.at(static_cast<std::int32_t>(p)).offset() / 10 + 1);
  learn_until(6);
  EXPECT_EQ(learner->progress().incumbent, 2U);
  EXPECT_TRUE(learner->progress().incumbent_holds);
  const v1::Lineage lineage = learner->lineage();
  ASSERT_EQ(lineage.acts_size(), 1);
  EXPECT_EQ(lineage.acts(0).trajectories(), count);
  EXPECT_EQ(lineage.parent(), 2U);

  act.set_number(11);
  act.set_incumbent(5);
  act.set_holds(false);
  ASSERT_THAT(learner->Act(act), IsOk());
  learn_until(7);
  EXPECT_EQ(learner->progress().incumbent, 7U) << "what is accepted is the incumbent again";
}

// The versions that are still owed at the count of an act must not push out the one that it names.
TEST_F(LearnerTest, AnActFindsItsVersionHoweverManyAreAcceptedBeforeItIsApplied) {
  v1::Config config = SmallConfig();
  config.mutable_learner()->set_keep_incumbents(2);
  config.mutable_learner()->set_steps_per_transition(30);
  const auto stream = test::Sessions(config, /*partitions=*/1, 100);
  const test::TempDir folder;
  auto learner = Open(folder.path(), config).value();
  ASSERT_THAT(learner->Offer(Mark(1, kEndOfTimeMs)), IsOk());
  std::size_t next = 0;
  const auto advance = [&] {
    ASSERT_THAT(learner->Advance(), IsOk());
    if (const auto pending = learner->PendingVersion()) {
      ASSERT_THAT(learner->MarkStored(pending->manifest.version()), IsOk());
    }
  };
  while (learner->progress().versions < 3 && next < stream[0].size()) {
    ASSERT_THAT(learner->Offer(Record(stream[0][next++])), IsOk());
    advance();
  }
  const std::uint64_t newest = learner->progress().versions;
  v1::Act act;
  act.set_number(1);
  act.set_incumbent(newest - 1);
  act.set_holds(true);
  ASSERT_THAT(learner->Act(act), IsOk());

  for (int i = 0; i < 50; ++i) advance();  // Nothing new is offered.
  ASSERT_GT(learner->progress().versions, newest + 1) << "nothing was owed";
  for (int i = 0; i < 5; ++i) {
    ASSERT_THAT(learner->Offer(Record(stream[0][next++])), IsOk());
    advance();
  }

  EXPECT_EQ(learner->progress().incumbent, newest - 1);
}

TEST_F(LearnerTest, ASmallerBufferAndAnotherWayToDrawGoOnWithWhatIsThere) {
  v1::Config config = SmallConfig();
  config.mutable_learner()->set_replay("prioritised");
  const auto stream = test::Sessions(config, /*partitions=*/1, 60);
  const test::TempDir folder;
  {
    auto learner = Open(folder.path(), config).value();
    ASSERT_THAT(learner->Offer(Mark(1, kEndOfTimeMs)), IsOk());
    for (const auto& one : stream[0]) ASSERT_THAT(learner->Offer(Record(one)), IsOk());
    ASSERT_THAT(learner->Advance(), IsOk());
    ASSERT_THAT(learner->Checkpoint(), IsOk());
    ASSERT_GT(learner->progress().transitions, 25U);
  }
  v1::Config smaller = config, uniform = config;
  smaller.mutable_learner()->set_replay_transitions(20);
  uniform.mutable_learner()->set_replay("uniform");

  EXPECT_THAT(Open(folder.path(), smaller), IsOk());
  EXPECT_THAT(Open(folder.path(), uniform), IsOk());
}

// Progressive training: what was explored around a version trains the actor from the moment that it is the incumbent, until box_rounds more
// have followed.
TEST_F(LearnerTest, AfterItsLastStepItTakesSessionsAndLearnsNoMore) {
  v1::Config config = SmallConfig();
  const auto stream = test::Sessions(config, /*partitions=*/2, 120);
  const test::TempDir endless, ended;
  const Outcome whole = Run(endless.path(), config, stream, nullptr);
  config.mutable_learner()->set_max_steps(7);
  const Outcome outcome = Run(ended.path(), config, stream, nullptr);
  ASSERT_GT(whole.progress.steps, 7U);
  EXPECT_EQ(outcome.progress.steps, 7U);
  EXPECT_EQ(outcome.progress.trajectories, whole.progress.trajectories);
}

TEST_F(LearnerTest, AnAcceptedVersionIsTheBaselineThatTheActorLearnsAround) {
  v1::Config config = SmallConfig();
  config.mutable_learner()->set_box_rounds(0);
  config.mutable_learner()->set_replay_transitions(60);
  config.mutable_learner()->set_holdout_share(0);
  const test::TempDir folder;
  auto learner = Open(folder.path(), config).value();
  ASSERT_THAT(learner->Offer(Mark(1, kEndOfTimeMs)), IsOk());
  Random random(3, "progressive", 0);
  v1::TrajectoryName last;
  std::int64_t session = 0;
  // So many sessions that the buffer holds nothing else; returns the share that trained the actor by the end.
  const auto learn_from = [&](std::uint64_t behaviour_version) {
    double share = -1;
    for (int s = 0; s < 200; ++s) {
      v1::Step step = ExploredStep(config, random, 1, [](const Action&) { return 5'000; });
      step.mutable_exposure()->set_policy_version(behaviour_version);
      EXPECT_THAT(learner->Offer(Record(Session(Name(0, session), session == 0 ? nullptr : &last, "u" + std::to_string(session), session,
                                                v1::TERMINATED, {step}))),
                  IsOk());
      last = Name(0, session++);
      EXPECT_THAT(learner->Advance(), IsOk());
      if (learner->progress().steps % 20 == 19) share = learner->progress().box_term_share;
      if (const auto pending = learner->PendingVersion()) return std::pair(share, pending->manifest.version());
    }
    return std::pair(share, std::uint64_t{0});
  };
  const auto around_static = learn_from(0);
  EXPECT_EQ(around_static.first, 1);
  ASSERT_EQ(around_static.second, 1U);
  ASSERT_EQ(learner->progress().incumbent, 1U);
  ASSERT_THAT(learner->MarkStored(1), IsOk());
  // Rankers that have not taken version 1 up: their baseline is not the incumbent any more.
  const auto lagging = learn_from(0);
  EXPECT_EQ(lagging.first, 0);
  ASSERT_EQ(lagging.second, 2U);
  ASSERT_THAT(learner->MarkStored(2), IsOk());
  const auto following = learn_from(2);
  EXPECT_GT(following.first, 0.3) << "the buffer fills with what was explored around version 2";
}

TEST_F(LearnerTest, AnotherInputBeginsItsNamesAnewAndTheLineageSaysBoth) {
  const v1::Config config = SmallConfig();
  const auto stream = test::Sessions(config, /*partitions=*/1, 40)[0];
  const test::TempDir folder;
  auto learner = Learner::Open(folder.path(), config, "test build", log_, metrics_, clock_).value();
  ASSERT_THAT(learner->BeginInput("files history"), IsOk());
  learner->ExpectPartitions(1);
  for (const v1::Trajectory& trajectory : stream) ASSERT_THAT(learner->Offer(Record(trajectory)), IsOk());
  EXPECT_THAT(learner->BeginInput("topic live"), HasCode(Code::kConflict)) << "history waits";
  ASSERT_THAT(learner->Offer(Mark(0, kEndOfTimeMs)), IsOk());
  while (!learner->idle()) {
    ASSERT_THAT(learner->Advance(), IsOk());
    if (const auto pending = learner->PendingVersion()) {
      ASSERT_THAT(learner->MarkStored(pending->manifest.version()), IsOk());
    }
  }
  ASSERT_THAT(learner->Checkpoint(), IsOk());
  learner.reset();

  learner = Learner::Open(folder.path(), config, "test build", log_, metrics_, clock_).value();
  ASSERT_THAT(learner->BeginInput("topic live", "offset:7"), IsOk());
  EXPECT_TRUE(learner->DurableNames().empty());
  learner->ExpectPartitions(1);
  ASSERT_THAT(learner->Offer(Record(stream[0])), IsOk()) << "the first name of another log";
  ASSERT_THAT(learner->Offer(Mark(0, kEndOfTimeMs)), IsOk());
  ASSERT_THAT(learner->Advance(), IsOk());
  EXPECT_EQ(learner->progress().trajectories, 41U);
  const v1::Lineage lineage = learner->lineage();
  ASSERT_EQ(lineage.inputs_size(), 2);
  EXPECT_EQ(lineage.inputs(0).input(), "files history");
  ASSERT_EQ(lineage.inputs(0).names_taken_size(), 1);
  EXPECT_EQ(lineage.inputs(0).names_taken(0).offset(), 390);
  EXPECT_EQ(lineage.inputs(1).input(), "topic live, from offset:7");
  EXPECT_EQ(lineage.inputs(1).first_trajectory(), 40U);
  EXPECT_THAT(learner->BeginInput("topic live"), IsOk()) << "the same, wherever a partition begins today";
}

TEST_F(LearnerTest, FullCheckpointsAreBoundedAndWhatRetainedVersionsNeedStays) {
  v1::Config config = SmallConfig();
  config.mutable_learner()->set_keep_checkpoint_every_versions(2);
  config.mutable_learner()->set_keep_checkpoints(1);
  config.mutable_policy_store()->set_keep_versions(3);
  const test::TempDir folder;
  const Outcome outcome = Run(folder.path(), config, test::Sessions(config, 2, 250), nullptr);
  const std::uint64_t versions = outcome.progress.versions;
  ASSERT_GE(versions, 8U) << "for the test to say anything";
  const std::uint64_t oldest_base = (versions - 3) / 2 * 2;  // Of the oldest of three retained versions, versions - 2.
  for (std::uint64_t version = 2; version <= versions; version += 2) {
    EXPECT_EQ(std::filesystem::exists(folder / ("checkpoint-v" + std::to_string(version))), version >= oldest_base) << version << " of " << versions;
  }
}

TEST_F(LearnerTest, CudaWithoutAGpuIsRefusedByItsKey) {
  v1::Config config = SmallConfig();
  config.mutable_learner()->set_device("cuda");
  const test::TempDir folder;
  const auto learner = Open(folder.path(), config);
  if (learner) GTEST_SKIP() << "this machine has a GPU";
  EXPECT_THAT(learner, HasCode(Code::kInvalidInput));
  EXPECT_THAT(learner, MessageNames("learner.device"));
}

// Reward 10 - 4 |a - a*|^2 in one-step sessions; a* is 0.25 away from the static action in each dimension, halfway to the edge of
// a box of 0.5. A learner that stays, and one whose critic only knows a direction and ends at the box's far edge, are both 0.5 from
// a*; the wrong sign is farther. Half of that is asked for: 3,600 noiseless draws determine the bowl, what is left is the critic's
// smoothness.
TEST_F(LearnerTest, InABanditTheLearnedActionMovesToTheKnownOptimum) {
  v1::Config config = SmallConfig();
  config.mutable_rewards()->set_watch_second(1);
  config.mutable_rewards()->set_valid(0);
  config.mutable_policy()->set_box_lower(-0.5);
  config.mutable_policy()->set_box_upper(0.5);
  v1::Learner& settings = *config.mutable_learner();
  settings.clear_hidden();
  settings.set_actor_rate(0.001);
  settings.set_critic_rate(0.003);
  settings.set_batch(64);
  settings.set_replay_transitions(10'000);
  settings.set_steps_per_transition(0.5);
  settings.set_version_every_steps(1500);
  settings.set_checkpoint_every_trajectories(1'000'000);
  const auto ranges = ActionRangesOf(config.policy(), SchemaOf(config)).value();
  Action best;
  for (std::size_t d = 0; d < best.size(); ++d) best[d] = ranges.static_action(static_cast<int>(d)) + (d % 2 == 0 ? 0.25F : -0.25F);
  const auto distance = [&](std::span<const float> action) {
    double sum = 0;
    for (std::size_t d = 0; d < best.size(); ++d) sum += std::pow(action[d] - best[d], 2);
    return std::sqrt(sum);
  };

  const test::TempDir folder;
  auto learner = Open(folder.path(), config).value();
  ASSERT_THAT(learner->Offer(Mark(1, kEndOfTimeMs)), IsOk());
  Random random(3, "bandit", 0);
  std::optional<PolicyVersion> version;
  v1::TrajectoryName last;
  v1::Step probe;
  for (int s = 0; s < 4000 && !version; ++s) {
    probe = ExploredStep(config, random, 1, [&](const Action& action) {
      return static_cast<std::int64_t>(1000 * std::max(0.0, 10 - 4 * std::pow(distance(action), 2)));
    });
    ASSERT_THAT(learner->Offer(Record(Session(Name(0, s), s == 0 ? nullptr : &last, "u" + std::to_string(s), s, v1::TERMINATED, {probe}))),
                IsOk());
    last = Name(0, s);
    auto made = learner->Advance();
    ASSERT_THAT(made, IsOk());
    version = std::move(*made);
  }
  ASSERT_TRUE(version.has_value());
  EXPECT_EQ(version->manifest.metrics().at("box_term_share"), 1);

  ASSERT_OK_AND_ASSIGN(const TensorMap tensors, DecodeWeights(version->weights));
  ASSERT_OK_AND_ASSIGN(const PolicyNetwork network, PolicyNetwork::Create(version->manifest, tensors));
  ActorWorkspace workspace;
  Action learned;
  const std::vector candidates{ViewOf(probe.exposure().items(0))};
  ASSERT_THAT(network.Act(ViewOf(probe.exposure().user_features()), ViewOf(probe.exposure().context_features()), candidates,
                          workspace, learned),
              IsOk());
  const double before = distance({ranges.static_action().data(), best.size()}), after = distance(learned);
  RecordProperty("distance_after", std::to_string(after));
  EXPECT_LT(after, 0.5 * before) << "from " << before << " to " << after;
}

// In a log where nothing was explored the gate says what it cannot know, and versions come out all the same.
TEST_F(LearnerTest, ALogWithoutActionsEndsInVersionsAndSaysThatNcisIsSkipped) {
  v1::Config config = SmallConfig();
  config.mutable_learner()->set_train_on_static(true);
  config.mutable_learner()->set_anchor_on_static(true);
  auto stream = test::Sessions(config, /*partitions=*/2, 60);
  for (auto& partition : stream) {
    for (v1::Trajectory& trajectory : partition) {
      for (v1::Step& step : *trajectory.mutable_steps()) step.mutable_exposure()->clear_log_density();
      trajectory.mutable_next_step()->mutable_exposure()->clear_log_density();
      if (trajectory.end() != v1::TRUNCATED) trajectory.clear_next_step();
    }
  }
  const test::TempDir folder;
  auto learner = Open(folder.path(), config).value();
  std::optional<PolicyVersion> version;
  for (std::size_t i = 0; i < 60; ++i) {
    for (const auto& partition : stream) ASSERT_THAT(learner->Offer(Record(partition[i])), IsOk());
    while (!learner->idle() && !version) version = std::move(learner->Advance().value());
  }
  ASSERT_TRUE(version.has_value());
  std::string reasons;
  for (const std::string& reason : version->manifest.gate().reasons()) reasons += reason + "\n";
  EXPECT_NE(reasons.find("skipped ncis"), std::string::npos) << reasons;
  EXPECT_EQ(version->manifest.metrics().at("box_term_share"), 1);
}

}  // namespace
}  // namespace fuseline
