#pragma once

#include <string>
#include <string_view>

#include <google/protobuf/message.h>

#include "fuseline/core/status.h"

namespace fuseline {

// One JSON object → `*message`, by reflection; the form that people write by hand, so that a slip is an error and never
// a default: names as in the .proto file, enumerators by their short names, 64-bit integers bare or quoted, `bytes` as
// base64. Absent fields keep their defaults. Message types without maps only.
// Errors: kInvalidInput naming the field: unknown or repeated key, two members of a oneof, unknown enumerator, wrong type, null,
// number out of range, nesting beyond `max_depth`, bad UTF-8, anything after the object.
Status ReadJsonMessage(std::string_view json, int max_depth, google::protobuf::Message* message);

// The same form back, on one line; fields at their default are left out. An enumerator without a name is left out
// too, and a number that is not finite is written as null: JSON can say neither.
std::string WriteJsonMessage(const google::protobuf::Message& message);

}  // namespace fuseline
