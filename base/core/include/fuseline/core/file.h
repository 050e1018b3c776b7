#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "fuseline/core/status.h"

namespace fuseline {

// Errors of all: kNotFound if there is no such file, kUnavailable for a full or failing disk.
Result<std::string> ReadFile(const std::filesystem::path& path);

// Puts `bytes` at `path` durably and all at once: temporary file beside it, fsync, rename, fsync of the folder.
// A reader or a crash sees the old bytes or the new ones.
Status WriteFileAtomically(const std::filesystem::path& path, std::string_view bytes);

Status SyncFolder(const std::filesystem::path& folder);
Status MakeFolders(const std::filesystem::path& folder);
Result<std::int64_t> FreeDiskBytes(const std::filesystem::path& folder);

// Holds `folder`/LOCK for one process, so that two never own the same state. Released when destroyed, or by the
// kernel when the process dies.
class FolderLock {
 public:
  // Errors: kConflict if another process holds it; the message names its process id.
  static Result<FolderLock> Acquire(const std::filesystem::path& folder);
  FolderLock(FolderLock&& other) noexcept;
  FolderLock& operator=(FolderLock&& other) noexcept;
  ~FolderLock();

 private:
  explicit FolderLock(int descriptor) : descriptor_(descriptor) {}
  int descriptor_ = -1;
};

}  // namespace fuseline
