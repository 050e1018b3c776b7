#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "fuseline/core/metrics.h"
#include "fuseline/core/status.h"
#include "fuseline/fusion/policy_network.h"
#include "fuseline/fusion/scorer_network.h"
#include "fuseline/serving_bridge/decision.h"
#include "fuseline/serving_bridge/ranker.h"
#include "fuseline/v1/event.pb.h"

namespace fuseline {

// The policy that a request meets. Borrowed for the call.
struct ServingPolicy {
  const PolicyNetwork* network = nullptr;  // Null: the static weights.
  ExplorationBox box;                      // Of the version; not looked at without a network.
  std::uint64_t version = 0;
  bool explore = true;                     // If the options do.
  std::string_view experiment;             // Empty: the user is in none.
  std::string_view arm = "learning";       // As in events.
  std::uint32_t coverage = 0;              // Of the experiment, in 1/10,000.
  const ScorerNetwork* scorer = nullptr;   // Of requests without task scores; null: they get each task's minimum.
  std::uint64_t scorer_version = 0;
};

// How a request becomes a decision, and a decision an exposure: everything about a ranker but where its versions come from.
//
// Where: inside Ranker, which follows Redis; and bare, where a loop runs in one process and hands over its versions itself.
// A function of (options, request, policy): the same give the same decision. Thread-safe, with a Workspace per thread.
class DecisionMaker {
 public:
  // One caller's buffers; cheap to keep, not to make.
  class Workspace {
   public:
    Workspace();
    Workspace(Workspace&&) noexcept;
    Workspace& operator=(Workspace&&) noexcept;
    ~Workspace();

   private:
    friend class DecisionMaker;
    struct Impl;
    std::unique_ptr<Impl> impl_;
  };

  // Of `options`, what speaks of Redis and of picking up is not looked at. REQUIRES: metrics outlive it.
  // Errors: kInvalidInput for options that contradict themselves.
  static Result<DecisionMaker> Create(const RankerOptions& options, Metrics& metrics);
  DecisionMaker(DecisionMaker&&) noexcept;
  DecisionMaker& operator=(DecisionMaker&&) noexcept;
  ~DecisionMaker();

  // As Ranker::Rank, with this policy as the live version.
  Status Decide(const RankingRequest& request, const ServingPolicy& policy, Workspace& workspace, Decision& decision) const;

  // What `shadow` would have done, exploring nothing, beside what Decide has just done with this workspace. Adds to decision.shadows; nothing
  // where the decision fell back or has no items. Cost: as Decide, and two sorts of the candidates.
  Status ScoreShadow(const RankingRequest& request, const ServingPolicy& shadow, Workspace& workspace, Decision& decision) const;

  // As Ranker::FillExposure.
  void FillExposure(const RankingRequest& request, const Decision& decision, v1::Exposure* exposure) const;

 private:
  struct Impl;
  explicit DecisionMaker(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace fuseline
