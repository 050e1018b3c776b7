#include "freshness.h"

#include <algorithm>
#include <string>
#include <utility>

namespace fuseline {
namespace {

constexpr std::size_t kSessionsMax = 1'000'000;  // Waiting for a version; what closes beyond is not measured.
constexpr std::size_t kVersionsMax = 64;

const std::vector<double>& BoundsMs() {  // Up to a day: of event time, too.
  static const std::vector<double> bounds = {1,     2,     5,      10,     20,      50,    100,       200,        500,       1'000,
                                             2'000, 5'000, 10'000, 60'000, 600'000, 1.8e6, 3'600'000, 21'600'000, 86'400'000};
  return bounds;
}

Histogram StageOf(Metrics& metrics, const std::string& stage) {
  return metrics.GetHistogram("fuseline_pipeline_delay_ms", "closed session to its use by a ranker, wall time, by stage", BoundsMs(), {{"stage", stage}});
}

// As floating point: a ranker's time is what it wrote into Redis, and may be any number.
float Between(std::int64_t from_ms, std::int64_t to_ms) {
  return static_cast<float>(std::max(0.0, static_cast<double>(to_ms) - static_cast<double>(from_ms)));
}

Freshness::Quantiles QuantilesOf(std::vector<float> values) {
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

Freshness::Freshness(Metrics& metrics)
    : decision_ms_(metrics.GetHistogram("fuseline_decision_delay_ms", "last event of a session to its closing, event time", BoundsMs())),
      trained_ms_(StageOf(metrics, "trained")),
      published_ms_(StageOf(metrics, "published")),
      in_use_ms_(StageOf(metrics, "in_use")),
      pipeline_ms_(metrics.GetHistogram("fuseline_pipeline_whole_delay_ms", "all stages of fuseline_pipeline_delay_ms, a session and ranker", BoundsMs())),
      sum_ms_(metrics.GetHistogram("fuseline_freshness_ms", "decision delay and whole pipeline delay, a session and ranker", BoundsMs())) {}

void Freshness::Closed(const v1::Trajectory& trajectory, std::int64_t wall_ms) {
  const Name name{trajectory.name().partition(), trajectory.name().offset(), trajectory.name().ordinal()};
  const Session session{Between(trajectory.last_ms(), trajectory.stream_time_ms()), wall_ms};
  const bool is_new = state_.With([&](State& state) { return state.closed.size() < kSessionsMax && state.closed.emplace(name, session).second; });
  if (is_new) decision_ms_.Observe(session.decision_ms);
}

// Metrics are told outside the lock.
void Freshness::Learned(std::uint64_t version, const std::map<std::int32_t, v1::TrajectoryName>& names, std::int64_t wall_ms) {
  const auto sessions = state_.With([&](State& state) {
    Lesson& lesson = state.lessons[version];
    lesson.made_ms = wall_ms;
    for (const auto& [partition, last] : names) {
      const auto begin = state.closed.lower_bound(Name{partition, 0, 0});
      const auto end = state.closed.upper_bound(Name{partition, last.offset(), last.ordinal()});
      for (auto it = begin; it != end; ++it) lesson.sessions.push_back(it->second);
      state.closed.erase(begin, end);
    }
    const std::vector<Session> taught = lesson.sessions;
    if (state.lessons.size() > kVersionsMax) state.lessons.erase(state.lessons.begin());
    return taught;
  });
  for (const Session& session : sessions) trained_ms_.Observe(Between(session.closed_ms, wall_ms));
}

void Freshness::Published(std::uint64_t version, bool is_live, std::int64_t wall_ms) {
  const auto [sessions, waited_ms] = state_.With([&](State& state) {
    const auto found = state.lessons.find(version);
    if (found == state.lessons.end() || found->second.published_ms != 0) return std::pair<std::size_t, float>(0, 0.0F);
    found->second.published_ms = wall_ms;
    found->second.is_held = !is_live;
    return std::pair(found->second.sessions.size(), Between(found->second.made_ms, wall_ms));
  });
  for (std::size_t i = 0; i < sessions; ++i) published_ms_.Observe(waited_ms);
}

void Freshness::Observe(const Lesson& lesson, std::int64_t wall_ms, std::vector<Observation>& observations) {
  const std::int64_t published_ms = lesson.published_ms == 0 ? wall_ms : lesson.published_ms;
  for (const Session& session : lesson.sessions) {
    observations.push_back({session.decision_ms, Between(session.closed_ms, lesson.made_ms),
                            Between(lesson.made_ms, published_ms), Between(published_ms, wall_ms)});
  }
}

void Freshness::Keep(const Observation& seen, State& state) {
  if (state.observations.size() < kObservationsKept) {
    state.observations.push_back(seen);
  } else {
    state.observations[state.oldest] = seen;
    state.oldest = (state.oldest + 1) % kObservationsKept;
  }
}

void Freshness::InUse(const std::string& ranker, std::uint64_t version, std::int64_t wall_ms) {
  const auto observed = state_.With([&](State& state) {
    std::vector<Observation> of_ranker;
    const auto [newest, is_new] = state.newest_of.emplace(ranker, version);
    if (is_new || version <= newest->second) return of_ranker;
    auto lesson = state.lessons.upper_bound(newest->second);
    for (; lesson != state.lessons.end() && lesson->first <= version; ++lesson) {
      if (!lesson->second.is_held) Observe(lesson->second, wall_ms, of_ranker);
    }
    newest->second = version;
    for (const Observation& seen : of_ranker) Keep(seen, state);
    return of_ranker;
  });
  for (const Observation& seen : observed) {
    in_use_ms_.Observe(seen.in_use_ms);
    pipeline_ms_.Observe(PipelineOf(seen));
    sum_ms_.Observe(seen.decision_ms + PipelineOf(seen));
  }
}

void Freshness::Gone(const std::string& ranker) {
  state_.With([&](State& state) { state.newest_of.erase(ranker); });
}

float Freshness::PipelineOf(const Observation& seen) { return seen.trained_ms + seen.published_ms + seen.in_use_ms; }

Freshness::Report Freshness::MakeReport() const {
  const std::vector<Observation> observations = state_.With([](const State& state) { return state.observations; });
  const auto quantiles = [&](auto value_of) {
    std::vector<float> values;
    values.reserve(observations.size());
    for (const Observation& seen : observations) values.push_back(value_of(seen));
    return QuantilesOf(std::move(values));
  };
  return {.decision = quantiles([](const Observation& seen) { return seen.decision_ms; }),
          .trained = quantiles([](const Observation& seen) { return seen.trained_ms; }),
          .published = quantiles([](const Observation& seen) { return seen.published_ms; }),
          .in_use = quantiles([](const Observation& seen) { return seen.in_use_ms; }),
          .pipeline = quantiles(PipelineOf),
          .sum = quantiles([](const Observation& seen) { return seen.decision_ms + PipelineOf(seen); })};
}

}  // namespace fuseline
