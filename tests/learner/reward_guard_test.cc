// What sessions and users may earn: a multiple of what most sessions do, whatever a few claim; by windows of stream time; the same after
// it was saved and restored.

#include "reward_guard.h"

#include <algorithm>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fuseline/proto/settings.h"
#include "fuseline/test_support/matchers.h"

namespace fuseline {
namespace {

constexpr std::int64_t kDayMs = 86'400'000;

class RewardGuardTest : public testing::Test {
 protected:
  RewardGuardTest() { config_.mutable_learner()->set_reward_cap(1e6); }

  RewardGuard Guard() const { return {config_.learner(), config_.rewards()}; }

  // A session in which one item is liked so many times (each like earns 2); returns what it was allowed to earn of that.
  static double Earn(RewardGuard& guard, std::uint64_t user, std::uint32_t likes, std::int64_t time_ms = 0) {
    v1::Trajectory trajectory;
    trajectory.add_steps()->add_rewards()->set_likes(likes);
    SessionAllowance allowance = guard.Allow(user, time_ms);
    allowance.Spend({2.0 * likes, 0});
    guard.Note(user, trajectory, allowance);
    return allowance.spent()[kEngagement];
  }

  v1::Config config_ = DefaultSettings();
};

TEST_F(RewardGuardTest, AnItemEarnsAtMostWhatEachKindOfFeedbackOnceGives) {
  const RewardSpec natural(config_.rewards(), /*cap=*/0);
  EXPECT_EQ(natural.MagnitudeOfItem()[kEngagement], 1 + 2 + 4 + 3 + 3 + 4);
  EXPECT_DOUBLE_EQ(natural.MagnitudeOfItem()[kWatch], 0.02 * 300);
  v1::RewardComponents all;
  all.set_watch_ms(400'000);
  all.set_likes(1);
  all.set_shares(1);
  all.set_comments(1);
  all.set_collects(1);
  all.set_follows(1);
  EXPECT_FALSE(natural.Capped(ComponentsOf(all)));
  EXPECT_EQ(natural.Of(ComponentsOf(all))[kEngagement], 17);
  all.set_likes(1'000);
  EXPECT_TRUE(natural.Capped(ComponentsOf(all)));
  EXPECT_EQ(natural.Of(ComponentsOf(all))[kEngagement], 17);
}

TEST_F(RewardGuardTest, TheLimitFollowsWhatMostSessionsEarnAndNotWhatAFewClaim) {
  RewardGuard guard = Guard();
  EXPECT_EQ(guard.session_limit()[kEngagement], 1'000) << "nothing is known yet but the absolute cap";
  for (std::uint64_t user = 0; user < 2'000; ++user) Earn(guard, user, user % 20 == 7 ? 400'000 : 5);
  const double limit = guard.session_limit()[kEngagement];
  EXPECT_GE(limit, 20 * 10);
  EXPECT_LE(limit, 20 * 10 * 1.1) << "bins are an eighth of an octave";
  EXPECT_EQ(Earn(guard, 5'000, 100), 200);
  EXPECT_EQ(Earn(guard, 5'001, 200), 0) << "twice the limit";
}

TEST_F(RewardGuardTest, WhatIsRareMayStillBeEarned) {
  RewardGuard guard = Guard();
  for (std::uint64_t user = 0; user < 2'000; ++user) Earn(guard, user, 0);
  EXPECT_EQ(guard.session_limit()[kEngagement], 17) << "one item with each kind of feedback";
}

TEST_F(RewardGuardTest, AUserWithManySessionsIsLimitedInAWindowAndNobodyElseIs) {
  config_.mutable_learner()->set_user_reward_multiple(30);
  RewardGuard guard = Guard();
  for (std::uint64_t user = 0; user < 1'000; ++user) Earn(guard, user, 5);
  const auto greedy = [&](std::uint64_t user, std::int64_t from_ms) {
    double sum = 0;
    for (int s = 0; s < 50; ++s) sum += Earn(guard, user, 50, from_ms + s);
    return sum;
  };
  const double earned = greedy(7'000, 0);
  EXPECT_GT(earned, 200);
  EXPECT_LE(earned, 30 * 10 * 1.1 + 100);
  EXPECT_EQ(Earn(guard, 7'001, 50), 100) << "another user";
  EXPECT_GT(greedy(7'000, kDayMs), 200) << "the next window";
  config_.mutable_learner()->set_user_reward_multiple(0);
  RewardGuard open = Guard();
  double without = 0;
  for (int s = 0; s < 50; ++s) without += Earn(open, 7'000, 50);
  EXPECT_EQ(without, 5'000) << "the limit is what held it";
}

TEST_F(RewardGuardTest, ItsMemoryIsBoundedAndSurvives) {
  config_.mutable_learner()->set_reward_users_max(100);
  config_.mutable_learner()->set_user_reward_multiple(1);
  RewardGuard guard = Guard();
  for (std::uint64_t user = 0; user < 1'000; ++user) Earn(guard, user, 5);
  EXPECT_EQ(guard.UserBytes().size(), 100 * 24U);

  RewardGuard again = Guard();
  ASSERT_THAT(again.Restore(guard.Save(), guard.UserBytes()), IsOk());
  for (std::uint64_t user = 90; user < 110; ++user) EXPECT_EQ(Earn(again, user, 4), Earn(guard, user, 4)) << user;
  EXPECT_EQ(again.Save().SerializeAsString(), guard.Save().SerializeAsString());
  EXPECT_EQ(again.UserBytes(), guard.UserBytes());
  EXPECT_THAT(again.Restore(guard.Save(), "odd"), HasCode(Code::kCorrupt));
}

TEST_F(RewardGuardTest, WhatIsOldIsForgotten) {
  RewardGuard guard = Guard();
  for (std::uint64_t user = 0; user < 30'000; ++user) Earn(guard, user, 5);
  for (std::uint64_t user = 0; user < 60'000; ++user) Earn(guard, user, 50, kDayMs);
  EXPECT_GT(guard.session_limit()[kEngagement], 999) << "as the absolute cap allows";
}

}  // namespace
}  // namespace fuseline
