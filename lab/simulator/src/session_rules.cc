#include "session_rules.h"

#include <algorithm>
#include <cmath>

namespace fuseline {

double FirstXmtf(const v1::XmtfSessions& settings, double play_s) {
  return std::max(settings.first_least(), play_s / settings.first_seconds());
}

bool AfterXmtf(const v1::XmtfSessions& settings, double mean_reward, Mood* mood) {
  mood->satisfaction = settings.keep() * mood->satisfaction + (1 - settings.keep()) * mean_reward;
  ++mood->depth;
  return mood->satisfaction < settings.exit_below() || mood->depth >= static_cast<std::uint64_t>(settings.requests_max());
}

bool AfterKuaisim(const v1::KuaisimSessions& settings, double mean_feedback, Mood* mood) {
  mood->satisfaction += std::clamp(mean_feedback - settings.expected(), -settings.expected(), 0.0);
  ++mood->depth;
  return mood->satisfaction < settings.exit_below();
}

std::int64_t DrawReturnMs(Random& random) {
  constexpr double kLeastMs = 45 * 60'000, kMeanMs = 5 * 3'600'000, kMostMs = 36 * 3'600'000;
  return static_cast<std::int64_t>(std::min(kLeastMs - kMeanMs * std::log(1 - random.NextUniform()), kMostMs));
}

}  // namespace fuseline
