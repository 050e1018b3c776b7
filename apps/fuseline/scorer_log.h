#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/learner/scorer.h"
#include "fuseline/v1/config.pb.h"
#include "scorer_data.h"

namespace fuseline {

// A finite log of events that a scorer is trained on and judged by: files, or a range of the events topic.
struct ScorerLog {
  std::vector<std::string> files;  // Empty: the topic kafka.events_topic,
  std::string from = "earliest";   // from there (earliest, offset:N, time:MS) to its present end.
  std::int64_t until_ms = std::numeric_limits<std::int64_t>::max();  // What was shown later is left out.
  double test_share = 0.2;         // Of the impressions, the last in time, to judge by.
  std::uint64_t impressions_max = 20'000'000;  // All of them are held in memory: of more, none is learned from.
};

// What is read, in words.
Result<std::string> DescribeScorerLog(const v1::Config& config, const ScorerLog& log);

// The log's impressions in order of time, labelled by what their sessions say (ScorerImpressions). A session is one, not a day; its
// outcomes are known when it closes. Impressions before the test whose outcome was not known when the test begins are left out. `rates`
// and `frozen_rates` are those of constant scores: each task's mean outcome, of all that is known, and of the training impressions.
// `stopped` ends the reading. Errors: those of the sources; kInvalidInput when the log has too few impressions,
// or too many; kUnavailable when stopped.
Result<ScorerData> ReadScorerLog(const v1::Config& config, const ScorerImpressions& impressions, const ScorerLog& log,
                                 const std::function<bool()>& stopped);

}  // namespace fuseline
