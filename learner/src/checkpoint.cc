#include "checkpoint.h"

#include <algorithm>
#include <charconv>
#include <system_error>

#include "fuseline/core/digest.h"
#include "fuseline/core/file.h"
#include "fuseline/learner/learner.h"
#include "fuseline/proto/schema.h"

namespace fuseline {
namespace {

constexpr const char* kName = "checkpoint";
constexpr const char* kKeptPrefix = "checkpoint-v";
constexpr const char* kActs = "acts";
constexpr std::size_t kDigestBytes = 32;

std::string Sealed(const google::protobuf::Message& message) {
  std::string bytes = CanonicalBytes(message);
  bytes += Sha256Of(bytes);
  return bytes;
}

template <typename Message>
Result<Message> ReadSealed(const std::filesystem::path& path) {
  FUSELINE_ASSIGN_OR_FAIL(const std::string bytes, ReadFile(path));
  Message message;
  const bool sound = bytes.size() >= kDigestBytes &&
                     Sha256Of(std::string_view(bytes).substr(0, bytes.size() - kDigestBytes)) ==
                         std::string_view(bytes).substr(bytes.size() - kDigestBytes) &&
                     message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size() - kDigestBytes));
  if (!sound) return Error(Code::kCorrupt, "file differs from its digest:", path.string());
  return message;
}

std::filesystem::path KeptName(std::uint64_t version) { return std::string(kKeptPrefix) + std::to_string(version); }

std::set<std::string> FilesOf(const v1::LearnerCheckpoint& checkpoint) {
  std::set<std::string> names{checkpoint.tensors().name()};
  if (checkpoint.has_pending_weights()) names.insert(checkpoint.pending_weights().name());
  if (checkpoint.has_priorities()) names.insert(checkpoint.priorities().priorities().name());
  if (checkpoint.has_beside()) names.insert(checkpoint.beside().name());
  for (const v1::KeptActor& actor : checkpoint.actors()) names.insert(actor.parameters().name());
  for (const v1::RowSegment& segment : checkpoint.replay().segments()) names.insert(segment.file().name());
  for (const v1::RowSegment& segment : checkpoint.held_out().segments()) names.insert(segment.file().name());
  return names;
}

// Another name for the same bytes; a copy where the file systems differ.
bool Share(const std::filesystem::path& from, const std::filesystem::path& to) {
  std::error_code failed;
  std::filesystem::create_hard_link(from, to, failed);
  if (failed) std::filesystem::copy_file(from, to, failed);
  return !failed;
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
  const std::string bytes = Sealed(checkpoint);
  if (keep_version > 0) FUSELINE_RETURN_IF_ERROR(WriteFileAtomically(folder / KeptName(keep_version), bytes));
  return WriteFileAtomically(folder / kName, bytes);
}

Result<v1::LearnerCheckpoint> ReadCheckpoint(const std::filesystem::path& folder) {
  return ReadSealed<v1::LearnerCheckpoint>(folder / kName);
}

std::vector<std::uint64_t> KeptCheckpoints(const std::filesystem::path& folder) {
  std::vector<std::uint64_t> kept;
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator(folder, failed)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kKeptPrefix)) continue;
    const char* const begin = name.data() + std::string_view(kKeptPrefix).size();
    std::uint64_t version = 0;
    const auto [end, error] = std::from_chars(begin, name.data() + name.size(), version);
    if (error == std::errc() && end == name.data() + name.size()) kept.push_back(version);
  }
  std::ranges::sort(kept);
  return kept;
}

std::vector<std::uint64_t> DroppedCheckpoints(const std::vector<std::uint64_t>& kept, std::size_t newest, std::uint64_t floor,
                                              const std::set<std::uint64_t>& also) {
  const auto base_of = [&](std::uint64_t version) {  // 0: it is derived from the beginning.
    const auto after = std::ranges::lower_bound(kept, version);
    return after == kept.begin() ? 0 : *(after - 1);
  };
  std::set<std::uint64_t> bases;
  for (const std::uint64_t version : also) bases.insert(base_of(version));
  const std::uint64_t oldest_base = base_of(floor);
  std::vector<std::uint64_t> dropped;
  for (std::size_t i = 0; i < kept.size() && kept.size() - i > newest; ++i) {
    if (kept[i] < oldest_base && !bases.contains(kept[i])) dropped.push_back(kept[i]);
  }
  return dropped;
}

Status DropCheckpoint(const std::filesystem::path& folder, std::uint64_t version) {
  std::error_code failed;
  std::filesystem::remove(folder / KeptName(version), failed);
  return failed ? ErrorStatus(Code::kUnavailable, "cannot remove", (folder / KeptName(version)).string(), failed.message()) : OkStatus();
}

Status WriteActs(const std::filesystem::path& folder, const v1::ActLog& acts) { return WriteFileAtomically(folder / kActs, Sealed(acts)); }

Result<v1::ActLog> ReadActs(const std::filesystem::path& folder) {
  auto acts = ReadSealed<v1::ActLog>(folder / kActs);
  return !acts && acts.error().code == Code::kNotFound ? v1::ActLog() : std::move(acts);
}

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
    if (name != kName && !name.starts_with(kKeptPrefix)) continue;
    FUSELINE_ASSIGN_OR_RETURN(const auto checkpoint, ReadSealed<v1::LearnerCheckpoint>(entry.path()));
    referenced.merge(FilesOf(checkpoint));
  }
  for (const auto& path : candidates) {
    if (!referenced.contains(path.filename().string())) std::filesystem::remove(path, failed);  // The next one tries again.
  }
  return OkStatus();
}

// A learner that goes on may drop the checkpoint under our hands: then the one before it is taken.
Result<std::uint64_t> PrepareToDeriveAgain(const v1::PolicyManifest& version, const std::filesystem::path& from,
                                           const std::filesystem::path& to) {
  FUSELINE_FAIL_IF_ERROR(MakeFolders(to));
  v1::ActLog acts;
  *acts.mutable_acts() = version.lineage().acts();
  FUSELINE_FAIL_IF_ERROR(WriteActs(to, acts));
  std::vector<std::uint64_t> kept = KeptCheckpoints(from);
  std::erase_if(kept, [&](std::uint64_t base) { return base >= version.version(); });
  for (; !kept.empty(); kept.pop_back()) {
    const auto checkpoint = ReadSealed<v1::LearnerCheckpoint>(from / KeptName(kept.back()));
    if (!checkpoint || checkpoint->root() != version.lineage().root()) continue;
    const bool whole = std::ranges::all_of(FilesOf(*checkpoint), [&](const std::string& name) {
      return std::filesystem::exists(to / name) || Share(from / name, to / name);
    });
    if (!whole) continue;
    FUSELINE_FAIL_IF_ERROR(WriteCheckpoint(to, *checkpoint, /*keep_version=*/0));
    return kept.back();
  }
  return 0;
}

}  // namespace fuseline
