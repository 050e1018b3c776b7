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
using GroupMagnitudes = std::array<double, kRewardGroups>;
inline constexpr std::array<const char*, kRewardGroups> kRewardGroupNames = {"engagement", "watch"};

std::array<std::int32_t, kRewardComponents> ComponentsOf(const v1::RewardComponents& rewards);

// r_i = sum_c w_c v_c, cut to the cap; a cap of 0 stands for MagnitudeOfItem(). Weights are applied here, where the reward is used, so a specification is a choice of who
// learns, not of who makes trajectories. Immutable; thread-safe.
class RewardSpec {
 public:
  RewardSpec(const v1::Rewards& weights, double cap);

  std::array<double, kRewardGroups> Of(std::span<const std::int32_t> components) const;
  std::array<double, kRewardGroups> OfSession(const v1::Trajectory& trajectory) const;  // Summed over its items.
  GroupMagnitudes MagnitudeOfSession(const v1::Trajectory& trajectory) const;  // Of its items' rewards, summed.
  GroupMagnitudes MagnitudeOfItem() const;  // The most that an item earns which is watched to the cap, with each kind of feedback once.
  bool Capped(std::span<const std::int32_t> components) const;
  bool Valid(std::span<const std::int32_t> components) const;  // Watched longer than valid_watch_ms.

 private:
  std::array<double, kRewardGroups> Uncut(std::span<const std::int32_t> components) const;
  v1::Rewards weights_;
  GroupMagnitudes caps_;
};

// What one user may earn in one session: a client that reports what no person does moves the policy by no more than this.
class SessionAllowance {
 public:
  explicit SessionAllowance(double cap) : left_{cap, cap} {}
  explicit SessionAllowance(const GroupMagnitudes& caps) : left_(caps) {}

  // Whether an item that earned this is within what is left in every group, by magnitude; if so, it is spent.
  bool Spend(const std::array<double, kRewardGroups>& earned);
  const GroupMagnitudes& spent() const { return spent_; }

 private:
  GroupMagnitudes left_, spent_{};
};

}  // namespace fuseline
