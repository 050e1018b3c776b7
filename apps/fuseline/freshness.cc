#include "freshness.h"

#include <algorithm>

namespace fuseline {
namespace {

constexpr std::size_t kObservationsMax = 1'000'000;
constexpr std::size_t kSessionsMax = 1'000'000;  // Waiting for a version; what closes beyond is not measured.
constexpr std::size_t kVersionsMax = 64;

Freshness::Quantiles QuantilesOf(std::vector<double> values) {
  Freshness::Quantiles quantiles;
  quantiles.observations = values.size();
  if (values.empty()) return quantiles;
  const auto at = [&](double share) {
    const auto rank = static_cast<std::size_t>(share * static_cast<double>(values.size() - 1));
    std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(rank), values.end());
    return values[rank];
  };
  quantiles.p50_ms = at(0.50);
  quantiles.p99_ms = at(0.99);
  return quantiles;
}

}  // namespace

void Freshness::Closed(const v1::Trajectory& trajectory, std::int64_t wall_ms) {
  const Name name{trajectory.name().partition(), trajectory.name().offset(), trajectory.name().ordinal()};
  const Session session{static_cast<double>(trajectory.stream_time_ms() - trajectory.last_ms()), wall_ms};
  state_.With([&](State& state) {
    if (state.closed.size() < kSessionsMax) state.closed.emplace(name, session);
  });
}

void Freshness::Learned(std::uint64_t version, const std::map<std::int32_t, v1::TrajectoryName>& names) {
  state_.With([&](State& state) {
    std::vector<Session>& known = state.learned[version];
    for (const auto& [partition, last] : names) {
      const auto begin = state.closed.lower_bound(Name{partition, 0, 0});
      const auto end = state.closed.upper_bound(Name{partition, last.offset(), last.ordinal()});
      for (auto it = begin; it != end; ++it) known.push_back(it->second);
      state.closed.erase(begin, end);
    }
    if (state.learned.size() > kVersionsMax) state.learned.erase(state.learned.begin());
  });
}

void Freshness::InUse(std::uint64_t version, std::int64_t wall_ms) {
  state_.With([&](State& state) {
    const auto found = state.learned.find(version);
    if (found == state.learned.end()) return;
    for (const Session& session : found->second) {
      if (state.sum_ms.size() >= kObservationsMax) return;
      const double pipeline_ms = static_cast<double>(wall_ms - session.closed_ms);
      state.decision_ms.push_back(session.decision_ms);
      state.pipeline_ms.push_back(pipeline_ms);
      state.sum_ms.push_back(session.decision_ms + pipeline_ms);
    }
  });
}

Freshness::Report Freshness::MakeReport() const {
  const State state = state_.Copy();
  return {QuantilesOf(state.decision_ms), QuantilesOf(state.pipeline_ms), QuantilesOf(state.sum_ms)};
}

}  // namespace fuseline
