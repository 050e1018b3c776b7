#pragma once

#include <cstdint>
#include <span>

namespace fuseline {

// Statistics that stay valid however often somebody looks, in double. Pure functions.

// Sums over the users of one arm of y_u (a metric, summed over the user's sessions) and n_u (the sessions). A user who comes back
// replaces what he was, so the sums are those of users, never of sessions: a user's sessions are not independent of each other.
struct UserSums {
  double users = 0;
  double y = 0, n = 0;
  double yy = 0, nn = 0, yn = 0;

  void Add(double of_y, double of_n) { AddWeighted(of_y, of_n, 1); }
  void Remove(double of_y, double of_n) { AddWeighted(of_y, of_n, -1); }

 private:
  void AddWeighted(double of_y, double of_n, double weight) {
    users += weight, y += weight * of_y, n += weight * of_n;
    yy += weight * of_y * of_y, nn += weight * of_n * of_n, yn += weight * of_y * of_n;
  }
};

// A mean with the variance of that mean, from so many independent users.
struct MeanEstimate {
  double mean = 0;
  double variance = 0;
  double users = 0;
};

// The mean per session, R = sum y / sum n, by the delta method with the user as the unit (Deng, Knoblich, Lu 2018, "Applying the delta
// method in metric analytics", section 3):
//   Var(R) = U / (U - 1) * sum_u (y_u - R n_u)^2 / (sum n)^2
// Zeros without sessions; variance 0 below two users.
MeanEstimate SessionMean(const UserSums& sums);

// a - factor * b, of independent arms.
MeanEstimate Contrast(const MeanEstimate& a, double factor, const MeanEstimate& b);

// Asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas 2021, arXiv 2103.06476, theorem 2.2): with t users,
// s^2 = t Var(estimate) and probability 1 - alpha, asymptotically, for all t together
//   |estimate - truth| < s sqrt( 2 (t rho^2 + 1) / (t rho)^2 * log( sqrt(t rho^2 + 1) / alpha ) )
// and in their one-sided form with log( 1 + sqrt(t rho^2 + 1) / (2 alpha) ). Tightest at t* users with
//   rho = sqrt( ( -2 log alpha + log(1 - 2 log alpha) ) / t* )   as they choose it, one-sided at 2 alpha.
// That users come back, so that a look's sums are not those before plus something independent, only helps: what a user does is not
// negatively correlated over time, so looks depend on each other more than in their martingale, and by Slepian's inequality cross
// the boundary less often.
// REQUIRES: alpha in (0, 0.5], best_at_users > 0.
class ConfidenceSequence {
 public:
  ConfidenceSequence(double alpha, double best_at_users);

  // Infinite below two users.
  double HalfWidth(const MeanEstimate& estimate) const;     // Both sides, alpha together.
  double OneSidedWidth(const MeanEstimate& estimate) const;  // One side, alpha.

 private:
  double alpha_, rho2_, one_sided_rho2_;
};

// Users who entered the arms while each was expected to get `expected[i]` of them.
struct EntryStage {
  std::span<const double> expected;       // [arms], sums to 1.
  std::span<const std::uint64_t> users;   // [arms]
};

// log of the e-value against "users enter the arms in the expected shares" (Lindon, Malek 2020, "Anytime-valid inference for multinomial
// count data", arXiv 2011.03567): the Dirichlet mixture around `centre` over the null,
//   E = B(k c + n) / B(k c) / prod over stages s and arms i of expected_si^n_si,   B the multivariate beta function, n the sum over stages.
// Each entry multiplies E by its predicted over its expected share, and the expected one may change from entry to entry: so it follows
// a ramp through all its stages. P(E ever reaches 1 / alpha) <= alpha under the null. Infinite where an arm got users whose share was 0.
// k = 1,000 looks for shares that are off by some hundredths (our choice). REQUIRES: all spans are as long as `centre`, which sums to 1.
double LogSampleRatioE(std::span<const double> centre, std::span<const EntryStage> stages);

}  // namespace fuseline
