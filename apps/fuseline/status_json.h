#pragma once

#include <string>

#include "freshness.h"
#include "pipeline_status.h"

namespace fuseline {

// What `fuseline status --json` prints and /status serves; described in docs/formats.md.
std::string StatusJson(const PipelineStatus& status, const Freshness::Report& freshness, bool running);

// The same for a person: the three numbers first, then what stands behind them. `json` is a StatusJson.
Result<std::string> StatusText(const std::string& json);

// The last line of `fuseline replay --json`. `reward_comparison`: a JSON object, or empty for none.
std::string ReplayJson(const PipelineStatus& status, const std::string& reward_comparison);

}  // namespace fuseline
