#pragma once

#include "fuseline/serving_bridge/event_log.h"
#include "fuseline/serving_bridge/ranker.h"
#include "fuseline/simulator/simulation.h"

namespace fuseline {

// The ranker client as the simulated app's ranker: decides, and fills the exposure as a real app would. The arm is the client's
// assignment. One thread; borrows the ranker.
class BridgeRankService final : public RankService {
 public:
  explicit BridgeRankService(Ranker& ranker) : ranker_(ranker), reader_(ranker.NewReader()) {}

  Status Rank(const RankingRequest& request, v1::Exposure* exposure) override {
    FUSELINE_ASSIGN_OR_RETURN(const Decision decision, ranker_.Rank(request, reader_));
    ranker_.FillExposure(request, decision, exposure);
    return OkStatus();
  }

 private:
  Ranker& ranker_;
  Ranker::Reader reader_;
};

// The ranker client's event log as the simulated app's: waits where the log is full, and loses nothing.
class BridgeEventSink final : public EventSink {
 public:
  explicit BridgeEventSink(EventLog& log) : log_(log) {}
  Status Append(v1::Event&& event) override { return log_.Append(std::move(event)); }

 private:
  EventLog& log_;
};

}  // namespace fuseline
