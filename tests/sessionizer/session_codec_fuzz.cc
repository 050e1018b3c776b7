// Any bytes at all, as the store might read them: each decoder of sessions must refuse them as corrupt, or give what comes
// back from its own encoding. The first byte chooses the decoder.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "fuseline/core/check.h"
#include "session_codec.h"

namespace fuseline {
namespace {

bool Same(const SessionWindow::NewEvent& a, const SessionWindow::NewEvent& b) {
  return a.time_ms == b.time_ms && a.offset == b.offset && a.is_exposure == b.is_exposure && a.glued == b.glued && a.id == b.id &&
         a.body == b.body;
}

struct Taken {
  std::string user_id;
  SessionWindow::NewEvent event;
};

void CheckEvents(std::string_view bytes, bool has_users) {
  const auto decode = has_users ? DecodeSegment : DecodeUserEvents;
  std::vector<Taken> events;
  const Status status = decode(bytes, [&](std::string_view user_id, const SessionWindow::NewEvent& event) {
    events.push_back({std::string(user_id), event});
  });
  FUSELINE_CHECK(status.ok() || status.code == Code::kCorrupt);
  std::string encoded;
  EventEncoder encoder;
  for (const Taken& each : events) {
    if (has_users) {
      encoder.Put(each.user_id, each.event, &encoded);
    } else {
      encoder.Put(each.event, &encoded);
    }
  }
  std::size_t next = 0;
  const Status again = decode(encoded, [&](std::string_view user_id, const SessionWindow::NewEvent& event) {
    FUSELINE_CHECK(next < events.size() && events[next].user_id == user_id && Same(events[next].event, event));
    ++next;
  });
  FUSELINE_CHECK(again.ok() && next == events.size());
}

void CheckPage(std::string_view bytes) {
  const auto page = DecodePage(bytes);
  if (!page) {
    FUSELINE_CHECK(page.error().code == Code::kCorrupt);
    return;
  }
  std::string encoded;
  for (const PagedTrajectory& trajectory : *page) AppendToPage(trajectory, &encoded);
  const auto again = DecodePage(encoded);
  FUSELINE_CHECK(again && again->size() == page->size());
  for (std::size_t i = 0; i < page->size(); ++i) {
    FUSELINE_CHECK((*again)[i].offset == (*page)[i].offset && (*again)[i].ordinal == (*page)[i].ordinal &&
                   (*again)[i].bytes == (*page)[i].bytes);
  }
}

}  // namespace
}  // namespace fuseline

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 3) {
    case 0: fuseline::CheckEvents(bytes, /*has_users=*/true); break;
    case 1: fuseline::CheckEvents(bytes, /*has_users=*/false); break;
    default: fuseline::CheckPage(bytes);
  }
  return 0;
}
