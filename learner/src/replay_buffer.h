#pragma once

#include <cmath>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "algorithm.h"
#include "fuseline/core/random.h"
#include "fuseline/fusion/normaliser.h"
#include "priority_tree.h"
#include "row_store.h"

namespace fuseline {

// How a batch is drawn.
struct Sampling {
  std::uint64_t seed = 0;  // The run's.
  std::uint64_t step = 0;
  std::size_t count = 0;
  // One action and one reward for each request, as UnifiedRL has it: a list of one item whose state is the shared columns,
  // the item's columns zero, and whose reward is the list's sum.
  bool per_request = false;
};

// Which transitions are drawn for the critics.
struct SamplingRule {
  bool prioritised = false;  // By the last TD error (Schaul et al., arXiv 1511.05952), else all alike.
  double exponent = 0;       // In proportion to (|TD error| + 1e-3)^exponent.
  double correction = 0;     // Weight (n P)^-correction, over the batch's largest.
};

// What a transition is good for, as things stand.
struct TransitionUse {
  bool actor = false;  // The actor learns from it.
  float weight = 1;    // Of its loss; 0: it is stale, and not drawn at all.
};

// A transition's weight when `rounds` more baselines followed its own than are allowed: each more counts `factor` once more.
inline float StaleWeight(std::uint64_t rounds, double factor) { return static_cast<float>(std::pow(factor, static_cast<double>(rounds))); }

// Sampled transitions, newest `capacity` of them, over a RowStore. Sampling depends on (run seed, step), the content and the
// priorities alone. Thread-compatible. Memory: rows x row_bytes, and 16 to 56 bytes a transition.
class ReplayBuffer {
 public:
  ReplayBuffer(RowLayout layout, std::size_t capacity, SamplingRule rule = {});

  RowStore& rows() { return rows_; }
  const SamplingRule& rule() const { return rule_; }
  // After rows were appended or loaded: finds their transitions, evicts the oldest beyond the capacity. New ones have the largest
  // priority that was ever seen.
  void Index();
  std::size_t size() const { return transitions_.size(); }

  // What every transition is good for, until it is called again.
  void Select(std::function<TransitionUse(const ConstRow&)> use);
  double actor_share() const;               // Of the transitions: those that the actor learns from.
  std::size_t fresh() const { return fresh_.size(); }  // Those that may be drawn.
  double stale_share() const;               // Of the transitions: those of a weight below 1. Cost: O(size).

  // From all fresh transitions, for the critics. REQUIRES: fresh() > 0.
  void Sample(const Sampling& sampling, const Normaliser& normaliser, const RewardSpec& rewards, TransitionBatch& batch);
  // What was learned from the last Sample: |TD error| of each of its transitions; empty where the algorithm has none. A value that is not
  // finite changes nothing.
  void Learned(std::span<const float> td_error);
  // From those that the actor learns from: few of them in a large buffer would leave it next to none of a common batch. An
  // empty batch when there are none.
  void SampleForActor(const Sampling& sampling, const Normaliser& normaliser, const RewardSpec& rewards,
                      TransitionBatch& batch) const;

  struct PriorityList {
    std::uint64_t first = 0;        // Number of the oldest transition.
    std::vector<float> priorities;  // Oldest first.
    float largest = 1;
  };
  PriorityList Priorities() const;
  // After Index. Errors: kCorrupt when there are not as many as transitions.
  Status RestorePriorities(PriorityList list);

 private:
  void FillAll(std::span<const std::uint64_t> rows, bool per_request, const Normaliser& normaliser, const RewardSpec& rewards,
               TransitionBatch& batch) const;
  void Fill(std::uint64_t number, std::size_t b, bool per_request, const Normaliser& normaliser, const RewardSpec& rewards,
            TransitionBatch& batch) const;
  void FillState(const ConstRow& row, std::size_t b, bool per_request, const Normaliser& normaliser, std::vector<float>& states,
                 std::vector<float>& baselines, std::vector<float>& mask, std::vector<float>& boxes) const;

  void Push(std::uint64_t row);
  void Pop();
  std::size_t SlotOf(std::size_t index) const { return (first_ + index) % capacity_; }
  std::uint64_t DrawFresh(Random& random, std::size_t b, TransitionBatch& batch);

  RowStore rows_;
  std::size_t capacity_;
  SamplingRule rule_;
  std::deque<std::uint64_t> transitions_;  // Rows, ascending.
  std::deque<std::uint64_t> fresh_;        // Of these: those that may be drawn.
  std::deque<std::uint64_t> for_actor_;    // Of these: those that the actor learns from.
  std::function<TransitionUse(const ConstRow&)> use_ = [](const ConstRow&) { return TransitionUse{.actor = true}; };
  std::uint64_t indexed_end_ = 0;

  // Prioritised alone.
  std::uint64_t first_ = 0;              // Number of transitions_[0], counted from the first ever.
  std::deque<float> priorities_;         // Of each transition; the tree has 0 for one that is stale.
  float largest_ = 1;
  std::optional<PriorityTree> tree_;     // Slot: the transition's number modulo the capacity.
  std::vector<std::size_t> drawn_;       // Indices in transitions_ of the last Sample.
};

// Writes a row's normalised states [items, W] one after another.
void NormalisedStates(const RowLayout& layout, const ConstRow& row, const Normaliser& normaliser, float* out);

}  // namespace fuseline
