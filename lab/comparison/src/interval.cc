#include "fuseline/comparison/interval.h"

#include <cmath>

#include "fuseline/core/check.h"

namespace fuseline {
namespace {

constexpr double kTail = 0.025;
constexpr double kTiny = 1e-300;

// Continued fraction of the incomplete beta function, by Lentz's method (DLMF 8.17.22).
double BetaFraction(double a, double b, double x) {
  double c = 1, d = 1 - (a + b) * x / (a + 1);
  d = 1 / (std::abs(d) < kTiny ? kTiny : d);
  double value = d;
  const auto turn = [&](double numerator) {
    d = 1 + numerator * d;
    c = 1 + numerator / c;
    d = 1 / (std::abs(d) < kTiny ? kTiny : d);
    c = std::abs(c) < kTiny ? kTiny : c;
    value *= c * d;
    return std::abs(c * d - 1);
  };
  for (int m = 1; m < 500; ++m) {
    turn(m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)));
    if (turn(-(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))) < 1e-15) break;
  }
  return value;
}

// I_x(a, b).
double RegularisedBeta(double a, double b, double x) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  const double front = std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) + b * std::log1p(-x));
  if (x < (a + 1) / (a + b + 2)) return front * BetaFraction(a, b, x) / a;
  return 1 - front * BetaFraction(b, a, 1 - x) / b;
}

}  // namespace

double StudentQuantile(double degrees) {
  FUSELINE_CHECK(degrees >= 1);
  // P(T > t) = I_{v / (v + t^2)}(v / 2, 1 / 2) / 2 falls in t.
  double low = 0, high = 20;
  while (high - low > 1e-12) {
    const double t = (low + high) / 2;
    const double above = RegularisedBeta(degrees / 2, 0.5, degrees / (degrees + t * t)) / 2;
    (above > kTail ? low : high) = t;
  }
  return (low + high) / 2;
}

MeanInterval IntervalOf(std::span<const double> values) {
  FUSELINE_CHECK(!values.empty());
  const auto n = static_cast<double>(values.size());
  double sum = 0, squares = 0;
  for (const double value : values) sum += value;
  const double mean = sum / n;
  if (values.size() == 1) return {mean, mean, mean};
  for (const double value : values) squares += (value - mean) * (value - mean);
  const double half = StudentQuantile(n - 1) * std::sqrt(squares / (n - 1) / n);
  return {mean, mean - half, mean + half};
}

}  // namespace fuseline
