#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/datasets/kuairand_impressions.h"
#include "fuseline/learner/scorer.h"

namespace fuseline {

// How long the sessions of some rows are, in impressions.
struct SessionLengths {
  std::uint64_t sessions = 0, impressions = 0, longest = 0;
  std::array<std::uint64_t, 5> shares{};  // Sessions of 1, 2, 3 to 5, 6 to 10 and more impressions.
};
std::string LengthsText(const SessionLengths& lengths);
SessionLengths LengthsOf(const ScorerRows& rows, std::size_t begin, std::size_t end);

// A log as a scorer learns from it and is judged by (of another log than KuaiRand's: scorer_log.h). Rows [test_begin, rows.size()) are of the log's last
// `test_days` local days; [0, split.validation_end) of all days before, as far as their outcome was known when the
// test days began. A session is a user's local day: with a gap of 6 h most would have one impression.
struct ScorerData {
  ScorerRows rows;
  ScorerSplit split;
  std::size_t test_begin = 0;
  std::vector<float> rates, frozen_rates;  // Of the test rows [n, tasks]: smoothed rates, going on and of the training days alone.
  SessionLengths train_sessions, test_sessions;
  std::int64_t train_days = 0;                           // Local days that have a row to learn from.
  std::uint64_t duplicate_rows = 0, known_too_late = 0;  // Rows left out,
  ScorerImpressions::LeftOut left_out;                   // and other reasons.
};

// Which of KuaiRand's tasks each of scorer.tasks is. Errors: kInvalidInput for another.
Result<std::vector<std::size_t>> KuaiRandTasksOf(const std::vector<std::string>& tasks);

// Errors: those of the reader; kInvalidInput when the log has too few days or rows, or for a task that is not
// KuaiRand's.
Result<ScorerData> ReadScorerData(const KuaiRandFiles& files, int test_days, const v1::Config& config,
                                  const ScorerFields& fields, const ProgressFunction& progress);

// A trained scorer as `import kuairand` asks it; it lives as long as what is returned. Errors: kNotFound,
// kCorrupt; kInvalidInput for a scorer of another schema.
Result<KuaiRandScorer> OpenKuaiRandScorer(const std::filesystem::path& folder);

}  // namespace fuseline
