#include "experiment_keeper.h"

#include <algorithm>
#include <utility>

#include "fuseline/core/file.h"
#include "fuseline/policy_store/experiments.h"
#include "fuseline/proto/schema.h"
#include "fuseline/rollout/experiment.h"

namespace fuseline {

Result<ExperimentKeeper> ExperimentKeeper::Open(const std::filesystem::path& folder) {
  ExperimentKeeper keeper(folder / "experiments.pb");
  const auto bytes = ReadFile(keeper.file_);
  if (!bytes && bytes.error().code == Code::kNotFound) return keeper;
  if (!bytes) return tl::unexpected(bytes.error());
  if (!keeper.kept_.ParseFromString(*bytes)) return Error(Code::kCorrupt, "experiments cannot be read:", keeper.file_.string());
  return keeper;
}

Status ExperimentKeeper::Follow(RedisConnection& redis, const PolicyKeys& keys, std::uint64_t epoch, std::int64_t changes_kept,
                                Instruments instruments) {
  std::map<std::string, std::string> unreadable;
  FUSELINE_ASSIGN_OR_RETURN(auto held, ReadExperiments(redis, keys, &unreadable));
  int restored = 0;
  for (const v1::Experiment& kept : kept_.experiments()) {
    const auto found = held.find(kept.name());
    if (found != held.end() && !IsFurther(kept, found->second)) continue;
    const auto garbage = unreadable.extract(kept.name());
    const std::string seen = garbage ? garbage.mapped() : found != held.end() ? CanonicalBytes(found->second) : std::string();
    FUSELINE_RETURN_IF_ERROR(RestoreExperiment(redis, keys, epoch, seen, kept, changes_kept));
    held[kept.name()] = kept;
    ++restored;
  }
  if (restored > 0) instruments.log.Warn("rollout.experiments_restored", "experiments", restored);
  for (const auto& [name, bytes] : unreadable) {
    if (!unknown_.contains(name)) instruments.log.Error("rollout.experiment_unreadable", "experiment", name, "bytes", bytes.size());
  }
  unknown_ = std::move(unreadable);
  v1::ExperimentList list;
  for (const auto& [name, experiment] : held) *list.add_experiments() = experiment;
  std::string bytes = CanonicalBytes(list);
  if (bytes == CanonicalBytes(kept_)) return OkStatus();
  FUSELINE_RETURN_IF_ERROR(WriteFileAtomically(file_, bytes));
  kept_ = std::move(list);
  return OkStatus();
}

bool ExperimentKeeper::doubts_live() const {
  const auto doubts = [](const v1::Experiment& experiment) {
    const auto is_live = [](const v1::Arm& arm) { return arm.alias() == kLiveAlias; };
    return experiment.state() == v1::Experiment::PAUSED && std::any_of(experiment.arms().begin(), experiment.arms().end(), is_live);
  };
  return std::any_of(kept_.experiments().begin(), kept_.experiments().end(), doubts);
}

}  // namespace fuseline
