#pragma once

#include <filesystem>

#include "fuseline/core/status.h"
#include "fuseline/response_model/fit.h"

namespace fuseline {

// Fits the response model of the simulator's worlds, with a line of progress, and writes `out`. Errors: as
// FitResponseModel; kUnavailable when the file cannot be written.
Result<ResponseFitReport> FitResponseModelTo(const std::filesystem::path& out, const ResponseFitOptions& options);

}  // namespace fuseline
