#pragma once

#include <string>
#include <string_view>

#include "dead_letters.h"
#include "fuseline/proto/event_codec.h"

namespace fuseline {

// "3:991", as ParsePosition reads it.
std::string PositionText(const DeadLetter& letter);

// One line for people, or one of JSON without the bytes.
std::string LetterRow(const KeptLetter& kept);
std::string LetterJson(const KeptLetter& kept);

// Everything about one letter: where it was, why it is here, what its bytes say to the decoder of today, and the
// bytes themselves, at most `bytes_max` of them.
std::string LetterPage(const KeptLetter& kept, const EventLimits& limits, std::size_t bytes_max);
std::string LetterPageJson(const KeptLetter& kept, const EventLimits& limits);

// "00000010  7b 22 65 …  |{"e…|", 16 bytes a line.
std::string HexDump(std::string_view bytes);

}  // namespace fuseline
