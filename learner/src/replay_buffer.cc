#include "replay_buffer.h"

#include <algorithm>

#include "fuseline/core/check.h"
#include "fuseline/core/random.h"

namespace fuseline {

void ReplayBuffer::Index() {
  for (std::uint64_t row = std::max(indexed_end_, rows_.first_row()); row < rows_.end_row(); ++row) {
    if (rows_.At(row).is(kTransition)) transitions_.push_back(row);
  }
  indexed_end_ = rows_.end_row();
  while (transitions_.size() > capacity_) transitions_.pop_front();
  if (!transitions_.empty()) rows_.EvictBefore(transitions_.front());
}

void NormalisedStates(const RowLayout& layout, const ConstRow& row, const Normaliser& normaliser, float* out) {
  if (row.header->items == 0) return;
  const std::size_t width = layout.shared + layout.item;
  std::copy_n(row.shared, layout.shared, out);
  normaliser.Apply({out, layout.shared}, 0);
  for (std::uint32_t j = 0; j < row.header->items; ++j) {
    float* state = out + j * width;
    if (j > 0) std::copy_n(out, layout.shared, state);
    std::copy_n(row.items + j * layout.item, layout.item, state + layout.shared);
    normaliser.Apply({state + layout.shared, layout.item}, layout.shared);
  }
}

void ReplayBuffer::Sample(std::uint64_t seed, std::uint64_t step, std::size_t count, const Normaliser& normaliser,
                          const RewardSpec& rewards, const std::function<bool(const ConstRow&)>& trains_actor,
                          TransitionBatch& batch) const {
  FUSELINE_CHECK(!transitions_.empty());
  const RowLayout& layout = rows_.layout();
  const std::size_t items = layout.max_items, width = layout.shared + layout.item, action = layout.action;
  batch.batch = count;
  batch.items = items;
  for (auto [values, size] : {std::pair(&batch.state, items * width), {&batch.next_state, items * width},
                              {&batch.action, items * action}, {&batch.baseline, items * action},
                              {&batch.next_baseline, items * action}, {&batch.mask, items}, {&batch.next_mask, items},
                              {&batch.reward, kRewardGroups * items}, {&batch.terminated, std::size_t{1}},
                              {&batch.trains_actor, std::size_t{1}}, {&batch.box, std::size_t{2}}, {&batch.next_box, std::size_t{2}}})
    values->assign(count * size, 0.0F);

  Random random(seed, "replay", step);
  for (std::size_t b = 0; b < count; ++b) {
    const std::uint64_t number = transitions_[random.NextBelow(transitions_.size())];
    const ConstRow row = rows_.At(number);
    NormalisedStates(layout, row, normaliser, &batch.state[b * items * width]);
    std::copy_n(row.executed, items * action, &batch.action[b * items * action]);
    std::copy_n(row.baseline, items * action, &batch.baseline[b * items * action]);
    std::fill_n(&batch.mask[b * items], row.header->items, 1.0F);
    for (std::uint32_t j = 0; j < row.header->items; ++j) {
      const auto groups = rewards.Of(row.RewardsOf(j));
      for (std::size_t g = 0; g < kRewardGroups; ++g)
        batch.reward[(g * count + b) * items + j] = static_cast<float>(groups[g]);
    }
    batch.box[2 * b] = row.header->box_lower;
    batch.box[2 * b + 1] = row.header->box_upper;
    batch.trains_actor[b] = trains_actor(row) ? 1.0F : 0.0F;
    batch.terminated[b] = row.is(kTerminated) ? 1.0F : 0.0F;
    if (row.is(kTerminated)) continue;
    const ConstRow next = rows_.At(number + 1);
    NormalisedStates(layout, next, normaliser, &batch.next_state[b * items * width]);
    std::copy_n(next.baseline, items * action, &batch.next_baseline[b * items * action]);
    std::fill_n(&batch.next_mask[b * items], next.header->items, 1.0F);
    batch.next_box[2 * b] = next.header->box_lower;
    batch.next_box[2 * b + 1] = next.header->box_upper;
  }
}

}  // namespace fuseline
