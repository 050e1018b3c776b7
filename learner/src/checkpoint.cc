#include "checkpoint.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <system_error>

#include "fuseline/core/digest.h"
#include "fuseline/core/file.h"
#include "fuseline/learner/learner.h"
#include "fuseline/proto/schema.h"
#include "regimes.h"

namespace fuseline {
namespace {

constexpr const char* kName = "checkpoint";
constexpr const char* kKeptPrefix = "checkpoint-v";
constexpr const char* kStepsMark = "-s";
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

std::filesystem::path KeptName(const KeptCheckpoint& kept) {
  const std::string name = std::string(kKeptPrefix) + std::to_string(kept.version);
  return kept.steps == 0 ? name : name + kStepsMark + std::to_string(kept.steps);
}

std::optional<std::uint64_t> NumberOf(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? std::optional(number) : std::nullopt;
}

std::set<std::string> FilesOf(const v1::ScorerState& scorer) {
  std::set<std::string> names{scorer.inputs().name(), scorer.plain().name(), scorer.waiting().name(), scorer.held_back().name()};
  if (scorer.has_critics()) names.insert(scorer.critics().name());
  if (scorer.has_weighted()) names.insert(scorer.weighted().name());
  if (scorer.has_accepted_weights()) names.insert(scorer.accepted_weights().name());
  if (scorer.has_pending_weights()) names.insert(scorer.pending_weights().name());
  return names;
}

std::set<std::string> FilesOf(const v1::LearnerCheckpoint& checkpoint) {
  std::set<std::string> names{checkpoint.tensors().name()};
  if (checkpoint.has_pending_weights()) names.insert(checkpoint.pending_weights().name());
  if (checkpoint.has_priorities()) names.insert(checkpoint.priorities().priorities().name());
  if (checkpoint.has_reward_guard()) names.insert(checkpoint.reward_guard().users().name());
  if (checkpoint.has_beside()) names.insert(checkpoint.beside().name());
  if (checkpoint.has_scorer()) names.merge(FilesOf(checkpoint.scorer()));
  for (const v1::KeptActor& actor : checkpoint.actors()) names.insert(actor.parameters().name());
  for (const v1::RowSegment& segment : checkpoint.replay().segments()) names.insert(segment.file().name());
  for (const v1::RowSegment& segment : checkpoint.held_out().segments()) names.insert(segment.file().name());
  return names;
}

// Whether a version of this lineage went through the state that the checkpoint holds: of the same learner, and under the same regime.
bool IsOfHistory(const v1::LearnerCheckpoint& checkpoint, const v1::Lineage& lineage) {
  if (checkpoint.root() != lineage.root()) return false;
  if (checkpoint.regimes().empty() || lineage.regimes().empty()) return true;  // An older release's.
  const v1::Regime& last = *checkpoint.regimes().rbegin();
  return std::ranges::any_of(lineage.regimes(), [&](const v1::Regime& regime) {
    return regime.first_trajectory() == last.first_trajectory() && regime.first_step() == last.first_step() &&
           SameConditions(regime, last);
  });
}

bool IsBeforeScorer(const v1::LearnerCheckpoint& checkpoint, const v1::PolicyManifest& version) {
  return checkpoint.scorer().counts().versions() < version.version() &&
         checkpoint.counts().trajectories() <= version.lineage().trajectories_taken();
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

Status WriteCheckpoint(const std::filesystem::path& folder, const v1::LearnerCheckpoint& checkpoint) {
  return WriteFileAtomically(folder / kName, Sealed(checkpoint));
}

Status KeepCheckpoint(const std::filesystem::path& folder, const v1::LearnerCheckpoint& checkpoint, const KeptCheckpoint& as) {
  return WriteFileAtomically(folder / KeptName(as), Sealed(checkpoint));
}

Result<v1::LearnerCheckpoint> ReadCheckpoint(const std::filesystem::path& folder) {
  return ReadSealed<v1::LearnerCheckpoint>(folder / kName);
}

std::vector<KeptCheckpoint> KeptCheckpoints(const std::filesystem::path& folder) {
  std::vector<KeptCheckpoint> kept;
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator(folder, failed)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kKeptPrefix)) continue;
    const std::string rest = name.substr(std::string_view(kKeptPrefix).size());
    const std::size_t mark = rest.find(kStepsMark);
    const auto version = NumberOf(std::string_view(rest).substr(0, mark));
    const auto steps = mark == std::string::npos ? std::optional<std::uint64_t>(0)
                                                 : NumberOf(std::string_view(rest).substr(mark + 2));
    if (version && steps) kept.push_back({*version, *steps});
  }
  std::ranges::sort(kept);
  return kept;
}

std::vector<KeptCheckpoint> DroppedCheckpoints(const std::vector<KeptCheckpoint>& kept, std::size_t newest, std::uint64_t floor,
                                               const std::set<std::uint64_t>& also) {
  const auto base_of = [&](std::uint64_t version) {  // The first: it is derived from the beginning.
    const auto after = std::ranges::lower_bound(kept, KeptCheckpoint{.version = version});
    return after == kept.begin() ? KeptCheckpoint{} : *(after - 1);
  };
  std::vector<KeptCheckpoint> dropped;
  if (kept.empty()) return dropped;
  std::set<KeptCheckpoint> bases{base_of(floor)};
  for (const std::uint64_t version : also) bases.insert(base_of(version));
  for (std::uint64_t version = floor + 1; version <= kept.back().version + 1; ++version) bases.insert(base_of(version));
  for (std::size_t i = 0; i < kept.size() && kept.size() - i > newest; ++i)
    if (!bases.contains(kept[i])) dropped.push_back(kept[i]);
  return dropped;
}

Status DropCheckpoint(const std::filesystem::path& folder, const KeptCheckpoint& kept) {
  const std::filesystem::path path = folder / KeptName(kept);
  std::error_code failed;
  std::filesystem::remove(path, failed);
  return failed ? ErrorStatus(Code::kUnavailable, "cannot remove", path.string(), failed.message()) : OkStatus();
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
Result<DerivationBase> PrepareToDeriveAgain(const v1::PolicyManifest& version, const std::filesystem::path& from,
                                            const std::filesystem::path& to) {
  FUSELINE_FAIL_IF_ERROR(MakeFolders(to));
  v1::ActLog acts;
  *acts.mutable_acts() = version.lineage().acts();
  FUSELINE_FAIL_IF_ERROR(WriteActs(to, acts));
  std::vector<KeptCheckpoint> kept = KeptCheckpoints(from);
  if (!version.has_scorer()) std::erase_if(kept, [&](const KeptCheckpoint& base) { return base.version >= version.version(); });
  for (; !kept.empty(); kept.pop_back()) {
    const auto checkpoint = ReadSealed<v1::LearnerCheckpoint>(from / KeptName(kept.back()));
    if (!checkpoint || !IsOfHistory(*checkpoint, version.lineage())) continue;
    if (version.has_scorer() && !IsBeforeScorer(*checkpoint, version)) continue;
    const bool whole = std::ranges::all_of(FilesOf(*checkpoint), [&](const std::string& name) {
      return std::filesystem::exists(to / name) || Share(from / name, to / name);
    });
    if (!whole) continue;
    FUSELINE_FAIL_IF_ERROR(WriteCheckpoint(to, *checkpoint));
    return DerivationBase{kept.back().version, checkpoint->counts().trajectories(), checkpoint->counts().steps()};
  }
  return DerivationBase{};
}

}  // namespace fuseline
