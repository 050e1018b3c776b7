#pragma once

#include <filesystem>

#include "pipeline_status.h"

namespace fuseline {

inline constexpr char kSettingsFile[] = "settings.yaml";  // In a state folder: the settings in force when it was last opened.

// What a process that does not run any more left in its state folder. Changes nothing that anybody reads.
// Errors: kNotFound if there is no such folder; kConflict if a process uses it; those of the stages.
Result<PipelineStatus> ReadStoredStatus(const std::filesystem::path& state);

}  // namespace fuseline
