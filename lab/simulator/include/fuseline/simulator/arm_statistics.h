#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "fuseline/core/status.h"

namespace fuseline {

// What one user did in one arm; sums over its finished sessions.
struct UserTotals {
  std::uint64_t sessions = 0;
  std::uint64_t requests = 0;
  std::uint64_t exposed = 0;
  std::uint64_t clicks = 0;
  std::uint64_t valid = 0;   // Valid consumptions.
  std::uint64_t likes = 0;
  std::uint64_t shares = 0;
  double watch_s = 0;
  double reward = 0;         // As v1::Rewards weighs it, both groups; truth: feedback that never arrives counts too.

  void Add(const UserTotals& other);
  void Subtract(const UserTotals& other);
};

// Sums of one arm.
struct ArmSummary {
  std::uint64_t users = 0;  // With a finished session.
  UserTotals totals;
  double mean_session_reward = 0;  // Mean over users of each user's mean; the unit of every interval is the user.
  double variance = 0;             // Of the users' means.
};

// A difference of two arms' mean session rewards with Welch's 95 % interval, the user as the unit (a user's sessions are not
// independent of each other).
struct ArmComparison {
  ArmSummary a, b;
  double difference = 0;  // a - b.
  double lower = 0, upper = 0;
  double relative = 0;    // difference / b's mean; 0 when that is 0.
};

// What users did, by arm and user: the demo's table. A value; copies are marks.
class ArmStatistics {
 public:
  void AddSession(std::string_view arm, std::uint32_t user, const UserTotals& session);

  std::vector<std::string> arms() const;
  ArmSummary Summarise(std::string_view arm) const;  // Zeros for an arm that nobody was in.
  // Errors: kNotFound unless both arms have two users.
  Result<ArmComparison> Compare(std::string_view a, std::string_view b) const;

  // What was added since `earlier`, a copy taken before of the same run.
  ArmStatistics Since(const ArmStatistics& earlier) const;

 private:
  std::map<std::string, std::map<std::uint32_t, UserTotals>, std::less<>> arms_;
};

// Welch's interval for the difference of two means from their (mean, variance, count). level 0.95, Student's t.
void WelchInterval(double mean_a, double variance_a, double count_a, double mean_b, double variance_b, double count_b,
                   double* lower, double* upper);

}  // namespace fuseline
