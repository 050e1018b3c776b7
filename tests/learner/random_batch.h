#pragma once

// Batches of the small world for algorithms: four state columns (taste; quality and two scores of the item), four action dimensions.

#include <cmath>
#include <cstdint>
#include <vector>

#include "algorithm.h"
#include "fuseline/core/random.h"
#include "learner_world.h"

namespace fuseline::test {

inline constexpr std::size_t kBatchShared = 1, kBatchState = 4;
inline const Problem kBatchProblem{kBatchShared, kBatchState - kBatchShared, {0, 0, 0, 0}, 2, {0, 0, 0.01F, 0.01F}, {2, 2, 1, 1}};

// States in [-1, 1], actions explored around 0 in the default box, none terminated.
inline TransitionBatch RandomBatch(std::uint64_t seed, std::size_t batch, std::size_t items) {
  Random random(seed, "batch", 0);
  TransitionBatch b{.batch = batch, .items = items};
  const auto fill = [&](std::vector<float>& values, std::size_t size, double bound) {
    values.resize(size);
    for (float& value : values) value = static_cast<float>(random.NextUniform(-bound, bound));
  };
  fill(b.state, batch * items * kBatchState, 1);
  fill(b.next_state, batch * items * kBatchState, 1);
  fill(b.action, batch * items * kActionWidth, 0.15);
  fill(b.reward, kRewardGroups * batch * items, 1);
  b.baseline.assign(batch * items * kActionWidth, 0);
  b.next_baseline = b.baseline;
  b.mask.assign(batch * items, 1);
  b.next_mask = b.mask;
  b.terminated.assign(batch, 0);
  b.trains_actor.assign(batch, 1);
  b.weight.assign(batch, 1);
  for (std::size_t i = 0; i < batch; ++i) b.box.insert(b.box.end(), {-0.15F, 0.15F});
  b.next_box = b.box;
  fill(b.scores, batch * items * kActionWidth / 2, 1);
  for (float& score : b.scores) score = std::abs(score);
  return b;
}

// As the learner draws them for an algorithm of one action a request: the item's columns are zero.
inline TransitionBatch BatchFor(const AlgorithmTraits& traits, std::uint64_t seed, std::size_t batch) {
  TransitionBatch drawn = RandomBatch(seed, batch, traits.per_request ? 1 : 2);
  for (std::size_t i = 0; traits.per_request && i < drawn.state.size(); ++i)
    if (i % kBatchState >= kBatchShared) drawn.state[i] = drawn.next_state[i] = 0;
  if (traits.per_request) drawn.scores.clear();
  return drawn;
}

}  // namespace fuseline::test
