#pragma once

#include <span>

namespace fuseline {

// A mean with its 95 % interval.
struct MeanInterval {
  double mean = 0;
  double lower = 0, upper = 0;
};

// Student's interval of the mean: mean -+ t(n - 1) s / sqrt(n). One value has no interval: lower = upper = mean.
// REQUIRES: values is not empty.
MeanInterval IntervalOf(std::span<const double> values);

// Quantile 0.975 of Student's t, to 1e-9: the inverse of the regularised incomplete beta function, by bisection.
// REQUIRES: degrees >= 1.
double StudentQuantile(double degrees);

}  // namespace fuseline
