#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "fuseline/core/guarded.h"
#include "fuseline/core/metrics.h"
#include "fuseline/v1/trajectory.pb.h"

namespace fuseline {

// How old the newest lesson is, in the three figures that the design names, in milliseconds:
//   decision delay: last event → closed, in event time (gap + lateness and what the next event added);
//   pipeline delay: closed → in use by a ranker, in wall time, the sum of three stages:
//     trained    closed → there is a version that knows the session and may serve,
//     published  → Redis has it,
//     in use     → a ranker decides with it;
//   freshness: their sum.
// A session counts as closed when it is offered to the learner, right after the commit that closed it, unless its
// partition must wait for others: that wait is not seen.
// Each session is one observation for each ranker, when that ranker first decides with a version that knows it. So
// where a ranker skipped versions, which were followed by others before it looked, their sessions come into use with
// the one that it takes up. What is not the pipeline's delay is no observation: a rollback, and the way back from it
// (the sessions were in use before); versions that were published while somebody held `live` elsewhere; and the first
// version that is heard of a ranker, which may have begun long after that was made. The quantiles are those of the last
// kObservationsKept, so that they follow what goes on now. All are also histograms among the metrics, where a stage is observed, once a session, as soon as it is over: one that stands
// still shows there. What a clock that is behind would make negative counts as 0. Thread-safe.
class Freshness {
 public:
  struct Quantiles {
    double p50_ms = 0;
    double p99_ms = 0;
    std::uint64_t observations = 0;
  };
  struct Report {
    Quantiles decision;
    Quantiles trained, published, in_use;
    Quantiles pipeline;
    Quantiles sum;
  };

  static constexpr std::size_t kObservationsKept = 100'000;

  explicit Freshness(Metrics& metrics);

  void Closed(const v1::Trajectory& trajectory, std::int64_t wall_ms);
  // `version` was made and may serve; it knows every session up to `names`, the last of each partition.
  void Learned(std::uint64_t version, const std::map<std::int32_t, v1::TrajectoryName>& names, std::int64_t wall_ms);
  void Published(std::uint64_t version, bool is_live, std::int64_t wall_ms);
  // By one ranker, whose clock it is. Version 0: it is there, and has none yet.
  void InUse(const std::string& ranker, std::uint64_t version, std::int64_t wall_ms);
  void Gone(const std::string& ranker);  // What it says next is the first that is heard of it.
  Report MakeReport() const;

 private:
  struct Session {
    float decision_ms;
    std::int64_t closed_ms;
  };
  struct Lesson {
    std::int64_t made_ms = 0;
    std::int64_t published_ms = 0;  // 0: not yet.
    bool is_held = false;           // `live` was held elsewhere when it was published.
    std::vector<Session> sessions;  // Those that this version was the first to know.
  };
  struct Observation {
    float decision_ms, trained_ms, published_ms, in_use_ms;
  };
  static void Observe(const Lesson& lesson, std::int64_t wall_ms, std::vector<Observation>& observations);
  using Name = std::tuple<std::int32_t, std::int64_t, std::uint32_t>;
  struct State {
    std::map<Name, Session> closed;           // That no version knows yet.
    std::map<std::uint64_t, Lesson> lessons;  // The newest few versions.
    std::map<std::string, std::uint64_t> newest_of;  // Ranker → the newest version that it has used.
    std::vector<Observation> observations;  // A ring once it is full.
    std::size_t oldest = 0;
  };
  static void Keep(const Observation& seen, State& state);
  static float PipelineOf(const Observation& seen);

  const Histogram decision_ms_, trained_ms_, published_ms_, in_use_ms_, pipeline_ms_, sum_ms_;
  Guarded<State> state_;
};

}  // namespace fuseline
