#pragma once

#include <cstddef>

#include "fuseline/core/status.h"
#include "fuseline/serving_bridge/decision.h"
#include "fuseline/v1/schema.pb.h"

namespace fuseline {

// Whether a request is one that the schema describes, before anything is computed from it.
class RequestCheck {
 public:
  RequestCheck(const v1::FeatureSchema& schema, std::size_t max_candidates);

  // Returns whether every value is finite. Errors: kInvalidInput as Ranker::Rank.
  Result<bool> Check(const RankingRequest& request) const;

 private:
  struct Expected {
    std::size_t dense = 0, ids = 0;
  };
  static Status CheckNumbers(const Expected& expected, const FeatureView& values, const char* scope);

  Expected user_, context_, item_;
  std::size_t tasks_, max_candidates_;
};

}  // namespace fuseline
