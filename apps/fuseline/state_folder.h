#pragma once

#include <filesystem>
#include <string>

namespace fuseline {

// The folder that the user named, or a temporary one that goes with its owner.
class StateFolder {
 public:
  explicit StateFolder(const std::string& named);  // Empty: a temporary one.
  ~StateFolder();
  StateFolder(const StateFolder&) = delete;
  StateFolder& operator=(const StateFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  bool temporary_;
  std::filesystem::path path_;
};

}  // namespace fuseline
