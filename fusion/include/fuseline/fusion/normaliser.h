#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace fuseline {

// Largest magnitude of a normalised column: what lies further is cut, so that no single feature can dominate.
inline constexpr float kNormalisedMax = 10.0F;

// x → clamp((x - mean) * scale, ±kNormalisedMax), per column. Part of every version: learner and ranker apply the same.
struct Normaliser {
  std::vector<float> mean;   // [columns]
  std::vector<float> scale;  // [columns]; 1 / standard deviation, 1 for columns that never varied or may not be scaled.

  static Normaliser Identity(std::size_t columns);
  void Apply(std::span<float> columns, std::size_t first_column = 0) const;  // columns [first_column, + size).
};

// Mean and variance per column by Welford's method in double precision. Thread-compatible.
class NormaliserStatistics {
 public:
  explicit NormaliserStatistics(std::vector<bool> scalable_columns);
  void Add(std::span<const float> state);  // REQUIRES: finite, [columns].
  std::uint64_t count() const { return count_; }
  Normaliser Finish() const;

  // For checkpoints: count, means and sums of squares.
  const std::vector<double>& means() const { return mean_; }
  const std::vector<double>& squares() const { return squares_; }
  void Restore(std::uint64_t count, std::vector<double> means, std::vector<double> squares);

 private:
  std::vector<bool> scalable_;
  std::uint64_t count_ = 0;
  std::vector<double> mean_, squares_;
};

}  // namespace fuseline
