// Which steps of a session become transitions, by its end and by what can be encoded; and that buffers of rows survive the disk.

#include "transition_builder.h"

#include <cmath>
#include <cstring>
#include <filesystem>

#include <gtest/gtest.h>

#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"
#include "learner_world.h"
#include "replay_buffer.h"

namespace fuseline {
namespace {

using test::Action;
using test::ExploredStep;
using test::Name;
using test::SmallConfig;

class TransitionBuilderTest : public ::testing::Test {
 protected:
  v1::Trajectory ThreeSteps(v1::SessionEnd end) {
    std::vector<v1::Step> steps;
    for (int t = 0; t < 3; ++t) steps.push_back(ExploredStep(config_, random_, 2, [t](const Action&) { return 1000 * (t + 1); }));
    return test::Session(Name(0, 0), nullptr, "u", 0, end, std::move(steps));
  }

  // One letter a row: t transition with a next row, T terminated one, n a next state alone.
  std::string Rows(const v1::Trajectory& trajectory) {
    const TransitionBuilder builder(config_, SchemaOf(config_));
    RowStore rows(builder.layout(), "test");
    account_ = builder.AppendTransitions(trajectory, rows, nullptr);
    std::string text;
    for (std::uint64_t row = 0; row < rows.end_row(); ++row)
      text += rows.At(row).is(kTerminated) ? 'T' : rows.At(row).is(kTransition) ? 't' : 'n';
    return text;
  }

