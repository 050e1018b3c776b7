#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fuseline/v1/event.pb.h"
#include "fuseline/v1/policy.pb.h"
#include "kuairand_log.h"
#include "kuairand_scores.h"

namespace fuseline {

// One event to be: its time, its row, and what it is of it. 24 bytes, so that all of them can be sorted in memory.
struct PlannedEvent {
  std::int64_t time_ms;
  std::uint32_t row;
  std::uint8_t kind;  // 0: the exposure; else a v1::Feedback::Kind.
};

// Every event of `rows`, in order of (time, row, exposure first, then kind).
std::vector<PlannedEvent> PlanEvents(const std::vector<KuaiRandRow>& rows);

// Fills `event` with what is planned. What all exposures share is given once.
class EventMaker {
 public:
  EventMaker(FeatureTable users, FeatureTable videos, std::string schema_digest, const v1::ActionRanges& ranges);

  void Make(const PlannedEvent& planned, const KuaiRandRow& row, const KuaiRandScores& scores, v1::Event* event) const;

  const FeatureTable& users() const { return users_; }
  const FeatureTable& videos() const { return videos_; }

 private:
  void MakeExposure(const KuaiRandRow& row, const KuaiRandScores& scores, v1::Exposure* exposure) const;

  FeatureTable users_, videos_;
  v1::Exposure common_;
  v1::ExposedItem common_item_;
};

std::string KindName(const PlannedEvent& planned);  // "EXPOSURE", or the feedback's.

}  // namespace fuseline
