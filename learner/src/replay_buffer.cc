#include "replay_buffer.h"

#include <algorithm>

#include "fuseline/core/check.h"
#include "fuseline/core/random.h"

namespace fuseline {

void ReplayBuffer::Index() {
  for (std::uint64_t row = std::max(indexed_end_, rows_.first_row()); row < rows_.end_row(); ++row) {
    if (!rows_.At(row).is(kTransition)) continue;
    transitions_.push_back(row);
    if (trains_actor_(rows_.At(row))) for_actor_.push_back(row);
  }
  indexed_end_ = rows_.end_row();
  while (transitions_.size() > capacity_) transitions_.pop_front();
  if (transitions_.empty()) return;
  while (!for_actor_.empty() && for_actor_.front() < transitions_.front()) for_actor_.pop_front();
  rows_.EvictBefore(transitions_.front());
}

void ReplayBuffer::SelectForActor(std::function<bool(const ConstRow&)> trains_actor) {
  trains_actor_ = std::move(trains_actor);
  for_actor_.clear();
  for (const std::uint64_t row : transitions_) {
    if (trains_actor_(rows_.At(row))) for_actor_.push_back(row);
  }
}

double ReplayBuffer::actor_share() const {
  return transitions_.empty() ? 0 : static_cast<double>(for_actor_.size()) / static_cast<double>(transitions_.size());
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

namespace {

void Clear(const RowLayout& layout, std::size_t count, bool per_request, TransitionBatch& batch) {
  const std::size_t items = per_request ? 1 : layout.max_items, width = layout.shared + layout.item, action = layout.action;
  batch.batch = count;
  batch.items = items;
  for (auto [values, size] : {std::pair(&batch.state, items * width), {&batch.next_state, items * width},
                              {&batch.action, items * action}, {&batch.baseline, items * action},
                              {&batch.next_baseline, items * action}, {&batch.mask, items}, {&batch.next_mask, items},
                              {&batch.reward, kRewardGroups * items}, {&batch.terminated, std::size_t{1}},
                              {&batch.trains_actor, std::size_t{1}}, {&batch.log_density, std::size_t{1}}, {&batch.box, std::size_t{2}}, {&batch.next_box, std::size_t{2}}})
    values->assign(count * size, 0.0F);
  batch.weight.assign(count, 1.0F);
}

}  // namespace

void ReplayBuffer::FillState(const ConstRow& row, std::size_t b, bool per_request, const Normaliser& normaliser,
                             std::vector<float>& states, std::vector<float>& baselines, std::vector<float>& mask,
                             std::vector<float>& boxes) const {
  const RowLayout& layout = rows_.layout();
  const std::size_t items = per_request ? 1 : layout.max_items, width = layout.shared + layout.item;
  float* const state = &states[b * items * width];
  if (per_request) {
    std::copy_n(row.shared, layout.shared, state);
    normaliser.Apply({state, layout.shared}, 0);
  } else {
    NormalisedStates(layout, row, normaliser, state);
  }
  std::copy_n(row.baseline, items * layout.action, &baselines[b * items * layout.action]);
  std::fill_n(&mask[b * items], std::min<std::size_t>(items, row.header->items), 1.0F);
  boxes[2 * b] = row.header->box_lower;
  boxes[2 * b + 1] = row.header->box_upper;
}

void ReplayBuffer::Fill(std::uint64_t number, std::size_t b, bool per_request, const Normaliser& normaliser,
                        const RewardSpec& rewards, TransitionBatch& batch) const {
  const RowLayout& layout = rows_.layout();
  const std::size_t items = batch.items;
  const ConstRow row = rows_.At(number);
  FillState(row, b, per_request, normaliser, batch.state, batch.baseline, batch.mask, batch.box);
  std::copy_n(row.executed, items * layout.action, &batch.action[b * items * layout.action]);
  for (std::uint32_t j = 0; j < row.header->items; ++j) {
    const auto groups = rewards.Of(row.RewardsOf(j));
    for (std::size_t g = 0; g < kRewardGroups; ++g)
      batch.reward[(g * batch.batch + b) * items + (per_request ? 0 : j)] += static_cast<float>(groups[g]);
  }
  batch.log_density[b] = static_cast<float>(row.header->log_density);
  batch.terminated[b] = row.is(kTerminated) ? 1.0F : 0.0F;
  if (row.is(kTerminated)) return;
  FillState(rows_.At(number + 1), b, per_request, normaliser, batch.next_state, batch.next_baseline, batch.next_mask, batch.next_box);
}

void ReplayBuffer::Sample(const Sampling& sampling, const Normaliser& normaliser, const RewardSpec& rewards,
                          TransitionBatch& batch) const {
  FUSELINE_CHECK(!transitions_.empty());
  Clear(rows_.layout(), sampling.count, sampling.per_request, batch);
  Random random(sampling.seed, "replay", sampling.step);
  for (std::size_t b = 0; b < sampling.count; ++b)
    Fill(transitions_[random.NextBelow(transitions_.size())], b, sampling.per_request, normaliser, rewards, batch);
}

void ReplayBuffer::SampleForActor(const Sampling& sampling, const Normaliser& normaliser, const RewardSpec& rewards,
                                  TransitionBatch& batch) const {
  const std::size_t count = for_actor_.empty() ? 0 : sampling.count;
  Clear(rows_.layout(), count, sampling.per_request, batch);
  Random random(sampling.seed, "replay.actor", sampling.step);
  for (std::size_t b = 0; b < count; ++b)
    Fill(for_actor_[random.NextBelow(for_actor_.size())], b, sampling.per_request, normaliser, rewards, batch);
  batch.trains_actor.assign(count, 1.0F);
}

}  // namespace fuseline