  v1::Config config_ = SmallConfig();
  Random random_{1, "builder", 0};
  TransitionBuilder::Account account_;
};

TEST_F(TransitionBuilderTest, TheEndDecidesAboutTheLastStep) {
  EXPECT_EQ(Rows(ThreeSteps(v1::TERMINATED)), "ttT");
  EXPECT_EQ(account_.transitions, 3U);
  EXPECT_EQ(Rows(ThreeSteps(v1::FLUSHED)), "ttn");
  EXPECT_EQ(account_.left_out["flushed_last"], 1U);
  EXPECT_EQ(Rows(ThreeSteps(v1::TRUNCATED)), "ttn");
  EXPECT_EQ(account_.left_out["truncated_last"], 1U);

  v1::Trajectory bootstrapped = ThreeSteps(v1::TRUNCATED);
  *bootstrapped.mutable_next_step() = ThreeSteps(v1::TERMINATED).steps(0);
  EXPECT_EQ(Rows(bootstrapped), "tttn");
}

TEST_F(TransitionBuilderTest, AStepThatCannotBeEncodedCostsItselfAndTheOneBefore) {
  v1::Trajectory trajectory = ThreeSteps(v1::TERMINATED);
  trajectory.mutable_steps(1)->mutable_exposure()->set_schema_digest("another");
  EXPECT_EQ(Rows(trajectory), "T");
  EXPECT_EQ(account_.left_out["schema"], 1U);
  EXPECT_EQ(account_.left_out["next_unusable"], 1U);

  trajectory = ThreeSteps(v1::TERMINATED);
  trajectory.mutable_steps(2)->mutable_exposure()->mutable_items(0)->clear_executed_action();
  EXPECT_EQ(Rows(trajectory), "ttn") << "its state is still good for the one before";
  EXPECT_EQ(account_.left_out["actions"], 1U);
}

TEST_F(TransitionBuilderTest, TheStaticArmTrainsOnlyIfAskedTo) {
  v1::Trajectory trajectory = ThreeSteps(v1::TERMINATED);
  for (v1::Step& step : *trajectory.mutable_steps()) step.mutable_exposure()->clear_log_density();
  EXPECT_EQ(Rows(trajectory), "");
  EXPECT_EQ(account_.left_out["static_arm"], 3U);
  config_.mutable_learner()->set_train_on_static(true);
  EXPECT_EQ(Rows(trajectory), "ttT");
}

TEST_F(TransitionBuilderTest, ItemsBeyondTheLimitAreLeftOutAndCounted) {
  v1::Trajectory trajectory = ThreeSteps(v1::TERMINATED);
  *trajectory.mutable_steps(0) = ExploredStep(config_, random_, 5, [](const Action&) { return 1; });
  EXPECT_EQ(Rows(trajectory), "ttT");
  EXPECT_EQ(account_.left_out["items_over_limit"], 3U);
}

// UnifiedRL: state width 4 = one shared column and three of the item; two items a request.
TEST_F(TransitionBuilderTest, OneActionARequestSeesNoItemAndEarnsTheWholeList) {
  const TransitionBuilder builder(config_, SchemaOf(config_));
  ReplayBuffer replay(builder.layout(), 100);
  const v1::Trajectory trajectory = ThreeSteps(v1::TERMINATED);
  builder.AppendTransitions(trajectory, replay.rows(), nullptr);
  replay.Index();
  TransitionBatch batch;
  replay.Sample({.seed = 1, .step = 0, .count = 64, .per_request = true}, Normaliser::Identity(4),
                RewardSpec(config_.rewards(), 1000), batch);
  ASSERT_EQ(batch.items, 1U);
  for (std::size_t b = 0; b < 64; ++b) {
    const int t = static_cast<int>(std::lround(batch.reward[64 + b] / 0.02F / 2)) - 1;  // Both items watched t + 1 seconds.
    ASSERT_TRUE(t >= 0 && t < 3) << batch.reward[64 + b];
    EXPECT_EQ(batch.state[b * 4], trajectory.steps(t).exposure().user_features().dense(0));
    for (std::size_t column = 1; column < 4; ++column) EXPECT_EQ(batch.state[b * 4 + column], 0);
    EXPECT_EQ(batch.action[b * 4 + 1], trajectory.steps(t).exposure().items(0).executed_action(1));
    EXPECT_EQ(batch.mask[b], 1);
    EXPECT_EQ(batch.next_mask[b], t == 2 ? 0 : 1);
  }
}

TEST_F(TransitionBuilderTest, TheActorsBatchHoldsOnlyWhatItLearnsFrom) {
  const TransitionBuilder builder(config_, SchemaOf(config_));
  ReplayBuffer replay(builder.layout(), 100);
  for (const std::uint64_t version : {0U, 3U, 4U}) {
    v1::Trajectory trajectory = ThreeSteps(v1::TERMINATED);
    for (v1::Step& step : *trajectory.mutable_steps()) step.mutable_exposure()->set_policy_version(version);
    for (v1::Step& step : *trajectory.mutable_steps()) step.mutable_exposure()->mutable_box()->set_upper(static_cast<float>(version));
    builder.AppendTransitions(trajectory, replay.rows(), nullptr);
    replay.Index();
  }
  TransitionBatch batch;
  const Sampling sampling{.seed = 1, .step = 0, .count = 200};
  const auto sample = [&] { replay.SampleForActor(sampling, Normaliser::Identity(4), RewardSpec(config_.rewards(), 1000), batch); };

  replay.Select([](const ConstRow& row) { return TransitionUse{.actor = row.header->behaviour_version >= 3}; });
  EXPECT_DOUBLE_EQ(replay.actor_share(), 6.0 / 9);
  sample();
  ASSERT_EQ(batch.batch, 200U);
  for (std::size_t b = 0; b < 200; ++b) EXPECT_GE(batch.box[2 * b + 1], 3);

  replay.Select([](const ConstRow&) { return TransitionUse{.actor = false}; });
  sample();
  EXPECT_EQ(batch.batch, 0U);
}

TEST_F(TransitionBuilderTest, ASampledTransitionCarriesRewardsNextStateAndEnd) {
  const TransitionBuilder builder(config_, SchemaOf(config_));
  ReplayBuffer replay(builder.layout(), 100);
  const v1::Trajectory trajectory = ThreeSteps(v1::TERMINATED);
  builder.AppendTransitions(trajectory, replay.rows(), nullptr);
  replay.Index();
  ASSERT_EQ(replay.size(), 3U);
  TransitionBatch batch;
  replay.Sample({.seed = 1, .step = 0, .count = 64}, Normaliser::Identity(4), RewardSpec(config_.rewards(), 1000), batch);
  for (std::size_t b = 0; b < 64; ++b) {
    const float watched_s = batch.reward[(64 + b) * 2] / 0.02F;  // 1, 2 or 3: which step it is.
    const int t = static_cast<int>(std::lround(watched_s)) - 1;
    ASSERT_TRUE(t >= 0 && t < 3) << watched_s;
    EXPECT_EQ(batch.terminated[b], t == 2 ? 1 : 0);
    EXPECT_EQ(batch.state[b * 8], trajectory.steps(t).exposure().user_features().dense(0));
    EXPECT_EQ(batch.next_state[b * 8], t == 2 ? 0 : trajectory.steps(t + 1).exposure().user_features().dense(0));
    EXPECT_EQ(batch.next_mask[b * 2 + 1], t == 2 ? 0 : 1);
    EXPECT_EQ(batch.action[b * 8 + 5], trajectory.steps(t).exposure().items(1).executed_action(1));
  }
}

TEST_F(TransitionBuilderTest, WithFixedBiasesARowHasThePowersAndOtherBiasesAreLeftOut) {
  config_.mutable_policy()->set_biases("fixed");
  const TransitionBuilder builder(config_, SchemaOf(config_));
  ASSERT_EQ(builder.layout().action, test::kActionWidth / 2);
  RowStore rows(builder.layout(), "test");
  const v1::Trajectory explored = ThreeSteps(v1::TERMINATED);  // The biases too.
  EXPECT_EQ(builder.AppendTransitions(explored, rows, nullptr).left_out["actions"], 3U);
  EXPECT_EQ(rows.end_row(), 0U);

  v1::Trajectory trajectory = explored;
  for (v1::Step& step : *trajectory.mutable_steps()) {
    for (v1::ExposedItem& item : *step.mutable_exposure()->mutable_items())
      for (int d = 2; d < 4; ++d) item.set_executed_action(d, item.baseline_action(d));
  }
  EXPECT_EQ(builder.AppendTransitions(trajectory, rows, nullptr).transitions, 3U);
  const auto& item = trajectory.steps(1).exposure().items(1);
  for (int d = 0; d < 2; ++d) {
    EXPECT_EQ(rows.At(1).executed[2 + d], item.executed_action(d));
    EXPECT_EQ(rows.At(1).baseline[2 + d], item.baseline_action(d));
  }
}

TEST_F(TransitionBuilderTest, RowsSurviveEvictionAndTheDiskAndOnlyNewOnesAreWritten) {
  const TransitionBuilder builder(config_, SchemaOf(config_));
  const test::TempDir folder;
  RowStore rows(builder.layout(), "test");
  v1::RowSegments saved;
  for (int round = 0; round < 6; ++round) {
    for (int i = 0; i < 70; ++i) builder.AppendTransitions(ThreeSteps(v1::TERMINATED), rows, nullptr);
    if (rows.end_row() > 500) rows.EvictBefore(rows.end_row() - 500);
    ASSERT_OK_AND_ASSIGN(saved, rows.Save(folder.path()));
    RowStore loaded(builder.layout(), "test");
    ASSERT_THAT(loaded.Load(folder.path(), saved), IsOk());
    ASSERT_EQ(loaded.first_row(), rows.first_row());
    ASSERT_EQ(loaded.end_row(), rows.end_row());
    for (std::uint64_t row = rows.first_row(); row < rows.end_row(); ++row)
      ASSERT_EQ(std::memcmp(loaded.At(row).header, rows.At(row).header, builder.layout().row_bytes()), 0);
  }
  EXPECT_EQ(saved.segments_size(), 3) << "500 rows lie in the newest three segments of 210";

  const std::filesystem::path victim = std::filesystem::path(folder.path()) / saved.segments(1).file().name();
  ASSERT_TRUE(std::filesystem::remove(victim));
  EXPECT_THAT(RowStore(builder.layout(), "test").Load(folder.path(), saved), HasCode(Code::kCorrupt));
}

}  // namespace
}  // namespace fuseline
