#include "scorer/progressive_window.h"

#include <algorithm>
#include <cmath>

#include "fuseline/core/check.h"

namespace fuseline {
namespace {

constexpr double kProbabilityMin = 1e-7;  // What a score of 0 or 1 is taken for.
constexpr double kBinsPerUnit = 64;

}  // namespace

std::size_t ProgressiveWindow::BinOf(double score) {
  const double place = std::log(score / (1 - score)) * kBinsPerUnit + static_cast<double>(kBins) / 2;
  return static_cast<std::size_t>(std::clamp(place, 0.0, static_cast<double>(kBins - 1)));
}

void ProgressiveWindow::Add(std::span<const float> labels, std::span<const float> scores) {
  FUSELINE_CHECK(labels.size() == scores.size() && labels.size() % tasks_.size() == 0);
  impressions_ += labels.size() / tasks_.size();
  for (std::size_t i = 0; i < labels.size(); ++i) {
    Task& task = tasks_[i % tasks_.size()];
    const double outcome = labels[i], score = std::isfinite(scores[i]) ? scores[i] : 1 - outcome;  // What is no number is wrong.
    const double p = std::clamp(score, kProbabilityMin, 1 - kProbabilityMin);
    task.loss -= outcome * std::log(p) + (1 - outcome) * std::log1p(-p);
    const std::size_t bin = BinOf(p);
    task.positives[bin] += outcome;
    task.negatives[bin] += 1 - outcome;
  }
}

void ProgressiveWindow::Clear() {
  impressions_ = 0;
  for (Task& task : tasks_) task = Task();
}

double ProgressiveWindow::LogLoss(std::size_t task) const {
  return impressions_ == 0 ? 0 : tasks_[task].loss / static_cast<double>(impressions_);
}

double ProgressiveWindow::Auc(std::size_t task) const {
  const Task& counted = tasks_[task];
  double positives = 0, negatives = 0, in_order = 0;
  for (std::size_t bin = 0; bin < kBins; ++bin) {
    in_order += counted.positives[bin] * (negatives + counted.negatives[bin] / 2);
    positives += counted.positives[bin];
    negatives += counted.negatives[bin];
  }
  return positives == 0 || negatives == 0 ? -1 : in_order / (positives * negatives);
}

v1::ScorerWindow ProgressiveWindow::Save() const {
  v1::ScorerWindow state;
  state.set_impressions(impressions_);
  for (const Task& task : tasks_) {
    v1::ScorerTaskWindow& saved = *state.add_tasks();
    saved.set_loss(task.loss);
    if (impressions_ == 0) continue;
    saved.mutable_positives()->Add(task.positives.begin(), task.positives.end());
    saved.mutable_negatives()->Add(task.negatives.begin(), task.negatives.end());
  }
  return state;
}

Status ProgressiveWindow::Restore(const v1::ScorerWindow& state) {
  const int bins = state.impressions() == 0 ? 0 : static_cast<int>(kBins);
  const bool sound = static_cast<std::size_t>(state.tasks_size()) == tasks_.size() && std::ranges::all_of(state.tasks(), [&](const auto& task) {
    return task.positives_size() == bins && task.negatives_size() == bins;
  });
  if (!sound) return ErrorStatus(Code::kCorrupt, "the scorer's progressive figures are of another size");
  Clear();
  impressions_ = state.impressions();
  for (std::size_t k = 0; k < tasks_.size(); ++k) {
    const v1::ScorerTaskWindow& saved = state.tasks(static_cast<int>(k));
    tasks_[k].loss = saved.loss();
    std::ranges::copy(saved.positives(), tasks_[k].positives.begin());
    std::ranges::copy(saved.negatives(), tasks_[k].negatives.begin());
  }
  return OkStatus();
}

}  // namespace fuseline
