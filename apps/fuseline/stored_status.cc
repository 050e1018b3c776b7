#include "stored_status.h"

#include "fuseline/policy_store/aliases.h"
#include "fuseline/policy_store/archive.h"
#include "fuseline/proto/settings.h"
#include "opening.h"

namespace fuseline {
namespace {

// Where the aliases stood when Redis was last seen.
Status ReadLive(const std::filesystem::path& archive, PublicationStatus& status) {
  DiskFileSystem files;
  FUSELINE_ASSIGN_OR_RETURN(const v1::AliasState aliases, Archive::OpenReadOnly(archive, files).LoadAliases());
  const v1::AliasChange* live = FindAlias(aliases, kLiveAlias);
  if (live == nullptr) return OkStatus();
  status.live_version = live->to_version();
  if (live->pinned()) status.pin = *live;
  return OkStatus();
}

}  // namespace

Result<PipelineStatus> ReadStoredStatus(const std::filesystem::path& state) {
  const std::filesystem::path settings = state / kSettingsFile;
  if (!std::filesystem::exists(settings)) return Error(Code::kNotFound, "no state folder:", state.string());
  FUSELINE_ASSIGN_OR_FAIL(const FolderLock lock, FolderLock::Acquire(state));
  SettingsSources sources;
  sources.file = settings.string();
  FUSELINE_ASSIGN_OR_FAIL(const v1::Config config, LoadSettings(sources));

  Log log(Severity::kError);
  Metrics metrics;
  SystemClock clock;
  const StateFolders folders(state);
  PipelineStatus status;
  if (std::filesystem::exists(folders.sessions)) {  // Not that of `fuseline learn`.
    FUSELINE_ASSIGN_OR_FAIL(const auto sessionizer, Sessionizer::OpenReadOnly(folders.sessions, config.sessionizer(), clock, log, metrics));
    for (const std::int32_t partition : sessionizer->partitions()) {
      status.partitions[partition] = StatusOf(sessionizer->Position(partition));
    }
  }
  if (!std::filesystem::exists(folders.learner)) return status;  // That of `fuseline sessionize`.
  FUSELINE_ASSIGN_OR_FAIL(const auto learner, Learner::Open(folders.learner, config, BuildText(), log, metrics, clock));
  status.learner = learner->progress();
  status.learned_names = learner->DurableNames();
  status.weights_sha256 = learner->WeightsSha256();
  FUSELINE_FAIL_IF_ERROR(ReadLive(folders.versions, status.publication));
  if (status.learner.scorer || std::filesystem::exists(folders.scorers)) FUSELINE_FAIL_IF_ERROR(ReadLive(folders.scorers, status.scorer_publication.emplace()));
  return status;
}

}  // namespace fuseline
