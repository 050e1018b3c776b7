#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fuseline/core/random.h"
#include "session_events.h"

namespace fuseline::test {

// Few users, ids, requests and instants, so that equal times, resends, joins, cuts and bridges all happen often.
struct RandomStream {
  SessionShape shape;
  std::vector<Record> records;
  ByteArena bytes;
};

inline RandomStream MakeRandomStream(std::uint64_t seed, int max_records = 120) {
  Random random(seed, "session stream", 0);
  const auto below = [&](std::int64_t n) { return static_cast<std::int64_t>(random.NextBelow(static_cast<std::uint64_t>(n))); };
  RandomStream stream;
  const std::int64_t cuts[] = {0, 0, 7, 40, 100};
  stream.shape = {.gap_ms = below(12), .lateness_ms = below(25), .cut_every_ms = cuts[below(5)], .max_events = 1 + below(12)};
  const std::int64_t users = 1 + below(4);
  const std::int64_t disorder_ms = 1 + below(40);
  const std::int64_t pace = 1 + below(8);
  std::int64_t now_ms = 0;
  std::int64_t offset = below(3);
  std::vector<v1::Event> sent;
  for (std::int64_t i = 0, n = below(max_records); i < n; ++i) {
    now_ms += below(4) == 0 ? below(pace * 8) : below(pace);
    const std::int64_t time_ms = std::max<std::int64_t>(0, now_ms - below(disorder_ms));
    const std::string user = "u" + std::to_string(below(users));
    const std::string id = "e" + std::to_string(i);
    const std::string request = "r" + std::to_string(below(8));
    const std::string item = "i" + std::to_string(below(3));
    RecordFate fate = RecordFate::kEvent;
    v1::Event event;
    switch (below(12)) {
      case 0: fate = below(2) == 0 ? RecordFate::kMalformed : RecordFate::kQuarantined; break;
      case 1: event = TickEvent(now_ms + below(30), offset - 1 - below(2)); break;
      case 2: if (!sent.empty()) { event = sent[static_cast<std::size_t>(below(static_cast<std::int64_t>(sent.size())))]; break; } [[fallthrough]];
      case 3: if (!sent.empty()) {  // An id again, at another time.
          event = FeedbackEvent(user, time_ms, sent.back().event_id(), request, item); break; } [[fallthrough]];
      case 4: case 5: case 6: event = ExposureEvent(user, time_ms, id, request, {item, "i" + std::to_string(below(4))}); break;
      default:
        event = FeedbackEvent(user, time_ms, id, request, item, static_cast<v1::Feedback::Kind>(below(14)), below(9));
    }
    const bool is_event = fate == RecordFate::kEvent;
    if (is_event && !event.has_control()) sent.push_back(event);
    stream.records.push_back(is_event ? RecordOf(offset, event, stream.bytes) : Record{.offset = offset, .fate = fate});
    offset += 1 + (below(10) == 0 ? below(3) : 0);  // Holes, as compaction leaves them.
  }
  return stream;
}

}  // namespace fuseline::test
