#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "fuseline/core/metrics.h"
#include "fuseline/sessionizer/partition_sessions.h"

namespace fuseline {

inline std::uint64_t Accounted(const v1::Accounting& a) {
  return a.used() + a.pending() + a.duplicate() + a.late() + a.orphan() + a.malformed() + a.quarantined() + a.control();
}

// Counters of this process over all partitions; each moves with the commit that makes it true.
class SessionizerMetrics {
 public:
  explicit SessionizerMetrics(Metrics& metrics)
      : metrics_(metrics),
        repeated_exposures(metrics.GetCounter("fuseline_sessionizer_repeated_exposures_total",
                                              "exposures of a request that its session already had")),
        unknown_kinds(metrics.GetCounter("fuseline_sessionizer_unknown_kinds_total",
                                         "feedback of a kind unknown here, which earned nothing")),
        stubs(metrics.GetCounter("fuseline_sessionizer_stubs_total", "trajectories over max_trajectory_bytes")),
        commits(metrics.GetCounter("fuseline_sessionizer_commits_total", "synced batches")),
        failed_commits(metrics.GetCounter("fuseline_sessionizer_failed_commits_total", "commits that must be repeated")),
        states_set_aside(metrics.GetCounter("fuseline_sessionizer_states_set_aside_total", "corrupt states, set aside")) {}

  // Counted here, and told with the next commit: a closing costs no look-up.
  void CountClosing(const Closing& closing) {
    repeated_ += closing.repeated_exposures;
    unknown_ += closing.unknown_kinds;
    stubs_ += closing.is_stub ? 1 : 0;
    ++sessions_by_end_[closing.end];
  }

  void CountClosings() {
    repeated_exposures.Increment(static_cast<double>(std::exchange(repeated_, 0)));
    unknown_kinds.Increment(static_cast<double>(std::exchange(unknown_, 0)));
    stubs.Increment(static_cast<double>(std::exchange(stubs_, 0)));
    for (const auto& [end, count] : sessions_by_end_) {
      Count("fuseline_sessionizer_sessions_total", "closed sessions", "end", v1::SessionEnd_Name(end), static_cast<double>(count));
    }
    sessions_by_end_.clear();
  }

  void CountCommit(std::int32_t partition, const v1::Accounting& before, const v1::Accounting& now,
                   std::uint64_t open_sessions, std::size_t memory_bytes) {
    CountFate("read", before.read(), now.read());
    CountFate("used", before.used(), now.used());
    CountFate("duplicate", before.duplicate(), now.duplicate());
    CountFate("late", before.late(), now.late());
    CountFate("orphan", before.orphan(), now.orphan());
    CountFate("malformed", before.malformed(), now.malformed());
    CountFate("quarantined", before.quarantined(), now.quarantined());
    CountFate("control", before.control(), now.control());
    CountFate("used_over_max_events", before.used_over_max_events(), now.used_over_max_events());
    const MetricLabels labels{{"partition", std::to_string(partition)}};
    metrics_.GetGauge("fuseline_sessionizer_pending_records", "accepted, in open sessions", labels)
        .Set(static_cast<double>(now.pending()));
    metrics_.GetGauge("fuseline_sessionizer_open_sessions", "sessions that are open", labels)
        .Set(static_cast<double>(open_sessions));
    metrics_.GetGauge("fuseline_sessionizer_memory_bytes", "open sessions and outbox in memory", labels)
        .Set(static_cast<double>(memory_bytes));
    metrics_.GetGauge("fuseline_sessionizer_unaccounted_records", "read less all that became of it: always 0", labels)
        .Set(static_cast<double>(now.read()) - static_cast<double>(Accounted(now)));
  }

 private:
  void Count(const char* name, const char* help, const char* label, const std::string& value, double by) {
    metrics_.GetCounter(name, help, {{label, value}}).Increment(by);
  }
  void CountFate(const char* fate, std::uint64_t before, std::uint64_t now) {
    if (now > before) {
      Count("fuseline_sessionizer_records_total", "records by what became of them", "fate", fate,
            static_cast<double>(now - before));
    }
  }

  Metrics& metrics_;
  std::uint64_t repeated_ = 0, unknown_ = 0, stubs_ = 0;  // Since the last commit; so is the next.
  std::map<v1::SessionEnd, std::uint64_t> sessions_by_end_;

 public:
  const Counter repeated_exposures, unknown_kinds, stubs, commits, failed_commits, states_set_aside;
};

}  // namespace fuseline
