#include "fuseline/learner/rewards.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace fuseline {
namespace {

template <typename Integer>
std::int32_t Clamped(Integer value) {
  return static_cast<std::int32_t>(
      std::clamp<std::int64_t>(static_cast<std::int64_t>(value), 0, std::numeric_limits<std::int32_t>::max()));
}

}  // namespace

RewardSpec::RewardSpec(const v1::Rewards& weights, double cap) : weights_(weights), caps_{cap, cap} {
  if (cap == 0) caps_ = MagnitudeOfItem();
}

std::array<std::int32_t, kRewardComponents> ComponentsOf(const v1::RewardComponents& rewards) {
  return {Clamped(rewards.watch_ms()), Clamped(rewards.clicks()),   Clamped(rewards.completes()), Clamped(rewards.likes()),
          Clamped(rewards.shares()),   Clamped(rewards.comments()), Clamped(rewards.collects()),  Clamped(rewards.follows()),
          Clamped(rewards.profiles()), Clamped(rewards.dislikes())};
}

bool RewardSpec::Valid(std::span<const std::int32_t> components) const {
  return components[kWatchMs] > weights_.valid_watch_ms();
}

std::array<double, kRewardGroups> RewardSpec::Uncut(std::span<const std::int32_t> c) const {
  const double engagement = (Valid(c) ? weights_.valid() : 0) + weights_.complete() * c[kCompletes] + weights_.like() * c[kLikes] +
                            weights_.share() * c[kShares] + weights_.collect() * c[kCollects] +
                            weights_.comment() * c[kComments] + weights_.follow() * c[kFollows] + weights_.dislike() * c[kDislikes];
  const double seconds = static_cast<double>(std::min<std::int64_t>(c[kWatchMs], weights_.watch_cap_ms())) / 1000.0;
  return {engagement, weights_.watch_second() * seconds};
}

std::array<double, kRewardGroups> RewardSpec::Of(std::span<const std::int32_t> components) const {
  auto groups = Uncut(components);
  for (std::size_t group = 0; group < kRewardGroups; ++group)
    groups[group] = std::clamp(groups[group], -caps_[group], caps_[group]);
  return groups;
}

std::array<double, kRewardGroups> RewardSpec::OfSession(const v1::Trajectory& trajectory) const {
  std::array<double, kRewardGroups> sum{};
  for (const v1::Step& step : trajectory.steps()) {
    for (const v1::RewardComponents& item : step.rewards()) {
      const auto groups = Of(ComponentsOf(item));
      for (std::size_t group = 0; group < kRewardGroups; ++group) sum[group] += groups[group];
    }
  }
  return sum;
}

GroupMagnitudes RewardSpec::MagnitudeOfSession(const v1::Trajectory& trajectory) const {
  GroupMagnitudes sum{};
  for (const v1::Step& step : trajectory.steps()) {
    for (const v1::RewardComponents& item : step.rewards()) {
      const auto groups = Of(ComponentsOf(item));
      for (std::size_t group = 0; group < kRewardGroups; ++group) sum[group] += std::abs(groups[group]);
    }
  }
  return sum;
}

GroupMagnitudes RewardSpec::MagnitudeOfItem() const {
  double gained = 0, lost = 0;
  for (const double weight : {weights_.valid(), weights_.complete(), weights_.like(), weights_.share(), weights_.collect(), weights_.comment(),
                              weights_.follow(), weights_.dislike()})
    (weight > 0 ? gained : lost) += std::abs(weight);
  const double watched = std::abs(weights_.watch_second()) * static_cast<double>(weights_.watch_cap_ms()) / 1000.0;
  return {std::max(gained, lost), watched};
}

bool RewardSpec::Capped(std::span<const std::int32_t> components) const {
  const auto groups = Uncut(components);
  for (std::size_t group = 0; group < kRewardGroups; ++group)
    if (std::abs(groups[group]) > caps_[group]) return true;
  return false;
}

bool SessionAllowance::Spend(const std::array<double, kRewardGroups>& earned) {
  for (std::size_t group = 0; group < kRewardGroups; ++group)
    if (std::abs(earned[group]) > left_[group]) return false;
  for (std::size_t group = 0; group < kRewardGroups; ++group) {
    left_[group] -= std::abs(earned[group]);
    spent_[group] += std::abs(earned[group]);
  }
  return true;
}

}  // namespace fuseline
