#include <algorithm>
#include <array>

#include "fuseline/simulator/local_rankers.h"

namespace fuseline {
namespace {

constexpr std::int64_t kStartMs = 1'700'000'000'000;
constexpr std::int64_t kSpreadMs = 6 * 3'600'000;
constexpr double kDayMs = 86'400'000;
constexpr std::array<float, 5> kGrid = {-1, -0.5F, 0, 0.5F, 1};  // Normalised.

class Nowhere final : public EventSink {
 public:
  Status Append(v1::Event&&) override { return OkStatus(); }
};

// Requests laid out once, so that every action is judged on the same ones.
class Trial {
 public:
  Trial(const World& world, const ActionSpace& space, std::size_t segment, double patience, std::size_t requests)
      : space_(space), candidates_(world.candidate_count()), exposed_(world.exposed_count()), tasks_(world.task_count()) {
    std::vector<std::uint32_t> items;
    for (std::size_t n = 0; values_.size() < requests * candidates_ && n < requests * world.user_count(); ++n) {
      const std::size_t user = n % world.user_count();
      if (segment < world.segment_count() && world.SegmentOf(user) != segment) continue;
      world.Candidates(user, n / world.user_count(), &items);
      scores_.resize(scores_.size() + items.size() * tasks_);
      world.Scores(user, items, std::span(scores_).last(items.size() * tasks_));
      for (const auto item : items) {
        const TrueResponse truth = world.Truth(user, item);
        values_.push_back(truth.reward + patience * truth.satisfaction);
      }
    }
  }

  double ValueOf(std::span<const float> action) {
    fused_.clear();
    for (std::size_t i = 0; i < values_.size(); ++i) {
      fused_.push_back(space_.FusedScore(std::span(scores_).subspan(i * tasks_, tasks_), action));
    }
    return MeanOfBest(fused_);
  }
  double OracleValue() { return MeanOfBest(values_); }

 private:
  // Mean over requests of the summed values of the items with the highest `keys`.
  double MeanOfBest(const std::vector<double>& keys) {
    double sum = 0;
    std::vector<std::size_t> order(candidates_);
    for (std::size_t begin = 0; begin < keys.size(); begin += candidates_) {
      for (std::size_t i = 0; i < candidates_; ++i) order[i] = begin + i;
      std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(exposed_), order.end(),
                        [&](auto a, auto b) { return keys[a] != keys[b] ? keys[a] > keys[b] : a < b; });
      for (std::size_t i = 0; i < exposed_; ++i) sum += values_[order[i]];
    }
    return keys.empty() ? 0 : sum * static_cast<double>(candidates_) / static_cast<double>(keys.size());
  }

  const ActionSpace& space_;
  std::size_t candidates_, exposed_, tasks_;
  std::vector<float> scores_;
  std::vector<double> values_, fused_;
};

}  // namespace

Result<ArmStatistics> Evaluate(const World& world, RankService& ranker, double days, const Visitors& visitors) {
  Nowhere nowhere;
  Simulation simulation(world, ranker, nowhere, kStartMs, kSpreadMs, visitors);
  SimulationLimits limits;
  limits.until_ms = kStartMs + static_cast<std::int64_t>(days * kDayMs);
  FUSELINE_FAIL_IF_ERROR([&]() -> Status {
    const auto events = simulation.RunUntil(limits);
    return events ? OkStatus() : events.error();
  }());
  return simulation.statistics();
}

SearchResult SearchFixedAction(const World& world, const ActionSpace& space, std::size_t segment, double patience,
                               std::size_t requests, std::size_t rounds) {
  Trial trial(world, space, segment, patience, requests);
  SearchResult result;
  result.action.assign(space.static_action().begin(), space.static_action().end());
  result.static_value = trial.ValueOf(result.action);
  result.value = result.static_value;
  result.oracle_value = trial.OracleValue();
  for (std::size_t round = 0; round < rounds; ++round) {
    for (std::size_t task = 0; task < space.task_count(); ++task) {
      auto tried = result.action;
      for (const float power : kGrid) {
        tried[task] = power;
        const double value = trial.ValueOf(tried);
        if (value <= result.value) continue;
        result.value = value;
        result.action = tried;
      }
    }
  }
  return result;
}

}  // namespace fuseline
