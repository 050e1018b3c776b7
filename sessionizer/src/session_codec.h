#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/sessionizer/partition_sessions.h"
#include "fuseline/sessionizer/session_window.h"

namespace fuseline {

// The bytes of the session store. Integers are LEB128 varints unless said otherwise; a change of any of this needs
// a new kStoreFormat. Held by tests/sessionizer/session_codec_test.cc.
//
// One open event; a chunk is events in sequence:
//   time_ms | offset | offset - previous_offset | zigzag(time_ms - stream_before_ms) | flags (1 byte; bit 0: exposure)
//   | id length | id | payload length | payload
inline constexpr int kStoreFormat = 1;

void EncodeOpenEvent(const OpenEvent& event, std::string* bytes);

// The serialised v1::Exposure or v1::Feedback of a payload, which is its first field; nullopt if something else is there.
// Parsed from there, one message can serve for many events and keep its memory; that of a oneof is freed each time.
// REQUIRES: the payload is not empty.
std::optional<std::string_view> PayloadBody(const OpenEvent& event);

// Errors: kCorrupt if the bytes end early, say something impossible, or hold a payload that does not parse.
Result<std::vector<OpenEvent>> DecodeChunk(std::string_view bytes);

// next_offset | zigzag(previous_offset) | zigzag(stream_time_ms) | flags (1 byte; bit 0: finished, bit 1: has a last name)
// | length | v1::TrajectoryName | length | v1::Accounting
std::string EncodeState(const PartitionState& state);
Result<PartitionState> DecodeState(std::string_view bytes);

// gap_ms | lateness_ms | cut_every_ms | max_events
std::string EncodeShape(const SessionShape& shape);
Result<SessionShape> DecodeShape(std::string_view bytes);

}  // namespace fuseline
