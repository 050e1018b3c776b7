#include "replay_buffer.h"

#include <algorithm>
#include <cmath>

#include "fuseline/core/check.h"

namespace fuseline {
namespace {

constexpr double kPriorityFloor = 1e-3;  // A transition that is predicted perfectly is still drawn now and then.

}  // namespace

ReplayBuffer::ReplayBuffer(RowLayout layout, std::size_t capacity, SamplingRule rule)
    : rows_(layout, "replay"), capacity_(capacity), rule_(rule) {
  if (rule_.prioritised) tree_.emplace(capacity);
}

void ReplayBuffer::Index() {
  for (std::uint64_t row = std::max(indexed_end_, rows_.first_row()); row < rows_.end_row(); ++row) {
    if (rows_.At(row).is(kTransition)) Push(row);
  }
  indexed_end_ = rows_.end_row();
  if (transitions_.empty()) return;
  while (!fresh_.empty() && fresh_.front() < transitions_.front()) fresh_.pop_front();
  while (!for_actor_.empty() && for_actor_.front() < transitions_.front()) for_actor_.pop_front();
  rows_.EvictBefore(transitions_.front());
}

void ReplayBuffer::Push(std::uint64_t row) {
  if (transitions_.size() == capacity_) Pop();
  const TransitionUse use = use_(rows_.At(row));
  transitions_.push_back(row);
  if (use.weight > 0) fresh_.push_back(row);
  if (use.actor && use.weight > 0) for_actor_.push_back(row);
  if (!tree_) return;
  priorities_.push_back(largest_);
  tree_->Set(SlotOf(transitions_.size() - 1), use.weight > 0 ? largest_ : 0);
}

void ReplayBuffer::Pop() {
  if (tree_) {
    tree_->Set(SlotOf(0), 0);
    priorities_.pop_front();
  }
  transitions_.pop_front();
  ++first_;
}

void ReplayBuffer::Select(std::function<TransitionUse(const ConstRow&)> use) {
  use_ = std::move(use);
  fresh_.clear();
  for_actor_.clear();
  for (std::size_t i = 0; i < transitions_.size(); ++i) {
    const TransitionUse now = use_(rows_.At(transitions_[i]));
    if (now.weight > 0) fresh_.push_back(transitions_[i]);
    if (now.actor && now.weight > 0) for_actor_.push_back(transitions_[i]);
    if (tree_) tree_->Set(SlotOf(i), now.weight > 0 ? priorities_[i] : 0);
  }
}

double ReplayBuffer::stale_share() const {
  const auto stale = std::ranges::count_if(transitions_, [&](std::uint64_t row) { return use_(rows_.At(row)).weight < 1; });
  return transitions_.empty() ? 0 : static_cast<double>(stale) / static_cast<double>(transitions_.size());
}

ReplayBuffer::PriorityList ReplayBuffer::Priorities() const { return {first_, {priorities_.begin(), priorities_.end()}, largest_}; }

Status ReplayBuffer::RestorePriorities(PriorityList list) {
  if (!tree_) return OkStatus();
  if (list.priorities.size() < transitions_.size())
    return ErrorStatus(Code::kCorrupt, "priorities of", list.priorities.size(), "transitions for", transitions_.size());
  // The oldest are gone where the buffer has become smaller.
  const std::size_t gone = list.priorities.size() - transitions_.size();
  list.first += gone;
  list.priorities.erase(list.priorities.begin(), list.priorities.begin() + static_cast<std::ptrdiff_t>(gone));
  tree_.emplace(capacity_);
  first_ = list.first;
  largest_ = list.largest;
  priorities_.assign(list.priorities.begin(), list.priorities.end());
  for (std::size_t i = 0; i < transitions_.size(); ++i)
    tree_->Set(SlotOf(i), use_(rows_.At(transitions_[i])).weight > 0 ? priorities_[i] : 0);
  return OkStatus();
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

// Gives a batch its shape. Fill writes every value of the large arrays, also the zeros: memory is the cost here, so nothing is
// written twice.
void Shape(const RowLayout& layout, std::size_t count, bool per_request, TransitionBatch& batch) {
  const std::size_t items = per_request ? 1 : layout.max_items, width = layout.shared + layout.item, action = layout.action;
  batch.batch = count;
  batch.items = items;
  for (auto [values, size] : {std::pair(&batch.state, items * width), {&batch.next_state, items * width},
                              {&batch.action, items * action}, {&batch.baseline, items * action},
                              {&batch.next_baseline, items * action}, {&batch.mask, items}, {&batch.next_mask, items},
                              {&batch.terminated, std::size_t{1}},
                              {&batch.box, std::size_t{2}}, {&batch.next_box, std::size_t{2}}})
    values->resize(count * size);
  batch.scores.resize(per_request ? 0 : count * items * layout.tasks);
  batch.reward.assign(count * kRewardGroups * items, 0.0F);
  batch.trains_actor.assign(count, 0.0F);
  batch.weight.assign(count, 1.0F);
}

}  // namespace

void ReplayBuffer::FillState(const ConstRow& row, std::size_t b, bool per_request, const Normaliser& normaliser,
                             std::vector<float>& states, std::vector<float>& baselines, std::vector<float>& mask,
                             std::vector<float>& boxes) const {
  const RowLayout& layout = rows_.layout();
  const std::size_t items = per_request ? 1 : layout.max_items, width = layout.shared + layout.item;
  const std::size_t there = std::min<std::size_t>(items, row.header->items);
  float* const state = &states[b * items * width];
  if (per_request) {
    std::copy_n(row.shared, layout.shared, state);
    normaliser.Apply({state, layout.shared}, 0);
  } else {
    NormalisedStates(layout, row, normaliser, state);
  }
  std::fill(state + (per_request ? layout.shared : there * width), state + items * width, 0.0F);
  std::copy_n(row.baseline, items * layout.action, &baselines[b * items * layout.action]);
  std::fill_n(std::fill_n(mask.data() + b * items, there, 1.0F), items - there, 0.0F);
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
  const std::size_t tasks = per_request ? 0 : layout.tasks;
  float* scores = batch.scores.data() + b * items * tasks;
  for (std::size_t j = 0; j < row.header->items; ++j) scores = std::copy_n(row.items + (j + 1) * layout.item - tasks, tasks, scores);
  std::fill(scores, batch.scores.data() + (b + 1) * items * tasks, 0.0F);
  for (std::uint32_t j = 0; j < row.header->items; ++j) {
    const auto groups = rewards.Of(row.RewardsOf(j));
    for (std::size_t g = 0; g < kRewardGroups; ++g)
      batch.reward[(g * batch.batch + b) * items + (per_request ? 0 : j)] += static_cast<float>(groups[g]);
  }
  batch.terminated[b] = row.is(kTerminated) ? 1.0F : 0.0F;
  if (!row.is(kTerminated)) {
    FillState(rows_.At(number + 1), b, per_request, normaliser, batch.next_state, batch.next_baseline, batch.next_mask, batch.next_box);
    return;
  }
  for (std::vector<float>* nothing : {&batch.next_state, &batch.next_baseline, &batch.next_mask, &batch.next_box}) {
    const std::size_t part = nothing->size() / batch.batch;
    std::fill_n(nothing->data() + b * part, part, 0.0F);
  }
}

// Rows lie anywhere in a buffer much larger than any cache: what comes next is fetched while one is written.
void ReplayBuffer::FillAll(std::span<const std::uint64_t> rows, bool per_request, const Normaliser& normaliser, const RewardSpec& rewards,
                           TransitionBatch& batch) const {
  constexpr std::size_t kAhead = 3;
  for (std::size_t b = 0; b < rows.size(); ++b) {
    if (b + kAhead < rows.size()) rows_.Prefetch(rows[b + kAhead]);
    Fill(rows[b], b, per_request, normaliser, rewards, batch);
  }
}

// Returns the row, and sets the weight that makes up for how likely it was, not yet over the batch's largest.
std::uint64_t ReplayBuffer::DrawFresh(Random& random, std::size_t b, TransitionBatch& batch) {
  if (!tree_) return fresh_[random.NextBelow(fresh_.size())];
  const std::size_t slot = tree_->Find(random.NextUniform() * tree_->total());
  const double likely = static_cast<double>(tree_->At(slot)) / tree_->total() * static_cast<double>(fresh_.size());
  batch.weight[b] = static_cast<float>(std::pow(likely, -rule_.correction));
  drawn_.push_back((slot + capacity_ - first_ % capacity_) % capacity_);
  return transitions_[drawn_.back()];
}

void ReplayBuffer::Sample(const Sampling& sampling, const Normaliser& normaliser, const RewardSpec& rewards,
                          TransitionBatch& batch) {
  FUSELINE_CHECK(!fresh_.empty());
  Shape(rows_.layout(), sampling.count, sampling.per_request, batch);
  drawn_.clear();
  Random random(sampling.seed, "replay", sampling.step);
  std::vector<std::uint64_t> rows(sampling.count);
  for (std::size_t b = 0; b < sampling.count; ++b) rows[b] = DrawFresh(random, b, batch);
  FillAll(rows, sampling.per_request, normaliser, rewards, batch);
  const float largest = *std::ranges::max_element(batch.weight);
  for (std::size_t b = 0; b < sampling.count; ++b) batch.weight[b] *= use_(rows_.At(rows[b])).weight / largest;
}

void ReplayBuffer::Learned(std::span<const float> td_error) {
  if (!tree_ || td_error.size() != drawn_.size()) return;
  for (std::size_t b = 0; b < drawn_.size(); ++b) {
    if (!std::isfinite(td_error[b])) continue;
    const auto priority = static_cast<float>(std::pow(std::abs(td_error[b]) + kPriorityFloor, rule_.exponent));
    largest_ = std::max(largest_, priority);
    priorities_[drawn_[b]] = priority;
    tree_->Set(SlotOf(drawn_[b]), priority);
  }
}

void ReplayBuffer::SampleForActor(const Sampling& sampling, const Normaliser& normaliser, const RewardSpec& rewards,
                                  TransitionBatch& batch) const {
  const std::size_t count = for_actor_.empty() ? 0 : sampling.count;
  Shape(rows_.layout(), count, sampling.per_request, batch);
  Random random(sampling.seed, "replay.actor", sampling.step);
  std::vector<std::uint64_t> rows(count);
  for (std::uint64_t& row : rows) row = for_actor_[random.NextBelow(for_actor_.size())];
  FillAll(rows, sampling.per_request, normaliser, rewards, batch);
  for (std::size_t b = 0; b < count; ++b) batch.weight[b] = use_(rows_.At(rows[b])).weight;
  batch.trains_actor.assign(count, 1.0F);
}

}  // namespace fuseline
