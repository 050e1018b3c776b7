#pragma once

#include <cstdint>
#include <map>
#include <tuple>
#include <vector>

#include "fuseline/core/guarded.h"
#include "fuseline/v1/trajectory.pb.h"

namespace fuseline {

// How old the newest lesson is, in the three figures that the design names, in milliseconds:
//   decision delay: last event → closed, in event time (gap + lateness and what the next event added);
//   pipeline delay: offered to the learner → in use by a ranker, in wall time. A session is offered right after the commit that
//   closed it, unless its partition must wait for others: that wait is not seen;
//   freshness: their sum.
// Each session that taught a version is one observation for each ranker that took the version up. Thread-safe.
class Freshness {
 public:
  struct Quantiles {
    double p50_ms = 0;
    double p99_ms = 0;
    std::uint64_t observations = 0;
  };
  struct Report {
    Quantiles decision;
    Quantiles pipeline;
    Quantiles sum;
  };

  void Closed(const v1::Trajectory& trajectory, std::int64_t wall_ms);
  // `version` was made and may serve; it knows every session up to `names`, the last of each partition.
  void Learned(std::uint64_t version, const std::map<std::int32_t, v1::TrajectoryName>& names);
  void InUse(std::uint64_t version, std::int64_t wall_ms);  // By one ranker, whose clock it is.
  Report MakeReport() const;

 private:
  struct Session {
    double decision_ms;
    std::int64_t closed_ms;
  };
  using Name = std::tuple<std::int32_t, std::int64_t, std::uint32_t>;
  struct State {
    std::map<Name, Session> closed;                           // That no version knows yet.
    std::map<std::uint64_t, std::vector<Session>> learned;  // The newest few versions, with what each was the first to know.
    std::vector<double> decision_ms, pipeline_ms, sum_ms;     // One entry an observation.
  };
  Guarded<State> state_;
};

}  // namespace fuseline
