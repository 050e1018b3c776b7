#include "policy_values.h"

#include <optional>
#include <vector>

#include "demo_scorer.h"
#include "fuseline/fusion/action_space.h"
#include "fuseline/fusion/policy_network.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/policy_store/archive.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/settings.h"
#include "fuseline/simulator/local_rankers.h"

namespace fuseline {
namespace {

constexpr double kDays = 1.0;
constexpr double kPatience = 1.0;
constexpr std::size_t kSearchRequests = 200;
constexpr std::size_t kSearchRounds = 2;

// `scorer`: whose scores the ranker gets; null: the world's.
Result<double> ValueOf(const World& world, RankService& ranker, const ScorerNetwork* scorer) {
  std::optional<ScoredRankService> scored;
  if (scorer != nullptr) scored.emplace(*scorer, world.task_count(), ranker);
  RankService& asked = scored ? static_cast<RankService&>(*scored) : ranker;
  FUSELINE_ASSIGN_OR_FAIL(const ArmStatistics statistics, Evaluate(world, asked, kDays));
  return statistics.Summarise("judged").mean_session_reward;
}

Result<double> ValueOfAction(const World& world, const ActionSpace& space, std::vector<float> action, const ScorerNetwork* scorer) {
  FixedActionRanker ranker(world, space, {std::move(action)}, "judged");
  return ValueOf(world, ranker, scorer);
}

}  // namespace

Result<PolicyValues> MeasurePolicies(const World& world, const v1::Config& config, const std::filesystem::path& archive,
                                     std::uint64_t version, const ScorerNetwork* scorer) {
  FUSELINE_ASSIGN_OR_FAIL(const v1::ActionRanges ranges, ActionRangesOf(config.policy(), SchemaOf(config)));
  FUSELINE_ASSIGN_OR_FAIL(const ActionSpace space, ActionSpace::Create(ranges));
  PolicyValues values;
  const std::vector<float> fixed(space.static_action().begin(), space.static_action().end());
  FUSELINE_ASSIGN_OR_FAIL(values.fixed, ValueOfAction(world, space, fixed, nullptr));
  const SearchResult best = SearchFixedAction(world, space, world.segment_count(), kPatience, kSearchRequests, kSearchRounds);
  FUSELINE_ASSIGN_OR_FAIL(values.best_fixed, ValueOfAction(world, space, best.action, nullptr));
  values.learned = values.fixed;
  if (scorer != nullptr) {
    FUSELINE_ASSIGN_OR_FAIL(values.fixed_by_scorer, ValueOfAction(world, space, fixed, scorer));
    values.learned = *values.fixed_by_scorer;
  }
  if (version == 0) return values;

  DiskFileSystem files;
  FUSELINE_ASSIGN_OR_FAIL(const Archive versions,
                          Archive::Open(archive, static_cast<std::uint64_t>(config.policy_store().part_bytes()), files));
  FUSELINE_ASSIGN_OR_FAIL(const ArchivedVersion found, versions.Get(version));
  FUSELINE_ASSIGN_OR_FAIL(const TensorMap tensors, DecodeWeights(found.version.weights));
  FUSELINE_ASSIGN_OR_FAIL(const PolicyNetwork network, PolicyNetwork::Create(found.version.manifest, tensors));
  NetworkRanker ranker(world, network, "judged");
  FUSELINE_ASSIGN_OR_FAIL(values.learned, ValueOf(world, ranker, scorer));
  return values;
}

}  // namespace fuseline
