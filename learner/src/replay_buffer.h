#pragma once

#include <cstdint>
#include <deque>
#include <functional>

#include "algorithm.h"
#include "fuseline/fusion/normaliser.h"
#include "row_store.h"

namespace fuseline {

// Sampled transitions, newest `capacity` of them, over a RowStore. Sampling depends on (run seed, step) and the content alone.
// Thread-compatible. Memory: rows x row_bytes.
class ReplayBuffer {
 public:
  ReplayBuffer(RowLayout layout, std::size_t capacity) : rows_(layout, "replay"), capacity_(capacity) {}

  RowStore& rows() { return rows_; }
  // After rows were appended or loaded: finds their transitions, evicts the oldest beyond the capacity.
  void Index();
  std::size_t size() const { return transitions_.size(); }

  // `trains_actor(row)` decides who is in the actor's loss. REQUIRES: size() > 0.
  void Sample(std::uint64_t seed, std::uint64_t step, std::size_t count, const Normaliser& normaliser, const RewardSpec& rewards,
              const std::function<bool(const ConstRow&)>& trains_actor, TransitionBatch& batch) const;

 private:
  RowStore rows_;
  std::size_t capacity_;
  std::deque<std::uint64_t> transitions_;  // Rows, ascending.
  std::uint64_t indexed_end_ = 0;
};

// Writes a row's normalised states [items, W] one after another.
void NormalisedStates(const RowLayout& layout, const ConstRow& row, const Normaliser& normaliser, float* out);

}  // namespace fuseline
