#include "experiment_keeper.h"

#include <utility>

#include "fuseline/core/file.h"
#include "fuseline/policy_store/experiments.h"
#include "fuseline/proto/schema.h"

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
  FUSELINE_ASSIGN_OR_RETURN(const auto held, ReadExperiments(redis, keys));
  if (held.empty() && kept_.experiments_size() > 0) {
    for (const v1::Experiment& experiment : kept_.experiments())
      FUSELINE_RETURN_IF_ERROR(WriteExperiment(redis, keys, epoch, nullptr, experiment, changes_kept));
    instruments.log.Warn("rollout.experiments_restored", "experiments", kept_.experiments_size());
    return OkStatus();
  }
  v1::ExperimentList list;
  for (const auto& [name, experiment] : held) *list.add_experiments() = experiment;
  std::string bytes = CanonicalBytes(list);
  if (bytes == CanonicalBytes(kept_)) return OkStatus();
  FUSELINE_RETURN_IF_ERROR(WriteFileAtomically(file_, bytes));
  kept_ = std::move(list);
  return OkStatus();
}

}  // namespace fuseline
