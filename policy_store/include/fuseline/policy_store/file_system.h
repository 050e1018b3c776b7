#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "fuseline/core/status.h"

namespace fuseline {

// The few things that the archive asks of a disk, so that a test can make each of them fail in turn.
// Errors of all: kNotFound if the path is not there, kUnavailable for a full or failing disk.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  virtual Result<std::string> Read(const std::filesystem::path& path) = 0;
  virtual Result<std::vector<std::string>> List(const std::filesystem::path& folder) = 0;  // Names, sorted.
  virtual Status MakeFolders(const std::filesystem::path& folder) = 0;
  virtual Status Write(const std::filesystem::path& path, std::string_view bytes) = 0;  // Replaces; synced, not atomic.
  virtual Status Append(const std::filesystem::path& path, std::string_view bytes) = 0;  // At the end; made if need be; synced.
  virtual Status Rename(const std::filesystem::path& from, const std::filesystem::path& to) = 0;
  virtual Status SyncFolder(const std::filesystem::path& folder) = 0;
  virtual Status Remove(const std::filesystem::path& path) = 0;  // With everything in it; nothing there is no error.
};

// The machine's own. Thread-safe.
class DiskFileSystem final : public FileSystem {
 public:
  Result<std::string> Read(const std::filesystem::path& path) override;
  Result<std::vector<std::string>> List(const std::filesystem::path& folder) override;
  Status MakeFolders(const std::filesystem::path& folder) override;
  Status Write(const std::filesystem::path& path, std::string_view bytes) override;
  Status Append(const std::filesystem::path& path, std::string_view bytes) override;
  Status Rename(const std::filesystem::path& from, const std::filesystem::path& to) override;
  Status SyncFolder(const std::filesystem::path& folder) override;
  Status Remove(const std::filesystem::path& path) override;
};

}  // namespace fuseline
