#pragma once

#include <string>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/sessionizer/sessionizer.h"
#include "fuseline/v1/config.pb.h"

namespace fuseline {

// The open sessions of one user, as the last commit left them.
struct OpenSessions {
  struct OfPartition {
    ShownSession session;
    std::int64_t stream_time_ms = 0;   // Of its partition.
    std::int64_t closes_after_ms = 0;  // It closes when stream time has passed this, if nothing more comes.
  };
  std::string user_id;
  std::vector<OfPartition> sessions;
};

// From the state folder, which is only looked at, also beside the process that owns it. Errors: kNotFound if there is
// none; those of the sessionizer.
Result<OpenSessions> ReadOpenSessions(const v1::Config& config, const std::string& user_id);

// For people, or one JSON object.
std::string OpenSessionsText(const OpenSessions& open);
std::string OpenSessionsJson(const OpenSessions& open);

}  // namespace fuseline
