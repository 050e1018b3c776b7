#pragma once

#include <string_view>

#include "fuseline/core/status.h"
#include "fuseline/kafka/connection.h"

namespace fuseline {

// earliest, latest, offset:N, time:MS (milliseconds since the epoch). Errors: kInvalidInput.
Result<kafka::StartPosition> ParseStartingPoint(std::string_view text);

}  // namespace fuseline
