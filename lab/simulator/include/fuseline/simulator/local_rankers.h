#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/fusion/action_space.h"
#include "fuseline/fusion/policy_network.h"
#include "fuseline/simulator/simulation.h"

namespace fuseline {

// Rankers inside the process, for evaluation without a broker: they fuse by fusion/, explore nothing, and name their arm.

// Everybody's items are fused with one action, or with the action of the user's segment.
class FixedActionRanker final : public RankService {
 public:
  // `actions`: one, or one per segment of the world; each [D], normalised. REQUIRES: of the space's width.
  FixedActionRanker(const World& world, ActionSpace space, std::vector<std::vector<float>> actions, std::string arm);
  Status Rank(const RankingRequest& request, v1::Exposure* exposure) override;

 private:
  const World& world_;
  ActionSpace space_;
  std::vector<std::vector<float>> actions_;
  std::string arm_;
  std::vector<double> scores_;
};

// Each user and item is fused with an action of its own, in the world's action space.
class ActionRanker final : public RankService {
 public:
  // Writes the normalised action [D] of a pair; values beyond [-1, 1] are taken as they are.
  using ActionOf = std::function<void(std::size_t user, std::size_t item, std::span<float> action)>;
  ActionRanker(const World& world, ActionOf action_of, std::string arm);
  Status Rank(const RankingRequest& request, v1::Exposure* exposure) override;

 private:
  const World& world_;
  ActionOf action_of_;
  std::string arm_;
  std::vector<float> action_;
  std::vector<double> scores_;
};

// Items are fused with the actions of a policy network.
class NetworkRanker final : public RankService {
 public:
  NetworkRanker(const World& world, const PolicyNetwork& network, std::string arm);
  Status Rank(const RankingRequest& request, v1::Exposure* exposure) override;

 private:
  const World& world_;
  const PolicyNetwork& network_;
  std::string arm_;
  ActorWorkspace workspace_;
  std::vector<float> actions_;
  std::vector<double> scores_;
};

// Knows the truth: orders by expected reward + patience * expected satisfaction. No fusion of predictions can be expected to
// reach it; it is the ceiling of the tables. Its exposures carry scores but no action that made the order.
class OracleRanker final : public RankService {
 public:
  OracleRanker(const World& world, double patience, std::string arm);
  Status Rank(const RankingRequest& request, v1::Exposure* exposure) override;

 private:
  const World& world_;
  double patience_;
  std::string arm_;
  std::vector<double> scores_;
};

// Lets the visitors of the world meet `ranker` for `days` of event time, closed loop, nothing logged.
// Deterministic. Cost: bench/BENCHMARKS.md.
Result<ArmStatistics> Evaluate(const World& world, RankService& ranker, double days, const Visitors& visitors = {});

// The best fixed action found by a search, and what it reached: coordinate by coordinate over the powers (the biases stay
// static), grid of 0, 1/4 … 1 of the range, `rounds` times, each candidate judged by the true mean value of the items that it
// would expose to `requests` requests of users of `segment` (all segments: segment_count()). Same requests for all: common
// random numbers. Deterministic. A local optimum of that grid, no more is claimed.
struct SearchResult {
  std::vector<float> action;  // [D], normalised.
  double value = 0;           // Mean over requests of the sum over exposed items of reward + patience * satisfaction.
  double static_value = 0;    // The same for the static action.
  double oracle_value = 0;    // The same for the true order.
};
SearchResult SearchFixedAction(const World& world, const ActionSpace& space, std::size_t segment, double patience,
                               std::size_t requests, std::size_t rounds);

}  // namespace fuseline
