#include "kuairand_scores.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <queue>
#include <unordered_map>

namespace fuseline {
namespace {

constexpr std::uint64_t kRowsPerProgress = 10'000;
constexpr double kWatchMaxS = 600;
constexpr double kRateFloor = 1e-6;

enum Witness { kByUser, kByItem, kByTab, kWitnesses };
// Impressions that the overall rate is worth beside a witness's own.
constexpr std::array<double, kWitnesses> kShrinkage = {10, 20, 100};
// Before anything is known: one success in ten impressions, and ten seconds of watching each. No figure of the log.
constexpr double kPriorImpressions = 10;
constexpr double kPriorSuccesses = 1;
constexpr double kPriorWatchS = 100;

struct Tally {
  double impressions = 0;
  std::array<double, kKuaiRandTasks> sums{};

  void Add(const Tally& one) {
    impressions += one.impressions;
    for (std::size_t t = 0; t < sums.size(); ++t) sums[t] += one.sums[t];
  }
};

std::array<double, kKuaiRandTasks> WhatCame(const KuaiRandRow& row) {
  std::array<double, kKuaiRandTasks> sums{};
  sums[kClick] = row.click;
  sums[kLongView] = row.long_view;
  sums[kLike] = row.like;
  sums[kComment] = row.comment;
  sums[kForward] = row.forward;
  sums[kWatch] = std::min(static_cast<double>(row.play_ms) / 1000, kWatchMaxS);
  return sums;
}

// Where a task's rates add up: log-odds of probabilities, logarithm of seconds.
double ToScale(std::size_t task, double rate) {
  if (task == kWatch) return std::log(std::max(rate, kRateFloor));
  const double p = std::clamp(rate, kRateFloor, 1 - kRateFloor);
  return std::log(p / (1 - p));
}

float FromScale(std::size_t task, double value) {
  if (task == kWatch) return static_cast<float>(std::min(std::exp(value), kWatchMaxS));
  return static_cast<float>(1 / (1 + std::exp(-value)));
}

class Past {
 public:
  Past() {
    overall_.impressions = kPriorImpressions;
    overall_.sums.fill(kPriorSuccesses);
    overall_.sums[kWatch] = kPriorWatchS;
  }

  void Learn(const KuaiRandRow& row) {
    const Tally tally{1, WhatCame(row)};
    overall_.Add(tally);
    for (std::size_t w = 0; w < kWitnesses; ++w) witnesses_[w][KeyOf(row, w)].Add(tally);
  }

  KuaiRandScores Score(const KuaiRandRow& row) const {
    std::array<const Tally*, kWitnesses> known{};
    for (std::size_t w = 0; w < kWitnesses; ++w) {
      const auto found = witnesses_[w].find(KeyOf(row, w));
      known[w] = found == witnesses_[w].end() ? nullptr : &found->second;
    }
    KuaiRandScores scores;
    for (std::size_t t = 0; t < kKuaiRandTasks; ++t) {
      const double rate = overall_.sums[t] / overall_.impressions;
      const double base = ToScale(t, rate);
      double value = base;
      for (std::size_t w = 0; w < kWitnesses; ++w) {
        if (known[w] == nullptr) continue;
        const double shrunk =
            (known[w]->sums[t] + kShrinkage[w] * rate) / (known[w]->impressions + kShrinkage[w]);
        value += ToScale(t, shrunk) - base;
      }
      scores[t] = FromScale(t, value);
    }
    return scores;
  }

 private:
  static std::uint64_t KeyOf(const KuaiRandRow& row, std::size_t witness) {
    return witness == kByUser ? row.user_id : witness == kByItem ? row.video_id : row.tab;
  }

  Tally overall_;
  std::array<std::unordered_map<std::uint64_t, Tally>, kWitnesses> witnesses_;
};

}  // namespace

KuaiRandScores OutcomesOf(const KuaiRandRow& row) {
  KuaiRandScores outcomes;
  std::ranges::transform(WhatCame(row), outcomes.begin(), [](double value) { return static_cast<float>(value); });
  return outcomes;
}

std::vector<KuaiRandScores> ScoreFromThePast(const std::vector<KuaiRandRow>& rows, const ProgressFunction& progress,
                                             std::int64_t until_ms) {
  // Rows shown already whose feedback may not be known yet, the earliest to be complete on top.
  using Due = std::pair<std::int64_t, std::size_t>;
  std::priority_queue<Due, std::vector<Due>, std::greater<>> watching;
  Past past;
  std::vector<KuaiRandScores> scores;
  scores.reserve(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    while (!watching.empty() && watching.top().first < rows[i].time_ms) {
      past.Learn(rows[watching.top().second]);
      watching.pop();
    }
    scores.push_back(past.Score(rows[i]));
    if (!rows[i].repeats && rows[i].feedback_ms() < until_ms) watching.emplace(rows[i].feedback_ms(), i);
    if (progress && (i + 1) % kRowsPerProgress == 0) progress({"scoring", i + 1, rows.size()});
  }
  return scores;
}

double RocArea(std::vector<std::pair<float, bool>> scored) {
  std::sort(scored.begin(), scored.end());
  double positives = 0, rank_sum = 0;
  for (std::size_t begin = 0, end = 0; begin < scored.size(); begin = end) {
    double tied_positives = 0;
    for (; end < scored.size() && scored[end].first == scored[begin].first; ++end) tied_positives += scored[end].second;
    rank_sum += tied_positives * (static_cast<double>(begin + 1 + end) / 2);
    positives += tied_positives;
  }
  const double negatives = static_cast<double>(scored.size()) - positives;
  if (positives == 0 || negatives == 0) return -1;
  return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives);
}

}  // namespace fuseline
