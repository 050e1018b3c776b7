#pragma once

#include <cstddef>

#include "fuseline/core/metrics.h"
#include "fuseline/core/status.h"
#include "fuseline/serving_bridge/decision.h"
#include "fuseline/v1/schema.pb.h"

namespace fuseline {

// Whether a request is one that the schema describes, before anything is computed from it. What is not is counted by
// reason: "identity" (no request or user id), "candidates" (too many, or another number of item ids), "schema"
// (numbers of values).
class RequestCheck {
 public:
  // `scorer`: candidates may be without task scores, all of them.
  RequestCheck(const v1::FeatureSchema& schema, bool scorer, std::size_t max_candidates, Metrics& metrics);

  // Returns whether every value is finite. Errors: kInvalidInput as Ranker::Rank.
  Result<bool> Check(const RankingRequest& request) const;

 private:
  struct Expected {
    std::size_t dense = 0, ids = 0;
  };
  Status CheckIdentityAndCandidates(const RankingRequest& request) const;
  Status CheckNumbers(const Expected& expected, const FeatureView& values, const char* scope) const;

  Expected user_, context_, item_;
  std::size_t tasks_, max_candidates_;
  bool scorer_;
  Counter identity_total_, candidates_total_, schema_total_;
};

}  // namespace fuseline
