#include "fuseline/policy_store/file_system.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#include <fcntl.h>
#include <unistd.h>

#include "fuseline/core/file.h"

namespace fuseline {
namespace {

Status Failure(std::string_view doing, const std::filesystem::path& path, const std::error_code& error) {
  const Code code = error == std::errc::no_such_file_or_directory ? Code::kNotFound : Code::kUnavailable;
  return ErrorStatus(code, doing, path.string(), error.message());
}

std::error_code LastError() { return {errno, std::generic_category()}; }

Status WriteAndSync(int descriptor, std::string_view bytes, const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return Failure("cannot write file:", path, LastError());
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  if (::fsync(descriptor) != 0) return Failure("cannot sync file:", path, LastError());
  return OkStatus();
}

Status OpenAndWrite(const std::filesystem::path& path, int how, std::string_view bytes) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | how, 0644);
  if (descriptor < 0) return Failure("cannot create file:", path, LastError());
  Status written = WriteAndSync(descriptor, bytes, path);
  ::close(descriptor);
  return written;
}

}  // namespace

Result<std::string> DiskFileSystem::Read(const std::filesystem::path& path) { return ReadFile(path); }

Result<std::vector<std::string>> DiskFileSystem::List(const std::filesystem::path& folder) {
  std::error_code error;
  std::vector<std::string> names;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  if (error) return tl::unexpected(Failure("cannot list folder:", folder, error));
  std::sort(names.begin(), names.end());
  return names;
}

Status DiskFileSystem::MakeFolders(const std::filesystem::path& folder) { return fuseline::MakeFolders(folder); }

Status DiskFileSystem::Write(const std::filesystem::path& path, std::string_view bytes) { return OpenAndWrite(path, O_TRUNC, bytes); }
Status DiskFileSystem::Append(const std::filesystem::path& path, std::string_view bytes) { return OpenAndWrite(path, O_APPEND, bytes); }

Status DiskFileSystem::Rename(const std::filesystem::path& from, const std::filesystem::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) return Failure("cannot rename:", from, LastError());
  return OkStatus();
}

Status DiskFileSystem::SyncFolder(const std::filesystem::path& folder) { return fuseline::SyncFolder(folder); }

Status DiskFileSystem::Remove(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) return Failure("cannot remove:", path, error);
  return OkStatus();
}

}  // namespace fuseline
