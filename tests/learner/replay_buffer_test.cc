// The replay buffer: what is drawn is a function of (seed, step), the content and the priorities,
// also after it was restored; stale transitions count less or not at all; the sum-tree draws in
// proportion, against sums that are counted by hand.

#include "replay_buffer.h"

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/test_support/matchers.h"
#include "priority_tree.h"

namespace fuseline {
namespace {

constexpr RowLayout kLayout{.shared = 1, .item = 1, .action = 1, .max_items = 1};

TEST(PriorityTreeTest, ASlotIsDrawnInProportionAndOneOfPriorityZeroNever) {
  PriorityTree tree(5);
  const std::vector<float> priorities{1, 0, 2, 0.5F, 0};
  for (std::size_t slot = 0; slot < priorities.size(); ++slot) tree.Set(slot, priorities[slot]);

  EXPECT_EQ(tree.total(), 3.5);
  EXPECT_EQ(tree.Find(0), 0U);
  EXPECT_EQ(tree.Find(0.999), 0U);
  EXPECT_EQ(tree.Find(1), 2U);
  EXPECT_EQ(tree.Find(2.999), 2U);
  EXPECT_EQ(tree.Find(3), 3U);
  EXPECT_EQ(tree.Find(3.5), 3U) << "rounded up to the total, it is the last of a priority above 0";
}

TEST(PriorityTreeTest, ItsSumsAreThoseOfThePrioritiesWhateverCameBefore) {
  constexpr std::size_t kSlots = 100;
  Random random(5, "tree", 0);
  PriorityTree worn(kSlots), fresh(kSlots);
  std::vector<float> priorities(kSlots);
  for (int i = 0; i < 10'000; ++i) {
    const std::size_t slot = random.NextBelow(kSlots);
    priorities[slot] = static_cast<float>(random.NextUniform());
    worn.Set(slot, priorities[slot]);
  }
  for (std::size_t slot = kSlots; slot-- > 0;) fresh.Set(slot, priorities[slot]);
  EXPECT_EQ(worn.total(), fresh.total()) << "to the bit";
}

class ReplayBufferTest : public ::testing::Test {
 protected:
  // One-step sessions whose reward tells them apart: `number` clicks.
  static void Append(ReplayBuffer& buffer, int number, std::uint64_t behaviour_version = 0) {
    const Row row = buffer.rows().Append();
    row.header->items = 1;
    row.header->behaviour_version = behaviour_version;
    row.header->flags = kTransition | kTerminated | kHasDensity;
    row.RewardsOf(0)[kLikes] = number;
    buffer.Index();
  }

  static std::vector<int> Draw(ReplayBuffer& buffer, std::uint64_t step,
                               TransitionBatch* batch = nullptr) {
    v1::Rewards weights;
    weights.set_like(1);
    TransitionBatch own;
    TransitionBatch& drawn = batch != nullptr ? *batch : own;
    buffer.Sample({.seed = 3, .step = step, .count = 512}, Normaliser::Identity(2),
                  RewardSpec(weights, 1e9), drawn);
    std::vector<int> numbers;
    for (std::size_t b = 0; b < drawn.batch; ++b)
      numbers.push_back(static_cast<int>(drawn.reward[kEngagement * drawn.batch + b]));
    return numbers;
  }

