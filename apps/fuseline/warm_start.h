#pragma once

#include <memory>
#include <string>
#include <vector>

#include "command.h"
#include "pipeline_status.h"
#include "stop_signal.h"

namespace fuseline {

// A folder of the state: sessions of the files that a learner began with.
inline constexpr char kWarmStartFolder[] = "warm_start";

// Adds --warm-start FILE... to a command that goes on live.
std::shared_ptr<std::vector<std::string>> AddWarmStartTo(CLI::App& subcommand);

// Learns from files of history, through the same stages as a replay, before a new state reads
// anything live. Goes on where a former life stopped, and does nothing once that is done, or
// without files. Versions go into the archive, and live from there. Errors: kInvalidInput if the
// state has learned from something else before; those of the stages.
Status WarmStart(const v1::Config& config, const std::vector<std::string>& files,
                 const StateFolders& folders, StopSignal& stop, Instruments instruments);

}  // namespace fuseline
