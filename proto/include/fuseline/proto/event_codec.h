#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "fuseline/core/status.h"
#include "fuseline/v1/config.pb.h"
#include "fuseline/v1/event.pb.h"

namespace fuseline {

// What an event may hold at most; from the settings of section `ingest`.
struct EventLimits {
  std::int64_t event_bytes = 1 << 20;
  std::int64_t string_bytes = 1024;
  std::int64_t items = 256;
  std::int64_t values = 4096;
};
EventLimits LimitsOf(const v1::Ingest& settings);

// Bytes from outside → `*event`, checked by ValidateEvent. Protobuf, or one JSON object where the first byte is '{'
// (no protobuf Event starts with it: it would be field 15, a group), or protobuf in the framing of Confluent's
// serialisers where it is 0 (no field has that number); message index 0 is Event. `event` is reused from call to call: that is
// twice as fast as a new one. Pure; hostile input is expected.
//
// Protobuf: unknown fields are kept; an unknown feedback kind is allowed. JSON: the schema's own field names, short
// enumerators, int64 bare or quoted; an unknown key or enumerator, NaN, or nesting beyond 16 is an error.
// Errors: kInvalidInput, the message names the field; `*event` is then unspecified.
Status DecodeEvent(std::string_view bytes, const EventLimits& limits, v1::Event* event);

// Checks every promise of event.proto: ids present, times from 0 to the year 9999, a payload, sizes within limits,
// UTF-8, floats finite, positions in order, actions in [-1, 1], equally wide and inside the box, a density only with a box.
// An exposure may come from somebody who logs no actions: then baseline and executed action are both empty, for all items.
// Errors: kInvalidInput, the message names the field. Cost: one walk, no allocation.
Status ValidateEvent(const v1::Event& event, const EventLimits& limits);

// One line, without the newline; DecodeEvent reads it back. JSON has no name for a feedback kind that this build does
// not know: it comes back as UNSPECIFIED. REQUIRES: ValidateEvent is ok.
std::string EncodeEventJson(const v1::Event& event);

}  // namespace fuseline
