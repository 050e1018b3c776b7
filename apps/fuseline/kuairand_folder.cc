#include "kuairand_folder.h"

#include <filesystem>

#include "fuseline/datasets/kuairand.h"

namespace fuseline {

CLI::Option* KuaiRandFolder::AddTo(CLI::App& subcommand, const std::string& data_help) {
  subcommand.add_option("--log", log, "the log in the data's folder")->capture_default_str();
  subcommand.add_option("--users", users, "the user features there")->capture_default_str();
  subcommand.add_option("--videos", videos, "the video features there")->capture_default_str();
  return subcommand.add_option("--data", data, data_help)->type_name("DIR");
}

KuaiRandFiles KuaiRandFolder::files() const {
  const std::filesystem::path folder = data;
  return {folder / log, folder / users, folder / videos};
}

}  // namespace fuseline
