#pragma once

#include <string>
#include <string_view>

#include "fuseline/core/status.h"

namespace fuseline {

bool IsUtf8(std::string_view text);

// What a message may quote of hostile input: at most 64 printable ASCII characters.
std::string Shown(std::string_view text);

// Standard alphabet with padding (RFC 4648, section 4); nothing else is read.
std::string ToBase64(std::string_view bytes);
Result<std::string> FromBase64(std::string_view text);

}  // namespace fuseline
