#pragma once

#include <string_view>

#include "fuseline/core/status.h"

namespace fuseline {

// A record's bytes without the framing of the Confluent serialisers, where they have it:
//
//   0 | schema id: 4 bytes, big endian | message indexes | message
//
// Message indexes say which message of the schema's file it is, as zigzag varints: their count, then each, from the
// outermost in; the single byte 0 stands for [0]. Event is the first of its file. The schema id is not looked up: what an
// event must hold is checked by itself. No protobuf message begins with 0, and no JSON.
// Errors: kInvalidInput if the framing ends early, or names another message.
Result<std::string_view> WithoutConfluentFraming(std::string_view bytes);

}  // namespace fuseline
