#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/learner/rewards.h"
#include "fuseline/v1/checkpoint.pb.h"
#include "fuseline/v1/config.pb.h"

namespace fuseline {

// How much recent sessions earned, by magnitude: counts in bins of an eighth of an octave, so that a few absurd values move nothing but
// their own bin. Pure. Cost: O(1) to add, O(bins) for a quantile.
class RewardHistogram {
 public:
  void Add(double magnitude);
  // The upper edge of the bin up to which so large a share lies; 0: none earned anything, or the share earned nothing.
  double Quantile(double share) const;
  std::uint64_t sessions() const { return sessions_; }

  v1::RewardHistogram Save() const;
  void Restore(const v1::RewardHistogram& state);

 private:
  static constexpr int kPerOctave = 8, kLowestOctave = -20, kOctaves = 60;
  static constexpr std::uint64_t kSessionsMax = 20'000;  // Then all counts are halved: what is old is forgotten.

  std::uint64_t zero_ = 0, sessions_ = 0;
  std::vector<std::uint32_t> counts_ = std::vector<std::uint32_t>(kPerOctave * kOctaves);
};

// What a session, and what a user within a window of stream time, may earn in each group (ours): multiples of what nine in ten recent
// sessions stay below. So users who report what nobody else does move the policy by no more than a very keen one would, and nobody
// has to know beforehand what sessions earn. At least one item with each kind of feedback is always allowed: what is rare stays.
//
// Where: the learner asks before a session becomes rows, and tells what it spent; in merge order, so it is a function of the logs.
// Thread-compatible. Cost: O(log users) a session; 24 bytes of checkpoint for each user of the window who earned something.
class RewardGuard {
 public:
  RewardGuard(const v1::Learner& settings, const v1::Rewards& rewards);

  SessionAllowance Allow(std::uint64_t user, std::int64_t stream_time_ms);
  void Note(std::uint64_t user, const v1::Trajectory& trajectory, const SessionAllowance& allowance);

  GroupMagnitudes session_limit() const;  // Without what the user has earned already.

  v1::RewardGuardState Save() const;      // But for `users`: UserBytes.
  std::string UserBytes() const;
  Status Restore(const v1::RewardGuardState& state, std::string_view users);  // Errors: kCorrupt.

 private:
  GroupMagnitudes Limit(double multiple) const;

  const double session_cap_, session_multiple_, user_multiple_;
  const std::int64_t window_ms_;
  const std::size_t users_max_;
  const RewardSpec rewards_;
  const GroupMagnitudes item_;
  std::array<RewardHistogram, kRewardGroups> earned_;
  std::int64_t window_ = 0;
  std::map<std::uint64_t, GroupMagnitudes> users_;  // Who earned something in the window.
};

}  // namespace fuseline
