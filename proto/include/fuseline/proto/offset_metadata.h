#pragma once

#include <string>
#include <string_view>

#include "fuseline/core/status.h"
#include "fuseline/v1/trajectory.pb.h"

namespace fuseline {

// What travels beside a committed Kafka offset: one JSON object on one line, under 1 KiB, that people and other programs can read
// in any tool that shows a group's offsets. Described in docs/formats.md.
std::string EncodeOffsetMetadata(const v1::OffsetMetadata& metadata);

// Reads exactly what EncodeOffsetMetadata wrote. Whoever takes a partition over begins from this alone, so a slip is an error and
// never a default.
// Errors: kInvalidInput: no such object, an unknown, mistyped or missing field, or fields that contradict each other; the message
// names the field.
Result<v1::OffsetMetadata> DecodeOffsetMetadata(std::string_view json);

}  // namespace fuseline
