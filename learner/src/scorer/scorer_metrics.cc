#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "fuseline/core/check.h"
#include "fuseline/learner/scorer.h"

namespace fuseline {
namespace {

constexpr double kProbabilityMin = 1e-7;  // What a score of 0 or 1 is taken for, in a logarithm.

double LogLoss(double score, bool positive) {
  const double p = std::clamp(score, kProbabilityMin, 1 - kProbabilityMin);
  return positive ? -std::log(p) : -std::log1p(-p);
}

double AreaOf(std::vector<std::pair<float, bool>> scored) {
  std::ranges::sort(scored);
  double positives = 0, rank_sum = 0;
  for (std::size_t begin = 0, end = 0; begin < scored.size(); begin = end) {
    double tied = 0;
    for (; end < scored.size() && scored[end].first == scored[begin].first; ++end) tied += scored[end].second ? 1 : 0;
    rank_sum += tied * (static_cast<double>(begin + 1 + end) / 2);
    positives += tied;
  }
  const double negatives = static_cast<double>(scored.size()) - positives;
  if (positives == 0 || negatives == 0) return -1;
  return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives);
}

}  // namespace

std::vector<TaskFigures> JudgeScores(const ScorerRows& rows, std::size_t begin, std::size_t end, std::span<const float> scores) {
  FUSELINE_CHECK(begin < end && scores.size() == (end - begin) * rows.tasks);
  std::vector<TaskFigures> figures(rows.tasks);
  for (std::size_t k = 0; k < rows.tasks; ++k) {
    struct Sum {
      double loss = 0, count = 0;
    };
    std::unordered_map<std::uint32_t, Sum> sessions;
    std::vector<std::uint32_t> order;  // Of their first rows, so that sums do not depend on a hash.
    std::vector<std::pair<float, bool>> scored;
    double loss = 0;
    for (std::size_t row = begin; row < end; ++row) {
      const bool positive = rows.labels[row * rows.tasks + k] > 0;
      const float score = scores[(row - begin) * rows.tasks + k];
      const double one = LogLoss(score, positive);
      const auto [session, is_new] = sessions.try_emplace(rows.session[row]);
      if (is_new) order.push_back(rows.session[row]);
      session->second.loss += one;
      session->second.count += 1;
      loss += one;
      scored.emplace_back(score, positive);
      figures[k].positives += positive ? 1 : 0;
    }
    double of_sessions = 0;
    for (const std::uint32_t session : order) of_sessions += sessions[session].loss / sessions[session].count;
    figures[k].auc = AreaOf(std::move(scored));
    figures[k].log_loss = loss / static_cast<double>(end - begin);
    figures[k].session_log_loss = of_sessions / static_cast<double>(order.size());
  }
  return figures;
}

}  // namespace fuseline
