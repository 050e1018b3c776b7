#include "fuseline/proto/event_view.h"

#include <string>

#include "confluent_framing.h"
#include "event_scan.h"
#include "fuseline/core/check.h"

namespace fuseline {
namespace {

const google::protobuf::Message& BodyOf(const v1::Event& event) {
  if (event.has_exposure()) return event.exposure();
  if (event.has_feedback()) return event.feedback();
  return event.control();
}

google::protobuf::Message* MutableBodyOf(EventView::Kind kind, v1::Event* event) {
  switch (kind) {
    case EventView::Kind::kExposure: return event->mutable_exposure();
    case EventView::Kind::kFeedback: return event->mutable_feedback();
    case EventView::Kind::kControl: break;
  }
  return event->mutable_control();
}

EventView::Kind KindOf(const v1::Event& event) {
  if (event.has_exposure()) return EventView::Kind::kExposure;
  return event.has_feedback() ? EventView::Kind::kFeedback : EventView::Kind::kControl;
}

// The same view of a copy of its bytes.
EventView Moved(const EventView& view, std::string_view from, std::string_view to) {
  const auto moved = [&](std::string_view part) {
    return part.empty() ? std::string_view() : to.substr(static_cast<std::size_t>(part.data() - from.data()), part.size());
  };
  return {.kind = view.kind,
          .event_time_ms = view.event_time_ms,
          .event_id = moved(view.event_id),
          .user_id = moved(view.user_id),
          .body = moved(view.body)};
}

}  // namespace

Status ViewEvent(std::string_view bytes, const EventLimits& limits, ByteArena& arena, EventView* view) {
  const auto message = WithoutConfluentFraming(bytes);
  if (EventView scanned; message && ScanEvent(*message, limits, &scanned)) {
    *view = Moved(scanned, *message, arena.Add(*message));
    return OkStatus();
  }
  v1::Event event;
  FUSELINE_RETURN_IF_ERROR(DecodeEvent(bytes, limits, &event));
  *view = ViewOf(event, arena);
  return OkStatus();
}

Status ParseEvent(const EventView& view, v1::Event* event) {
  event->Clear();
  event->set_event_id(std::string(view.event_id));
  event->set_user_id(std::string(view.user_id));
  event->set_event_time_ms(view.event_time_ms);
  if (MutableBodyOf(view.kind, event)->ParseFromArray(view.body.data(), static_cast<int>(view.body.size()))) {
    return OkStatus();
  }
  return ErrorStatus(Code::kInvalidInput, "the body of an event does not parse:", view.event_id);
}

EventView ViewOf(const v1::Event& event, ByteArena& arena) {
  FUSELINE_CHECK(event.payload_case() != v1::Event::PAYLOAD_NOT_SET);
  std::string body;
  FUSELINE_CHECK(BodyOf(event).SerializeToString(&body));
  return {.kind = KindOf(event),
          .event_time_ms = event.event_time_ms(),
          .event_id = arena.Add(event.event_id()),
          .user_id = arena.Add(event.user_id()),
          .body = arena.Add(body)};
}

}  // namespace fuseline
