#include "fuseline/core/file.h"

#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

namespace fuseline {
namespace {

std::string Reason() { return std::strerror(errno); }

// A file descriptor with an owner.
class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int value() const { return value_; }
  int Release() { return std::exchange(value_, -1); }

 private:
  int value_;
};

Status WriteAll(int descriptor, std::string_view bytes, const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return ErrorStatus(Code::kUnavailable, "cannot write file:", path.string(), Reason());
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return OkStatus();
}

}  // namespace

Result<std::string> ReadFile(const std::filesystem::path& path) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.value() < 0) {
    const Code code = errno == ENOENT || errno == ENOTDIR ? Code::kNotFound : Code::kUnavailable;
    return Error(code, "cannot open file:", path.string(), Reason());
  }
  std::string bytes;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t got = ::read(file.value(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error(Code::kUnavailable, "cannot read file:", path.string(), Reason());
    if (got == 0) return bytes;
    bytes.append(buffer, static_cast<std::size_t>(got));
  }
}

Status SyncFolder(const std::filesystem::path& folder) {
  Descriptor descriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (descriptor.value() < 0 || ::fsync(descriptor.value()) != 0) {
    return ErrorStatus(Code::kUnavailable, "cannot sync folder:", folder.string(), Reason());
  }
  return OkStatus();
}

Status WriteFileAtomically(const std::filesystem::path& path, std::string_view bytes) {
  const std::filesystem::path temporary = path.string() + ".tmp";
  {
    Descriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (file.value() < 0) return ErrorStatus(Code::kUnavailable, "cannot create file:", temporary.string(), Reason());
    FUSELINE_RETURN_IF_ERROR(WriteAll(file.value(), bytes, temporary));
    if (::fsync(file.value()) != 0) {
      return ErrorStatus(Code::kUnavailable, "cannot sync file:", temporary.string(), Reason());
    }
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    return ErrorStatus(Code::kUnavailable, "cannot rename file:", temporary.string(), Reason());
  }
  return SyncFolder(path.has_parent_path() ? path.parent_path() : std::filesystem::path("."));
}

Status MakeFolders(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return ErrorStatus(Code::kUnavailable, "cannot create folder:", folder.string(), error.message());
  return OkStatus();
}

Result<std::int64_t> FreeDiskBytes(const std::filesystem::path& folder) {
  std::error_code error;
  const auto space = std::filesystem::space(folder, error);
  if (error) return Error(Code::kUnavailable, "cannot ask for free space:", folder.string(), error.message());
  return static_cast<std::int64_t>(space.available);
}

Result<FolderLock> FolderLock::Acquire(const std::filesystem::path& folder) {
  FUSELINE_FAIL_IF_ERROR(MakeFolders(folder));
  const std::filesystem::path path = folder / "LOCK";
  Descriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (file.value() < 0) return Error(Code::kUnavailable, "cannot open lock:", path.string(), Reason());
  if (::flock(file.value(), LOCK_EX | LOCK_NB) != 0) {
    const auto holder = ReadFile(path);
    return Error(Code::kConflict, "state folder is in use:", folder.string(), "by process", holder.value_or("?"));
  }
  const std::string pid = std::to_string(::getpid());
  if (::ftruncate(file.value(), 0) != 0) {
    return Error(Code::kUnavailable, "cannot write lock:", path.string(), Reason());
  }
  FUSELINE_FAIL_IF_ERROR(WriteAll(file.value(), pid, path));
  return FolderLock(file.Release());
}

FolderLock::FolderLock(FolderLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

FolderLock& FolderLock::operator=(FolderLock&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

FolderLock::~FolderLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace fuseline
