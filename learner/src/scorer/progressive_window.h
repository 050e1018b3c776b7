#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/v1/checkpoint.pb.h"

namespace fuseline {

// Progressive validation of one model: of impressions that were scored before they were learned from, log loss and area under the ROC
// curve of each task. Scores are counted in bins of their log-odds, 1/64 wide, so that the area is that of scores which are equal within
// a bin; an outcome between 0 and 1 counts as that share of a positive one. Cost: memory O(tasks) of 32 KiB, Add O(1) an outcome.
class ProgressiveWindow {
 public:
  explicit ProgressiveWindow(std::size_t tasks) : tasks_(tasks) {}

  void Add(std::span<const float> labels, std::span<const float> scores);  // Both [n, tasks].
  void Clear();

  std::uint64_t impressions() const { return impressions_; }
  double LogLoss(std::size_t task) const;  // Mean, in nats; 0 without impressions.
  double Auc(std::size_t task) const;      // -1 where a class is missing. Cost: O(bins).

  v1::ScorerWindow Save() const;
  Status Restore(const v1::ScorerWindow& state);  // Errors: kCorrupt.

 private:
  static constexpr std::size_t kBins = 2'048;
  struct Task {
    double loss = 0;
    std::array<double, kBins> positives{}, negatives{};
  };
  static std::size_t BinOf(double score);

  std::uint64_t impressions_ = 0;
  std::vector<Task> tasks_;
};

}  // namespace fuseline
