#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "fuseline/v1/config.pb.h"
#include "fuseline/v1/trajectory.pb.h"

namespace fuseline {

// Reward components of one item, as they lie in a row.
enum RewardComponent : std::size_t { kWatchMs, kClicks, kCompletes, kLikes, kShares, kComments, kCollects, kFollows, kProfiles,
                                     kDislikes, kRewardComponents };
// What the learner maximises is a scalar of each group. Engagement, watch.
enum RewardGroup : std::size_t { kEngagement, kWatch, kRewardGroups };
inline constexpr std::array<const char*, kRewardGroups> kRewardGroupNames = {"engagement", "watch"};

std::array<std::int32_t, kRewardComponents> ComponentsOf(const v1::RewardComponents& rewards);

// r_i = sum_c w_c v_c, cut to the cap. Weights are applied here, where the reward is used, so a specification is a choice of who
// learns, not of who makes trajectories. Immutable; thread-safe.
class RewardSpec {
 public:
  RewardSpec(const v1::Rewards& weights, double cap) : weights_(weights), cap_(cap) {}

  std::array<double, kRewardGroups> Of(std::span<const std::int32_t> components) const;
  std::array<double, kRewardGroups> OfSession(const v1::Trajectory& trajectory) const;  // Summed over its items.
  bool Capped(std::span<const std::int32_t> components) const;
  bool Valid(std::span<const std::int32_t> components) const;  // Watched longer than valid_watch_ms.

 private:
  std::array<double, kRewardGroups> Uncut(std::span<const std::int32_t> components) const;
  v1::Rewards weights_;
  double cap_;
};

// What one user may earn in one session: a client that reports what no person does moves the policy by no more than this.
class SessionAllowance {
 public:
  explicit SessionAllowance(double cap) : left_{cap, cap} {}

  // Whether an item that earned this is within what is left in every group, by magnitude; if so, it is spent.
  bool Spend(const std::array<double, kRewardGroups>& earned);

 private:
  std::array<double, kRewardGroups> left_;
};

}  // namespace fuseline
