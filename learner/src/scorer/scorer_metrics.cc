#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <unordered_map>

#include "fuseline/core/check.h"
#include "fuseline/learner/scorer.h"

namespace fuseline {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();
constexpr double kProbabilityMin = 1e-7;  // What a score of 0 or 1 is taken for, in a logarithm.

double LogLoss(double score, double outcome) {
  const double p = std::clamp(score, kProbabilityMin, 1 - kProbabilityMin);
  return -outcome * std::log(p) - (1 - outcome) * std::log1p(-p);
}

struct Scored {
  float score, outcome;
};

// How many were counted with a number below n, and up to n: a Fenwick tree.
class Tally {
 public:
  explicit Tally(std::size_t numbers) : sums_(numbers + 1, 0) {}
  void Count(std::size_t number) {
    ++total_;
    for (std::size_t i = number + 1; i < sums_.size(); i += i & (~i + 1)) ++sums_[i];
  }
  std::uint64_t Below(std::size_t number) const {
    std::uint64_t sum = 0;
    for (std::size_t i = number; i > 0; i -= i & (~i + 1)) sum += sums_[i];
    return sum;
  }
  std::uint64_t total() const { return total_; }

 private:
  std::vector<std::uint64_t> sums_;
  std::uint64_t total_ = 0;
};

// Of the pairs whose outcomes differ, the share whose scores stand in the same order; equal scores count one half.
double AreaOf(std::vector<Scored> all) {
  std::vector<float> outcomes;
  for (const Scored& one : all) outcomes.push_back(one.outcome);
  std::ranges::sort(outcomes);
  outcomes.erase(std::ranges::unique(outcomes).begin(), outcomes.end());
  const auto number = [&](const Scored& one) { return static_cast<std::size_t>(std::ranges::lower_bound(outcomes, one.outcome) - outcomes.begin()); };
  std::ranges::sort(all, {}, &Scored::score);
  Tally lower(outcomes.size());  // Of those with a lower score.
  double in_order = 0, pairs = 0;
  for (std::size_t begin = 0, end = 0; begin < all.size(); begin = end) {
    std::map<std::size_t, double> tied;
    for (; end < all.size() && all[end].score == all[begin].score; ++end) ++tied[number(all[end])];
    double of_equal_score = 0;
    for (const auto& [outcome, count] : tied) {
      const auto smaller = static_cast<double>(lower.Below(outcome)), not_larger = static_cast<double>(lower.Below(outcome + 1));
      in_order += count * (smaller + of_equal_score / 2);
      pairs += count * (smaller + static_cast<double>(lower.total()) - not_larger + of_equal_score);
      of_equal_score += count;
    }
    for (; begin < end; ++begin) lower.Count(number(all[begin]));
  }
  return pairs == 0 ? -1 : in_order / pairs;
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
    std::vector<Scored> scored;
    double loss = 0;
    for (std::size_t row = begin; row < end; ++row) {
      const float outcome = rows.labels[row * rows.tasks + k];
      const float score = scores[(row - begin) * rows.tasks + k];
      const double one = LogLoss(score, outcome);
      const auto [session, is_new] = sessions.try_emplace(rows.session[row]);
      if (is_new) order.push_back(rows.session[row]);
      session->second.loss += one;
      session->second.count += 1;
      loss += one;
      scored.push_back({score, outcome});
      figures[k].positives += outcome > 0 ? 1 : 0;
    }
    double of_sessions = 0;
    for (const std::uint32_t session : order) of_sessions += sessions[session].loss / sessions[session].count;
    const bool finite = std::ranges::all_of(scored, [](const Scored& one) { return std::isfinite(one.score); });
    figures[k].auc = finite ? AreaOf(std::move(scored)) : -1;
    figures[k].log_loss = finite ? loss / static_cast<double>(end - begin) : kNever;
    figures[k].session_log_loss = finite ? of_sessions / static_cast<double>(order.size()) : kNever;
  }
  return figures;
}

}  // namespace fuseline
