#include "reward_guard.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace fuseline {
namespace {

constexpr double kShare = 0.9;                // Robust while fewer than one session in ten is hostile.
constexpr std::uint64_t kSessionsMin = 100;   // Before so many, nobody knows what sessions earn.
constexpr std::size_t kUserBytes = 8 + 8 * kRewardGroups;

}  // namespace

void RewardHistogram::Add(double magnitude) {
  ++sessions_;
  if (magnitude > 0) {
    const double bin = std::floor((std::log2(magnitude) - kLowestOctave) * kPerOctave);
    ++counts_[static_cast<std::size_t>(std::clamp(bin, 0.0, static_cast<double>(counts_.size() - 1)))];
  } else {
    ++zero_;
  }
  if (sessions_ < kSessionsMax) return;
  sessions_ = zero_ /= 2;
  for (std::uint32_t& count : counts_) sessions_ += count /= 2;
}

double RewardHistogram::Quantile(double share) const {
  const double wanted = share * static_cast<double>(sessions_);
  auto below = static_cast<double>(zero_);
  for (std::size_t bin = 0; below < wanted && bin < counts_.size(); ++bin) {
    below += counts_[bin];
    if (below >= wanted) return std::exp2(kLowestOctave + static_cast<double>(bin + 1) / kPerOctave);
  }
  return 0;
}

v1::RewardHistogram RewardHistogram::Save() const {
  v1::RewardHistogram state;
  state.set_zero(zero_);
  state.mutable_counts()->Assign(counts_.begin(), counts_.end());
  return state;
}

void RewardHistogram::Restore(const v1::RewardHistogram& state) {
  zero_ = sessions_ = state.zero();
  for (std::size_t bin = 0; bin < counts_.size(); ++bin) {
    counts_[bin] = static_cast<int>(bin) < state.counts_size() ? state.counts(static_cast<int>(bin)) : 0;
    sessions_ += counts_[bin];
  }
}

RewardGuard::RewardGuard(const v1::Learner& settings, const v1::Rewards& rewards)
    : session_cap_(settings.session_reward_cap()),
      session_multiple_(settings.session_reward_multiple()),
      user_multiple_(settings.user_reward_multiple()),
      window_ms_(settings.user_reward_window_ms()),
      users_max_(static_cast<std::size_t>(settings.reward_users_max())),
      rewards_(rewards, settings.reward_cap()),
      item_(rewards_.MagnitudeOfItem()) {}

GroupMagnitudes RewardGuard::Limit(double multiple) const {
  GroupMagnitudes limit{};
  for (std::size_t group = 0; group < kRewardGroups; ++group) {
    const RewardHistogram& earned = earned_[group];
    limit[group] = earned.sessions() < kSessionsMin ? std::numeric_limits<double>::infinity()
                                                    : std::max(multiple * earned.Quantile(kShare), item_[group]);
  }
  return limit;
}

GroupMagnitudes RewardGuard::session_limit() const {
  GroupMagnitudes limit{session_cap_, session_cap_};
  if (session_multiple_ == 0) return limit;
  const GroupMagnitudes usual = Limit(session_multiple_);
  for (std::size_t group = 0; group < kRewardGroups; ++group) limit[group] = std::min(limit[group], usual[group]);
  return limit;
}

SessionAllowance RewardGuard::Allow(std::uint64_t user, std::int64_t stream_time_ms) {
  // Stream time at closing never goes back in merge order, but for another input: that is another window all the same.
  if (const std::int64_t window = stream_time_ms / window_ms_; window != window_) {
    window_ = window;
    users_.clear();
  }
  GroupMagnitudes limit = session_limit();
  const auto known = users_.find(user);
  if (user_multiple_ == 0 || known == users_.end()) return SessionAllowance(limit);
  const GroupMagnitudes of_user = Limit(user_multiple_);
  for (std::size_t group = 0; group < kRewardGroups; ++group)
    limit[group] = std::max(0.0, std::min(limit[group], of_user[group] - known->second[group]));
  return SessionAllowance(limit);
}

void RewardGuard::Note(std::uint64_t user, const v1::Trajectory& trajectory, const SessionAllowance& allowance) {
  const GroupMagnitudes claimed = rewards_.MagnitudeOfSession(trajectory), &spent = allowance.spent();
  for (std::size_t group = 0; group < kRewardGroups; ++group) earned_[group].Add(claimed[group]);
  if (user_multiple_ == 0 || std::ranges::all_of(spent, [](double value) { return value == 0; })) return;
  if (users_.size() >= users_max_ && !users_.contains(user)) return;
  GroupMagnitudes& sum = users_[user];
  for (std::size_t group = 0; group < kRewardGroups; ++group) sum[group] += spent[group];
}

v1::RewardGuardState RewardGuard::Save() const {
  v1::RewardGuardState state;
  for (const RewardHistogram& earned : earned_) *state.add_groups() = earned.Save();
  state.set_window(window_);
  return state;
}

std::string RewardGuard::UserBytes() const {
  std::string bytes;
  bytes.reserve(users_.size() * kUserBytes);
  for (const auto& [user, sum] : users_) {
    bytes.append(reinterpret_cast<const char*>(&user), sizeof(user));
    bytes.append(reinterpret_cast<const char*>(sum.data()), sizeof(double) * sum.size());
  }
  return bytes;
}

Status RewardGuard::Restore(const v1::RewardGuardState& state, std::string_view users) {
  if (state.groups_size() != static_cast<int>(kRewardGroups) || users.size() % kUserBytes != 0)
    return ErrorStatus(Code::kCorrupt, "what sessions and users have earned cannot be read from the checkpoint");
  for (std::size_t group = 0; group < kRewardGroups; ++group)
    earned_[group].Restore(state.groups(static_cast<int>(group)));
  window_ = state.window();
  for (std::size_t at = 0; at < users.size(); at += kUserBytes) {
    std::uint64_t user = 0;
    std::memcpy(&user, users.data() + at, sizeof(user));
    std::memcpy(users_[user].data(), users.data() + at + sizeof(user), sizeof(double) * kRewardGroups);
  }
  return OkStatus();
}

}  // namespace fuseline
