#include "feed_mood.h"

#include <algorithm>
#include <cmath>

namespace fuseline {
namespace {

constexpr double kHourMs = 3'600'000;

// Satisfaction: where a session starts, how much of it one request replaces, and what it does to leaving and coming back.
constexpr double kFirstMood = 0.2, kMoodCarriesOver = 0.3, kRequestWeighs = 0.4;
constexpr double kLeaveBase = 0.2, kLeaveFalls = 6;  // P(leave) = sigmoid(base - falls * satisfaction).
constexpr double kReturnMeanMs = 5.0 * kHourMs, kReturnFalls = 1.5;
constexpr std::int64_t kReturnLeastMs = 45 * 60'000;  // Beyond the default gap: a new session to the pipeline too.
constexpr std::int64_t kReturnMostMs = 36 * 3'600'000;

}  // namespace

Mood FirstFeedMood() { return {kFirstMood, 0}; }

NextVisit AfterFeedRequest(std::span<const Response> responses, Random& random, Mood* mood) {
  double pleased = 0;
  for (const Response& response : responses) pleased += response.satisfaction / static_cast<double>(responses.size());
  mood->satisfaction += kRequestWeighs * (pleased - mood->satisfaction);
  ++mood->depth;
  const double leave = 1 / (1 + std::exp(-(kLeaveBase - kLeaveFalls * mood->satisfaction)));
  NextVisit next;
  next.wait_ms = static_cast<std::int64_t>(random.NextUniform(1'000, 4'000));
  next.leaves = random.NextUniform() < leave;
  if (!next.leaves) return next;
  const double mean_ms = kReturnMeanMs * std::exp(-kReturnFalls * mood->satisfaction);
  const auto drawn_ms = static_cast<std::int64_t>(-mean_ms * std::log(1 - random.NextUniform()));
  next.wait_ms = std::min(kReturnLeastMs + drawn_ms, kReturnMostMs);
  *mood = {kFirstMood + kMoodCarriesOver * (mood->satisfaction - kFirstMood), 0};
  return next;
}

}  // namespace fuseline
