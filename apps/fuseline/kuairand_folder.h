#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace fuseline {

struct KuaiRandFiles;  // fuseline/datasets/kuairand.h

// Where KuaiRand's log and side tables are: options of every command that reads a folder of them.
struct KuaiRandFolder {
  std::string data, log = "log_w1.csv.gz", users = "user_features_pure.csv.gz";
  std::string videos = "video_features_basic_pure.csv.gz";

  CLI::Option* AddTo(CLI::App& subcommand, const std::string& data_help);  // Returns --data.
  KuaiRandFiles files() const;
};

}  // namespace fuseline
