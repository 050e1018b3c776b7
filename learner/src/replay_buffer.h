#pragma once

#include <cstdint>
#include <deque>
#include <functional>

#include "algorithm.h"
#include "fuseline/fusion/normaliser.h"
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

// Sampled transitions, newest `capacity` of them, over a RowStore. Sampling depends on (run seed, step) and the content alone.
// Thread-compatible. Memory: rows x row_bytes.
class ReplayBuffer {
 public:
  ReplayBuffer(RowLayout layout, std::size_t capacity) : rows_(layout, "replay"), capacity_(capacity) {}

  RowStore& rows() { return rows_; }
  // After rows were appended or loaded: finds their transitions, evicts the oldest beyond the capacity.
  void Index();
  std::size_t size() const { return transitions_.size(); }

  // The actor learns from the transitions for which this says yes, until it is called again.
  void SelectForActor(std::function<bool(const ConstRow&)> trains_actor);
  double actor_share() const;  // Of the transitions: those that the actor learns from.

  // From all transitions, for the critics. REQUIRES: size() > 0.
  void Sample(const Sampling& sampling, const Normaliser& normaliser, const RewardSpec& rewards, TransitionBatch& batch) const;
  // From those that the actor learns from: few of them in a large buffer would leave it next to none of a common batch. An
  // empty batch when there are none.
  void SampleForActor(const Sampling& sampling, const Normaliser& normaliser, const RewardSpec& rewards,
                      TransitionBatch& batch) const;

 private:
  void Fill(std::uint64_t number, std::size_t b, bool per_request, const Normaliser& normaliser, const RewardSpec& rewards,
            TransitionBatch& batch) const;
  void FillState(const ConstRow& row, std::size_t b, bool per_request, const Normaliser& normaliser, std::vector<float>& states,
                 std::vector<float>& baselines, std::vector<float>& mask, std::vector<float>& boxes) const;

  RowStore rows_;
  std::size_t capacity_;
  std::deque<std::uint64_t> transitions_;  // Rows, ascending.
  std::deque<std::uint64_t> for_actor_;    // Of these: those that trains_actor_ chose.
  std::function<bool(const ConstRow&)> trains_actor_ = [](const ConstRow&) { return true; };
  std::uint64_t indexed_end_ = 0;
};

// Writes a row's normalised states [items, W] one after another.
void NormalisedStates(const RowLayout& layout, const ConstRow& row, const Normaliser& normaliser, float* out);

}  // namespace fuseline
