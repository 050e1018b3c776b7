#include "state_folder.h"

#include <cstdlib>
#include <system_error>

#include "fuseline/core/check.h"

namespace fuseline {

StateFolder::StateFolder(const std::string& named) : temporary_(named.empty()), path_(named) {
  if (!temporary_) return;
  // A name of its own each time: a folder left behind by a killed process must never be gone on from.
  std::string name = (std::filesystem::temp_directory_path() / "fuseline-XXXXXX").string();
  FUSELINE_CHECK(::mkdtemp(name.data()) != nullptr);
  path_ = name;
}

StateFolder::~StateFolder() {
  std::error_code ignored;
  if (temporary_) std::filesystem::remove_all(path_, ignored);
}

}  // namespace fuseline
