#pragma once

#include <functional>
#include <string>

#include "checks.h"
#include "command.h"
#include "session_stage.h"
#include "stop_signal.h"

namespace fuseline {

// What `run`, `sessionize` and `learn` have in common: settings, --dry-run, a stop signal, exit codes.
struct ServingOptions {
  SettingsOptions settings;
  bool dry_run = false;
  bool cold_start = false;
  std::string from = "earliest";

  // With --from; `reads_events`: with --cold-start too.
  void AddTo(CLI::App& subcommand, bool reads_events);
};

using ServingBody =
    std::function<Status(const v1::Config& config, const KafkaReading& reading, StopSignal& stop, Instruments instruments)>;

// Runs `body` until it ends, or --dry-run's checks. Returns the exit code.
int Serve(const ServingOptions& options, Role role, const ServingBody& body);

}  // namespace fuseline
