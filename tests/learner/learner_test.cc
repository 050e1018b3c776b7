// The learner as its callers see it. Deaths: learner_deaths_test.cc. Learning: a contextual bandit whose best action is known and lies
// in the box.

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
#include "learner_fixture.h"
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
