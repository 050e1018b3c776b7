#include <algorithm>
#include <iterator>

#include "evaluation.h"
#include "learner_impl.h"

namespace fuseline {

// Progressive validation: what is about to be learned from is judged first, so every session is held out once.
Status Learner::Impl::ScoreProgressively(std::uint64_t first_row) {
  if (counts.transitions_at_warmup() == 0) return OkStatus();  // Before it no normaliser is fixed, and nothing was learned.
  const RowStore& rows = replay.rows();
  const RowJudge judge(config, space, rows.layout());
  const std::size_t width = normaliser.mean.size();
  std::vector<float> states;
  std::vector<ConstRow> judged;
  for (std::uint64_t number = first_row; number < rows.end_row(); ++number) {
    const ConstRow row = rows.At(number);
    if (!row.is(kTransition)) continue;  // Only a next state.
    judged.push_back(row);
    states.resize(states.size() + row.header->items * width);
    NormalisedStates(rows.layout(), row, normaliser, &states[states.size() - row.header->items * width]);
  }
  if (judged.empty()) return OkStatus();
  FUSELINE_ASSIGN_OR_RETURN(const std::vector<float> actions, algorithm->Act(states));
  std::vector<float> static_actions;
  for (std::size_t n = 0; n < states.size() / width; ++n)
    std::ranges::copy(space.static_action().first(space.learned_width()), std::back_inserter(static_actions));

  const auto score = [&](const std::vector<float>& by) {
    std::vector<ScoredPair> pairs;
    std::size_t at = 0;
    for (const ConstRow& row : judged) {
      const std::size_t length = row.header->items * rows.layout().action;
      judge.AddPairs(row, std::span(by).subspan(at, length), pairs);
      at += length;
    }
    double weight = 0;
    for (const ScoredPair& pair : pairs) weight += pair.weight;
    return std::pair(JudgeRanking(std::move(pairs)).auc, weight);
  };
  const auto [policy, weight] = score(actions);
  const auto by_static = score(static_actions).first;
  if (!policy || !by_static) return OkStatus();
  counts.set_window_progressive_sessions(counts.window_progressive_sessions() + 1);
  counts.set_window_progressive_weight(counts.window_progressive_weight() + weight);
  counts.set_window_progressive_policy(counts.window_progressive_policy() + weight * *policy);
  counts.set_window_progressive_static(counts.window_progressive_static() + weight * *by_static);
  progressive_gauge.Set(ProgressiveGauc());
  progressive_static_gauge.Set(ProgressiveGaucStatic());
  return OkStatus();
}

double Learner::Impl::ProgressiveGauc() const {
  return counts.window_progressive_weight() > 0 ? counts.window_progressive_policy() / counts.window_progressive_weight() : 0;
}

double Learner::Impl::ProgressiveGaucStatic() const {
  return counts.window_progressive_weight() > 0 ? counts.window_progressive_static() / counts.window_progressive_weight() : 0;
}

}  // namespace fuseline
