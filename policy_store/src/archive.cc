#include "fuseline/policy_store/archive.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <utility>

#include "fuseline/core/digest.h"
#include "fuseline/fusion/policy_keys.h"
#include "fuseline/proto/schema.h"

namespace fuseline {
namespace {

constexpr std::string_view kManifestFile = "manifest.pb";
constexpr std::string_view kWeightsFile = "weights.safetensors";
constexpr std::string_view kSignatureFile = "manifest.sig";
constexpr std::string_view kSumsFile = "SHA256SUMS";
constexpr std::string_view kAliasesFile = "aliases.pb";
constexpr std::string_view kNewAliasesFile = ".aliases.pb";
constexpr char kUnfinished = '.';  // First character of what is being written or removed.
constexpr std::size_t kDigestBytes = 32;

std::string NameOf(std::uint64_t version) {
  char name[24];
  std::snprintf(name, sizeof name, "%08llu", static_cast<unsigned long long>(version));
  return name;
}

// 0 if `name` is not one of NameOf.
std::uint64_t VersionOf(const std::string& name) {
  std::uint64_t version = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), version);
  return error == std::errc() && end == name.data() + name.size() && NameOf(version) == name ? version : 0;
}

std::string SumLine(std::string_view bytes, std::string_view file) {
  return ToHex(Sha256Of(bytes)) + "  " + std::string(file) + "\n";
}

}  // namespace

Archive::Archive(std::filesystem::path folder, std::uint64_t part_bytes, FileSystem& files)
    : folder_(std::move(folder)), versions_(folder_ / "versions"), part_bytes_(part_bytes), files_(&files) {}

Result<Archive> Archive::Open(std::filesystem::path folder, std::uint64_t part_bytes, FileSystem& files) {
  if (part_bytes == 0) return Error(Code::kInvalidInput, "policy_store.part_bytes must be positive");
  Archive archive(std::move(folder), part_bytes, files);
  FUSELINE_FAIL_IF_ERROR(files.MakeFolders(archive.versions_));
  FUSELINE_FAIL_IF_ERROR(files.SyncFolder(archive.folder_));
  FUSELINE_ASSIGN_OR_FAIL(const std::vector<std::string> names, files.List(archive.versions_));
  for (const std::string& name : names) {
    if (name.front() == kUnfinished) FUSELINE_FAIL_IF_ERROR(files.Remove(archive.versions_ / name));
  }
  return archive;
}

Archive Archive::OpenReadOnly(std::filesystem::path folder, FileSystem& files) {
  return {std::move(folder), /*part_bytes=*/1, files};
}

Archive Archive::OpenBeside(std::filesystem::path folder, const std::string& writer, FileSystem& files) {
  Archive archive = OpenReadOnly(std::move(folder), files);
  archive.unfinished_suffix_ = "." + writer;
  return archive;
}

std::filesystem::path Archive::FolderOf(std::uint64_t version) const { return versions_ / NameOf(version); }

Status Archive::Put(const PolicyVersion& version, const SigningKey* sign_with) {
  const v1::PolicyManifest& manifest = version.manifest;
  if (manifest.version() == 0) return ErrorStatus(Code::kInvalidInput, "version 0 means the static weights and is never stored");
  if (version.weights.empty()) return ErrorStatus(Code::kInvalidInput, "a version without weights is never stored:", manifest.version());
  if (!manifest.weights_sha256().empty() && manifest.weights_sha256() != Sha256Of(version.weights)) {
    return ErrorStatus(Code::kInvalidInput, "weights_sha256 is not of these weights, version:", manifest.version());
  }
  FUSELINE_ASSIGN_OR_RETURN(const std::vector<std::uint64_t> stored, List());
  if (!std::binary_search(stored.begin(), stored.end(), manifest.version())) return Write(version, sign_with);
  FUSELINE_RETURN_IF_ERROR(CheckSame(version));
  return files_->SyncFolder(versions_);  // The rename may have been all that an earlier call achieved.
}

Status Archive::CheckSame(const PolicyVersion& version) const {
  FUSELINE_ASSIGN_OR_RETURN(ArchivedVersion stored, Get(version.manifest.version()));
  v1::PolicyManifest offered = version.manifest;
  // Parts that were cut when it was first stored stay as they are, whatever part_bytes says today.
  if (offered.parts().empty()) *offered.mutable_parts() = stored.version.manifest.parts();
  if (offered.weights_sha256().empty()) offered.set_weights_sha256(Sha256Of(version.weights));
  if (CanonicalBytes(offered) == stored.manifest_bytes && version.weights == stored.version.weights) return OkStatus();
  return ErrorStatus(Code::kConflict, "archive holds another version under this number:", version.manifest.version());
}

Status Archive::Write(const PolicyVersion& version, const SigningKey* sign_with) {
  v1::PolicyManifest manifest = version.manifest;
  if (manifest.parts().empty()) SealManifest(manifest, version.weights, part_bytes_);
  const std::string bytes = CanonicalBytes(manifest);
  const std::string name = NameOf(manifest.version());
  const std::filesystem::path unfinished = versions_ / (kUnfinished + name + unfinished_suffix_);
  FUSELINE_RETURN_IF_ERROR(files_->Remove(unfinished));
  FUSELINE_RETURN_IF_ERROR(files_->MakeFolders(unfinished));
  FUSELINE_RETURN_IF_ERROR(files_->Write(unfinished / kManifestFile, bytes));
  FUSELINE_RETURN_IF_ERROR(files_->Write(unfinished / kWeightsFile, version.weights));
  std::string sums = SumLine(bytes, kManifestFile) + SumLine(version.weights, kWeightsFile);
  const std::string signature = sign_with == nullptr ? version.signature : sign_with->Sign(bytes);
  if (!signature.empty()) {
    FUSELINE_RETURN_IF_ERROR(files_->Write(unfinished / kSignatureFile, signature));
    sums += SumLine(signature, kSignatureFile);
  }
  FUSELINE_RETURN_IF_ERROR(files_->Write(unfinished / kSumsFile, sums));
  FUSELINE_RETURN_IF_ERROR(files_->SyncFolder(unfinished));
  FUSELINE_RETURN_IF_ERROR(files_->Rename(unfinished, versions_ / name));
  return files_->SyncFolder(versions_);
}