  static std::map<int, int> Tally(const std::vector<int>& numbers) {
    std::map<int, int> tally;
    for (const int number : numbers) ++tally[number];
    return tally;
  }
};

TEST_F(ReplayBufferTest, PrioritisedDrawsFollowTheTdErrorAndTheWeightMakesUpForIt) {
  // Exponent 1 and full correction: drawn 3 to 1, weighted 1 to 3.
  ReplayBuffer buffer(kLayout, 4, {.prioritised = true, .exponent = 1, .correction = 1});
  Append(buffer, 1);
  Append(buffer, 2);
  TransitionBatch batch;
  std::vector<float> td_error;
  for (const int number : Draw(buffer, 0)) td_error.push_back(number == 1 ? 2.999F : 0.999F);
  buffer.Learned(td_error);

  const std::vector<int> numbers = Draw(buffer, 1, &batch);
  auto tally = Tally(numbers);
  EXPECT_NEAR(tally[1], 384, 40);
  EXPECT_NEAR(tally[2], 128, 40);
  for (std::size_t b = 0; b < numbers.size(); ++b)
    EXPECT_NEAR(batch.weight[b], numbers[b] == 1 ? 1.0 / 3 : 1, 1e-3);

  Append(buffer, 3);  // It has the largest priority ever seen, so it is soon known.
  tally = Tally(Draw(buffer, 2));
  EXPECT_NEAR(tally[3], 512 * 3 / 7, 45);
}

TEST_F(ReplayBufferTest, ABatchOfItemsHoldsTheirTaskScoresAsTheyAre) {
  ReplayBuffer buffer({.shared = 1, .item = 3, .action = 4, .max_items = 2, .tasks = 2}, 4);  // An item: one feature, two scores.
  const Row row = buffer.rows().Append();
  std::ranges::copy(std::vector<float>{10, 0.1F, 0.2F, 20, 0.3F, 0.4F}, row.items);
  row.header->items = 2;
  row.header->flags = kTransition | kTerminated | kHasDensity;
  buffer.Index();
  Normaliser normaliser = Normaliser::Identity(4);
  normaliser.mean.assign(4, 5);
  TransitionBatch batch;
  buffer.Sample({.seed = 3, .count = 1}, normaliser, RewardSpec(v1::Rewards(), 1e9), batch);
  EXPECT_EQ(batch.scores, (std::vector<float>{0.1F, 0.2F, 0.3F, 0.4F}));
  buffer.Sample({.seed = 3, .count = 1, .per_request = true}, normaliser, RewardSpec(v1::Rewards(), 1e9), batch);
  EXPECT_TRUE(batch.scores.empty());
}

TEST_F(ReplayBufferTest, ARestoredOneDrawsTheSameAfterEvictionsAndUpdates) {
  const SamplingRule rule{.prioritised = true, .exponent = 0.6, .correction = 0.4};
  ReplayBuffer lived(kLayout, 7, rule);
  Random random(9, "errors", 0);
  for (int number = 1; number <= 25; ++number) {
    Append(lived, number);
    std::vector<float> td_error(Draw(lived, static_cast<std::uint64_t>(number)).size());
    for (float& error : td_error) error = static_cast<float>(random.NextNormal());
    lived.Learned(td_error);
  }
  ReplayBuffer restored(kLayout, 7, rule);
  for (int number = 19; number <= 25; ++number) Append(restored, number);
  ASSERT_THAT(restored.RestorePriorities(lived.Priorities()), IsOk());

  TransitionBatch one, other;
  EXPECT_EQ(Draw(restored, 100, &one), Draw(lived, 100, &other));
  EXPECT_EQ(one.weight, other.weight);

  const auto all = lived.Priorities().priorities;
  ReplayBuffer smaller(kLayout, 4, rule);
  for (int number = 22; number <= 25; ++number) Append(smaller, number);
  ASSERT_THAT(smaller.RestorePriorities(lived.Priorities()), IsOk());
  EXPECT_EQ(smaller.Priorities().priorities, (std::vector<float>(all.end() - 4, all.end()))) << "the newest";
  ReplayBuffer uniform(kLayout, 7);
  Append(uniform, 1);
  EXPECT_THAT(uniform.RestorePriorities(lived.Priorities()), IsOk()) << "which asks for none";
  ReplayBuffer longer(kLayout, 9, rule);
  for (int number = 17; number <= 25; ++number) Append(longer, number);
  EXPECT_THAT(longer.RestorePriorities(lived.Priorities()), HasCode(Code::kCorrupt));
}

TEST(StaleWeightTest, EachRoundBeyondTheLimitCountsTheFactorOnceMore) {
  EXPECT_FLOAT_EQ(StaleWeight(1, 0.5), 0.5F);
  EXPECT_FLOAT_EQ(StaleWeight(3, 0.5), 0.125F);
  EXPECT_FLOAT_EQ(StaleWeight(7, 1), 1);
  EXPECT_FLOAT_EQ(StaleWeight(1, 0), 0) << "not learned from at all";
}

TEST_F(ReplayBufferTest, WhatIsStaleIsDrawnNoMoreOrCountsLess) {
  for (const bool prioritised : {false, true}) {
    SCOPED_TRACE(prioritised ? "prioritised" : "uniform");
    ReplayBuffer buffer(kLayout, 4, {.prioritised = prioritised, .exponent = 1, .correction = 1});
    for (int number = 1; number <= 3; ++number)
      Append(buffer, number, static_cast<std::uint64_t>(number));
    buffer.Select([](const ConstRow& row) {
      const std::uint64_t version = row.header->behaviour_version;
      return TransitionUse{.actor = true, .weight = version == 1 ? 0 : version == 2 ? 0.25F : 1};
    });

    TransitionBatch batch;
    const std::vector<int> numbers = Draw(buffer, 0, &batch);
    EXPECT_EQ(Tally(numbers).count(1), 0U);
    for (std::size_t b = 0; b < numbers.size(); ++b)
      EXPECT_FLOAT_EQ(batch.weight[b], numbers[b] == 2 ? 0.25F : 1);
    EXPECT_EQ(buffer.fresh(), 2U);
    EXPECT_DOUBLE_EQ(buffer.stale_share(), 2.0 / 3);

    // It comes back with its priority when its version does, as after a rollback.
    buffer.Select([](const ConstRow&) { return TransitionUse{.actor = true}; });
    EXPECT_EQ(Tally(Draw(buffer, 1)).size(), 3U);
  }
}

}  // namespace
}  // namespace fuseline
