#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "fuseline/serving_bridge/decision.h"
#include "fuseline/v1/event.pb.h"
#include "fuseline/v1/schema.pb.h"

namespace fuseline {

// Decisions → exposures. Immutable; thread-safe.
class ExposureWriter {
 public:
  explicit ExposureWriter(const v1::FeatureSchema& schema);

  // As Ranker::FillExposure.
  void Fill(const RankingRequest& request, const Decision& decision, v1::Exposure* exposure) const;

  // `from` with the task's minimum in place of what is not finite. Returns how many were not. Shapes: [k]; they may be the same.
  std::size_t UsableScores(std::span<const float> from, std::span<float> to) const;

 private:
  std::string schema_digest_;
  std::vector<float> task_min_;
};

}  // namespace fuseline
