#include "checkpoint.h"

#include <set>
#include <system_error>
#include <vector>

#include "fuseline/core/digest.h"
#include "fuseline/core/file.h"
#include "fuseline/proto/schema.h"

namespace fuseline {
namespace {

constexpr const char* kName = "checkpoint";
constexpr std::size_t kDigestBytes = 32;

Result<v1::LearnerCheckpoint> ReadCheckpointFile(const std::filesystem::path& path) {
  FUSELINE_ASSIGN_OR_FAIL(const std::string bytes, ReadFile(path));
  v1::LearnerCheckpoint checkpoint;
  const bool sound = bytes.size() >= kDigestBytes &&
                     Sha256Of(std::string_view(bytes).substr(0, bytes.size() - kDigestBytes)) ==
                         std::string_view(bytes).substr(bytes.size() - kDigestBytes) &&
                     checkpoint.ParseFromArray(bytes.data(), static_cast<int>(bytes.size() - kDigestBytes));
  if (!sound) return Error(Code::kCorrupt, "checkpoint differs from its digest:", path.string());
  return checkpoint;
}

void AddReferenced(const v1::LearnerCheckpoint& checkpoint, std::set<std::string>& names) {
  names.insert(checkpoint.tensors().name());
  names.insert(checkpoint.pending_weights().name());
  for (const v1::RowSegment& segment : checkpoint.replay().segments()) names.insert(segment.file().name());
  for (const v1::RowSegment& segment : checkpoint.held_out().segments()) names.insert(segment.file().name());
}

}  // namespace

Result<v1::FileRef> WriteBlob(const std::filesystem::path& folder, const std::string& prefix, const std::string& bytes) {
  v1::FileRef file;
  file.set_sha256(Sha256Of(bytes));
  file.set_name(prefix + "-" + ToHex(file.sha256()).substr(0, 16) + ".bin");
  FUSELINE_FAIL_IF_ERROR(WriteFileAtomically(folder / file.name(), bytes));
  return file;
}

Result<std::string> ReadBlob(const std::filesystem::path& folder, const v1::FileRef& file) {
  auto bytes = ReadFile(folder / file.name());
  if (!bytes) return Error(Code::kCorrupt, "file of the checkpoint cannot be read:", bytes.error().message);
  if (Sha256Of(*bytes) != file.sha256()) return Error(Code::kCorrupt, "file of the checkpoint differs from its digest:", file.name());
  return bytes;
}

Status WriteCheckpoint(const std::filesystem::path& folder, const v1::LearnerCheckpoint& checkpoint, std::uint64_t keep_version) {
  std::string bytes = CanonicalBytes(checkpoint);
  bytes += Sha256Of(bytes);
  if (keep_version > 0)
    FUSELINE_RETURN_IF_ERROR(WriteFileAtomically(folder / (std::string(kName) + "-v" + std::to_string(keep_version)), bytes));
  return WriteFileAtomically(folder / kName, bytes);
}

Result<v1::LearnerCheckpoint> ReadCheckpoint(const std::filesystem::path& folder) { return ReadCheckpointFile(folder / kName); }

Status CollectGarbage(const std::filesystem::path& folder) {
  std::set<std::string> referenced;
  std::vector<std::filesystem::path> candidates;
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator(folder, failed)) {
    const std::string name = entry.path().filename().string(), extension = entry.path().extension().string();
    // A death inside WriteFileAtomically leaves a .tmp behind: nobody's, whatever its name begins with.
    if (extension == ".bin" || extension == ".rows" || extension == ".tmp") {
      candidates.push_back(entry.path());
      continue;
    }
    if (name != kName && !name.starts_with(std::string(kName) + "-v")) continue;
    FUSELINE_ASSIGN_OR_RETURN(const v1::LearnerCheckpoint checkpoint, ReadCheckpointFile(entry.path()));
    AddReferenced(checkpoint, referenced);
  }
  for (const auto& path : candidates) {
    if (!referenced.contains(path.filename().string())) std::filesystem::remove(path, failed);  // The next one tries again.
  }
  return OkStatus();
}

}  // namespace fuseline
