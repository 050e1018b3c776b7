#pragma once

#include <cstdint>
#include <string>

#include "fuseline/v1/trajectory.pb.h"

namespace fuseline::test {

// One record for the topic of events.
struct SoakRecord {
  std::string key, value;
  std::int64_t time_ms = 0;
};

// The `index`-th record of an endless stream, a function of (seed, index) alone, so that a soak can be taken up
// anywhere. Users come in waves and come back; times are out of order; all along some records are late, repeated,
// repeated under another time, feedback for nothing that was shown, or garbage: whenever something is killed, some of
// each are just behind and just ahead of it.
SoakRecord MakeSoakRecord(std::uint64_t seed, std::uint64_t index);

// A change of what shapes sessions, for each partition; versions count from 1.
SoakRecord MakeSoakRules(std::uint64_t version, std::uint64_t index);

// After all others: `second` false is an exposure that opens a session, true one that comes so late that all sessions
// close.
SoakRecord MakeSoakEnd(std::uint64_t index, bool second);

inline constexpr std::int64_t kSoakGapMs = 5'000;
inline constexpr std::int64_t kSoakLatenessMs = 2'000;

}  // namespace fuseline::test
