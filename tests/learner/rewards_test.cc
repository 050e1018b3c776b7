// A reward specification by hand-computed values: weights, the cap, the sum over a session.

#include "fuseline/learner/rewards.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fuseline/proto/settings.h"

namespace fuseline {
namespace {

using testing::ElementsAre;

v1::Trajectory TwoItems() {
  v1::Trajectory trajectory;
  v1::RewardComponents& liked = *trajectory.add_steps()->add_rewards();
  liked.set_likes(1);
  liked.set_watch_ms(20'000);
  v1::RewardComponents& disliked = *trajectory.add_steps()->add_rewards();
  disliked.set_dislikes(1);
  disliked.set_watch_ms(1'000);
  trajectory.mutable_next_step();  // Belongs to the next session.
  return trajectory;
}

TEST(RewardSpecTest, ASessionIsTheSumOverItsItemsUnderTheSpecification) {
  v1::Rewards rewards = DefaultSettings().rewards();
  // valid 1 + like 2 - dislike 4; 21 watched seconds at 0.02.
  EXPECT_THAT(RewardSpec(rewards, /*cap=*/1000).OfSession(TwoItems()), ElementsAre(-1, testing::DoubleEq(0.42)));

  rewards.set_like(10);
  rewards.set_valid_watch_ms(30'000);
  EXPECT_THAT(RewardSpec(rewards, /*cap=*/1000).OfSession(TwoItems()), ElementsAre(6, testing::DoubleEq(0.42)));
}

TEST(RewardSpecTest, TheCapCutsEachItemAndNotTheSession) {
  EXPECT_THAT(RewardSpec(DefaultSettings().rewards(), /*cap=*/3.5).OfSession(TwoItems()), ElementsAre(-0.5, testing::DoubleEq(0.42)));
}

}  // namespace
}  // namespace fuseline
