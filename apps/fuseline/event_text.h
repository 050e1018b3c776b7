#pragma once

#include <cstdint>
#include <string>

#include "fuseline/v1/event.pb.h"
#include "fuseline/v1/trajectory.pb.h"

namespace fuseline {

// "request r1, arm live, version 4, items i7 i9".
std::string ExposureText(const v1::Exposure& exposure);
// "WATCH of i7 in request r1, watched 40000 ms"; a kind unknown here by its number.
std::string FeedbackText(const v1::Feedback& feedback);
std::string KindText(std::int32_t kind);

// "terminated", "truncated", "flushed".
const char* EndText(v1::SessionEnd end);

}  // namespace fuseline
