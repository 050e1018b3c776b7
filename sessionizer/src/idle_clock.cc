#include "fuseline/sessionizer/idle_clock.h"

#include <algorithm>

namespace fuseline {
namespace {

constexpr std::int64_t kUsPerMs = 1'000;

std::optional<std::int64_t> SmallestStreamTime(const std::map<std::int32_t, PartitionPulse>& owned) {
  std::optional<std::int64_t> smallest;
  for (const auto& [partition, pulse] : owned) {
    if (pulse.stream_time_ms == kBeforeTimeMs) continue;
    smallest = std::min(smallest.value_or(pulse.stream_time_ms), pulse.stream_time_ms);
  }
  return smallest;
}

}  // namespace

std::vector<DueTick> IdleClock::Look(const std::map<std::int32_t, PartitionPulse>& owned, std::int64_t monotonic_us) {
  std::erase_if(silences_, [&](const auto& entry) { return !owned.contains(entry.first); });
  const std::int64_t timeout_us = idle_timeout_ms_ * kUsPerMs;
  const std::optional<std::int64_t> first_time_ms = SmallestStreamTime(owned);
  std::vector<DueTick> due;
  for (const auto& [partition, pulse] : owned) {
    const auto [entry, is_new] = silences_.try_emplace(partition);
    Silence& silence = entry->second;
    if (is_new) silence = {pulse.events, pulse.stream_time_ms, monotonic_us, std::nullopt, 0};
    Follow(pulse, monotonic_us, &silence);

    const std::int64_t due_us = silence.said_us.value_or(silence.since_us) + timeout_us;
    const bool has_time = pulse.stream_time_ms != kBeforeTimeMs;
    if (!pulse.caught_up || monotonic_us < due_us || !(has_time || first_time_ms)) continue;
    silence.said_us = monotonic_us;
    silence.said_time_ms = has_time ? pulse.stream_time_ms + idle_timeout_ms_ : *first_time_ms;
    due.push_back({partition, pulse.previous_offset, silence.said_time_ms});
  }
  return due;
}

// Any event begins the silence anew, and so does a time that somebody else has moved. Our own tick carries it on: the silence that
// it spoke for is spent, and what is left of it, one timeout at most, is there for the next.
void IdleClock::Follow(const PartitionPulse& pulse, std::int64_t monotonic_us, Silence* silence) const {
  const bool had_events = pulse.events != silence->events;
  if (!had_events && pulse.stream_time_ms == silence->stream_time_ms) return;
  const bool was_ours = !had_events && silence->said_us && pulse.stream_time_ms == silence->said_time_ms;
  const std::int64_t timeout_us = idle_timeout_ms_ * kUsPerMs;
  const std::int64_t since_us = was_ours ? std::max(silence->since_us, monotonic_us - 2 * timeout_us) + timeout_us : monotonic_us;
  *silence = {pulse.events, pulse.stream_time_ms, since_us, std::nullopt, 0};
}

}  // namespace fuseline