Result<std::string> Archive::ReadChecked(const std::filesystem::path& path, std::string_view sums) const {
  auto bytes = files_->Read(path);
  if (!bytes) {
    const Code code = bytes.error().code == Code::kNotFound ? Code::kCorrupt : bytes.error().code;
    return Error(code, "archive:", bytes.error().message);
  }
  // A damaged SHA256SUMS accuses a good file; which of the two it was, sha256sum -c shows no better.
  if (sums.find(SumLine(*bytes, path.filename().string())) == std::string_view::npos) {
    return Error(Code::kCorrupt, "archive: file does not match SHA256SUMS beside it:", path.string());
  }
  return bytes;
}

Result<ArchivedVersion> Archive::Get(std::uint64_t version) const {
  const std::filesystem::path folder = FolderOf(version);
  const auto sums = files_->Read(folder / kSumsFile);
  if (!sums && sums.error().code == Code::kNotFound) {
    FUSELINE_ASSIGN_OR_FAIL(const std::vector<std::uint64_t> stored, List());
    const bool is_there = std::binary_search(stored.begin(), stored.end(), version);
    if (is_there) return Error(Code::kCorrupt, "archive: file is missing:", (folder / kSumsFile).string());
    return Error(Code::kNotFound, "archive has no version", version);
  }
  if (!sums) return tl::unexpected(sums.error());
  ArchivedVersion result;
  FUSELINE_ASSIGN_OR_FAIL(result.manifest_bytes, ReadChecked(folder / kManifestFile, *sums));
  FUSELINE_ASSIGN_OR_FAIL(result.version.weights, ReadChecked(folder / kWeightsFile, *sums));
  if (sums->find(kSignatureFile) != std::string::npos) {
    FUSELINE_ASSIGN_OR_FAIL(result.version.signature, ReadChecked(folder / kSignatureFile, *sums));
  }
  FUSELINE_ASSIGN_OR_FAIL(result.version.manifest, DecodeManifest(result.manifest_bytes, {}, version));
  if (result.version.manifest.weights_sha256() != Sha256Of(result.version.weights)) {
    return Error(Code::kCorrupt, "archive: file is not what its manifest says:", (folder / kWeightsFile).string());
  }
  return result;
}

Result<std::vector<std::uint64_t>> Archive::List() const {
  FUSELINE_ASSIGN_OR_FAIL(const std::vector<std::string> names, files_->List(versions_));
  std::vector<std::uint64_t> versions;
  for (const std::string& name : names) {
    if (const std::uint64_t version = VersionOf(name); version != 0) versions.push_back(version);
  }
  std::sort(versions.begin(), versions.end());
  return versions;
}

Result<std::uint64_t> Archive::Newest() const {
  FUSELINE_ASSIGN_OR_FAIL(const std::vector<std::uint64_t> versions, List());
  if (versions.empty()) return Error(Code::kNotFound, "archive is empty:", versions_.string());
  return versions.back();
}

Result<std::vector<std::uint64_t>> Archive::Prune(std::uint64_t keep, const std::set<std::uint64_t>& keep_too) {
  FUSELINE_ASSIGN_OR_FAIL(const std::vector<std::uint64_t> versions, List());
  std::vector<std::uint64_t> removed;
  const std::size_t old = versions.size() > keep ? versions.size() - keep : 0;
  for (std::size_t i = 0; i < old; ++i) {
    if (keep_too.contains(versions[i])) continue;
    // Renamed first, so that no reader and no crash meets half a version.
    const std::filesystem::path leaving = versions_ / (kUnfinished + NameOf(versions[i]));
    FUSELINE_FAIL_IF_ERROR(files_->Remove(leaving));
    FUSELINE_FAIL_IF_ERROR(files_->Rename(FolderOf(versions[i]), leaving));
    FUSELINE_FAIL_IF_ERROR(files_->Remove(leaving));
    removed.push_back(versions[i]);
  }
  if (!removed.empty()) FUSELINE_FAIL_IF_ERROR(files_->SyncFolder(versions_));
  return removed;
}

Result<v1::AliasState> Archive::LoadAliases() const {
  const std::filesystem::path path = folder_ / kAliasesFile;
  const auto file = files_->Read(path);
  if (!file && file.error().code == Code::kNotFound) return v1::AliasState();
  if (!file) return tl::unexpected(file.error());
  const std::string_view bytes = *file;
  const std::string_view body = bytes.substr(std::min(bytes.size(), kDigestBytes));
  v1::AliasState state;
  if (bytes.substr(0, kDigestBytes) != Sha256Of(body) || !state.ParseFromArray(body.data(), static_cast<int>(body.size()))) {
    return Error(Code::kCorrupt, "archive: file is not what was written:", path.string());
  }
  return state;
}

Status Archive::SaveAliases(const v1::AliasState& state) {
  const std::string body = CanonicalBytes(state);
  FUSELINE_RETURN_IF_ERROR(files_->Write(folder_ / kNewAliasesFile, Sha256Of(body) + body));
  FUSELINE_RETURN_IF_ERROR(files_->Rename(folder_ / kNewAliasesFile, folder_ / kAliasesFile));
  return files_->SyncFolder(folder_);
}

}  // namespace fuseline
