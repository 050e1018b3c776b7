#pragma once

#include <string_view>

#include "fuseline/core/status.h"

namespace fuseline {

// What an error reply ("CODE text") means to a caller; the table is in connection.h.
Status StatusOfErrorReply(std::string_view text);

// Whether a server that answers so may no longer be the one that the address means: after a failover its peer was promoted.
bool AsksForAnotherServer(std::string_view text);

}  // namespace fuseline
