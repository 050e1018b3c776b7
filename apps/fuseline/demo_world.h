#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>

#include "fuseline/core/status.h"
#include "fuseline/simulator/world.h"
#include "fuseline/v1/config.pb.h"
#include "kuairand_folder.h"

namespace fuseline {

// Which world a demo plays in, and where its response model comes from, if it needs one.
struct DemoWorldOptions {
  std::string name;            // Built-in name or file; empty: `feed` as the settings' section simulator has it.
  std::string response_model;  // A file of `fuseline world fit`.
  KuaiRandFolder log;          // A log to fit one to.

  void AddTo(CLI::App& subcommand);
};

// Errors: kInvalidInput for an unknown world, or a response model where none is needed; kNotFound when one is needed,
// is not there, and no log is named. Nothing was done yet.
Status CheckDemoWorld(const DemoWorldOptions& options);

// The world, and puts into `config` what ranker and learner must share with it. Fits its response model into `folder`
// first where a log is named, and says so on standard error. REQUIRES: CheckDemoWorld. Errors: of FitResponseModelTo
// and OpenWorld.
Result<std::unique_ptr<World>> OpenDemoWorld(const DemoWorldOptions& options, const std::filesystem::path& folder,
                                             v1::Config* config);

}  // namespace fuseline
