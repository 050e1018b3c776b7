#pragma once

#include <cstdint>
#include <string_view>

#include "fuseline/core/status.h"
#include "fuseline/proto/byte_arena.h"
#include "fuseline/proto/event_codec.h"
#include "fuseline/v1/event.pb.h"

namespace fuseline {

// One valid event as it lies in memory: views into bytes that somebody else owns.
struct EventView {
  enum class Kind : std::uint8_t { kExposure, kFeedback, kControl };
  Kind kind = Kind::kControl;
  std::int64_t event_time_ms = 0;
  std::string_view event_id;
  std::string_view user_id;  // Empty only in a control record.
  // The serialised v1::Exposure, v1::Feedback or v1::Control: as the producer wrote it, unknown fields included.
  std::string_view body;
};

// Bytes from outside → checked event. All views point into `arena`, none into `bytes`. Accepts and refuses what
// DecodeEvent does, and what it holds is what that says. The body of an event that is not plain, canonical protobuf is
// serialised anew. Pure; hostile input is expected.
// Errors: as DecodeEvent; `*view` is then unspecified.
Status ViewEvent(std::string_view bytes, const EventLimits& limits, ByteArena& arena, EventView* view);

// The whole event of a view, for tools and tests: the flow itself goes without.
// Errors: kInvalidInput if the body does not parse: never for a view by ViewEvent.
Status ParseEvent(const EventView& view, v1::Event* event);

// The view of an event, unchecked, with its bytes in `arena`. REQUIRES: the event has a payload.
EventView ViewOf(const v1::Event& event, ByteArena& arena);

}  // namespace fuseline
