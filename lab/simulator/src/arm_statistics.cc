#include "fuseline/simulator/arm_statistics.h"

#include <cmath>

namespace fuseline {
namespace {

constexpr double kNormalQuantile = 1.959963984540054;  // Of 0.975.

// Quantile 0.975 of Student's t: Cornish and Fisher's expansion around the normal, good to 0.5 % from 3 degrees of freedom.
double StudentQuantile(double degrees) {
  const double z = kNormalQuantile;
  const double z3 = z * z * z, z5 = z3 * z * z, z7 = z5 * z * z;
  return z + (z3 + z) / (4 * degrees) + (5 * z5 + 16 * z3 + 3 * z) / (96 * degrees * degrees) +
         (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * degrees * degrees * degrees);
}

}  // namespace

void UserTotals::Add(const UserTotals& other) {
  sessions += other.sessions;
  requests += other.requests;
  exposed += other.exposed;
  clicks += other.clicks;
  valid += other.valid;
  likes += other.likes;
  shares += other.shares;
  watch_s += other.watch_s;
  reward += other.reward;
}

void UserTotals::Subtract(const UserTotals& other) {
  sessions -= other.sessions;
  requests -= other.requests;
  exposed -= other.exposed;
  clicks -= other.clicks;
  valid -= other.valid;
  likes -= other.likes;
  shares -= other.shares;
  watch_s -= other.watch_s;
  reward -= other.reward;
}

void ArmStatistics::AddSession(std::string_view arm, std::uint32_t user, const UserTotals& session) {
  auto found = arms_.find(arm);
  if (found == arms_.end()) found = arms_.emplace(std::string(arm), decltype(found->second){}).first;
  found->second[user].Add(session);
}

std::vector<std::string> ArmStatistics::arms() const {
  std::vector<std::string> names;
  for (const auto& [name, users] : arms_) names.push_back(name);
  return names;
}

ArmSummary ArmStatistics::Summarise(std::string_view arm) const {
  ArmSummary summary;
  const auto found = arms_.find(arm);
  if (found == arms_.end()) return summary;
  double squares = 0;  // Welford's sum of squared distances from the running mean.
  for (const auto& [user, totals] : found->second) {
    if (totals.sessions == 0) continue;
    summary.totals.Add(totals);
    ++summary.users;
    const double mean = totals.reward / static_cast<double>(totals.sessions);
    const double distance = mean - summary.mean_session_reward;
    summary.mean_session_reward += distance / static_cast<double>(summary.users);
    squares += distance * (mean - summary.mean_session_reward);
  }
  if (summary.users > 1) summary.variance = squares / static_cast<double>(summary.users - 1);
  return summary;
}

Result<ArmComparison> ArmStatistics::Compare(std::string_view a, std::string_view b) const {
  ArmComparison comparison;
  comparison.a = Summarise(a);
  comparison.b = Summarise(b);
  if (comparison.a.users < 2 || comparison.b.users < 2) {
    return Error(Code::kNotFound, "a comparison needs two users with a finished session in each arm, has",
                 comparison.a.users, comparison.b.users);
  }
  comparison.difference = comparison.a.mean_session_reward - comparison.b.mean_session_reward;
  WelchInterval(comparison.a.mean_session_reward, comparison.a.variance, static_cast<double>(comparison.a.users),
                comparison.b.mean_session_reward, comparison.b.variance, static_cast<double>(comparison.b.users),
                &comparison.lower, &comparison.upper);
  if (comparison.b.mean_session_reward != 0) {
    comparison.relative = comparison.difference / comparison.b.mean_session_reward;
  }
  return comparison;
}

ArmStatistics ArmStatistics::Since(const ArmStatistics& earlier) const {
  ArmStatistics since = *this;
  for (const auto& [arm, users] : earlier.arms_) {
    for (const auto& [user, totals] : users) since.arms_[arm][user].Subtract(totals);
  }
  return since;
}

void WelchInterval(double mean_a, double variance_a, double count_a, double mean_b, double variance_b, double count_b,
                   double* lower, double* upper) {
  const double error_a = variance_a / count_a, error_b = variance_b / count_b;
  const double both = error_a + error_b;
  // Welch and Satterthwaite; without any spread the interval is a point.
  const double degrees =
      both > 0 ? both * both / (error_a * error_a / (count_a - 1) + error_b * error_b / (count_b - 1)) : 1;
  const double half = StudentQuantile(degrees) * std::sqrt(both);
  *lower = mean_a - mean_b - half;
  *upper = mean_a - mean_b + half;
}

}  // namespace fuseline
