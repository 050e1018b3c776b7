#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/sessionizer/session_window.h"

namespace fuseline {

// The bytes of the session store. Integers are LEB128 varints unless said otherwise, differences zigzag; a change of any
// of this needs a new kStoreFormat. Held by tests/sessionizer/session_codec_test.cc.
inline constexpr int kStoreFormat = 2;

// Open events in sequence: a journal segment, where each says whose it is, or a cold user's record, where nobody needs to.
//
//   [user length | user] | offset - that of the event before | time_ms - that of the event before
//   | flags (1 byte; bit 0: exposure, bit 1: in the session
//   of the event before it in any case) | id length | id | body length | body
// The first follows an event of offset and time 0. Body: the v1::Exposure or v1::Feedback as its producer wrote it; empty when
// max_events left it out.
class EventEncoder {
 public:
  void Put(std::string_view user_id, const SessionWindow::NewEvent& event, std::string* bytes);
  void Put(const SessionWindow::NewEvent& event, std::string* bytes);

 private:
  std::int64_t offset_ = 0;
  std::int64_t time_ms_ = 0;
};

using TakeEvent = std::function<void(std::string_view user_id, const SessionWindow::NewEvent& event)>;

// Calls `take` for every event, with views into `bytes`; its segment is 0. Errors: kCorrupt if the bytes end early, say something
// impossible, or hold a body that does not parse; the events before were taken.
Status DecodeSegment(std::string_view bytes, const TakeEvent& take);
Status DecodeUserEvents(std::string_view bytes, const TakeEvent& take);  // Their user id is empty.

// One page of the outbox: for each trajectory: offset | ordinal | length | v1::Trajectory
struct PagedTrajectory {
  std::int64_t offset = 0;
  std::uint32_t ordinal = 0;
  std::string_view bytes;
};
void AppendToPage(const PagedTrajectory& trajectory, std::string* page);
// The first `max` of them.
Result<std::vector<PagedTrajectory>> DecodePage(std::string_view page, std::size_t max = std::string_view::npos);

}  // namespace fuseline
