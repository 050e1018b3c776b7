#include "state_folder.h"

#include <system_error>

#include <unistd.h>

namespace fuseline {

StateFolder::StateFolder(const std::string& named) : temporary_(named.empty()), path_(named) {
  if (temporary_) path_ = std::filesystem::temp_directory_path() / ("fuseline-" + std::to_string(::getpid()));
}

StateFolder::~StateFolder() {
  std::error_code ignored;
  if (temporary_) std::filesystem::remove_all(path_, ignored);
}

}  // namespace fuseline
