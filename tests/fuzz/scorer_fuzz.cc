// Any version at all: ScorerNetwork::Create must refuse it, or return a scorer whose scores lie in their tasks' ranges (or are not numbers, where
// products leave float32). Input: an ExportedVersion without its head.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "fuseline/core/check.h"
#include "fuseline/fusion/scorer_network.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/v1/policy.pb.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fuseline;
  v1::ExportedVersion version;
  v1::PolicyManifest manifest;
  if (!version.ParseFromArray(data, static_cast<int>(size)) || !manifest.ParseFromString(version.manifest())) return 0;
  const auto tensors = DecodeWeights(version.weights());
  if (!tensors) return 0;
  const auto network = ScorerNetwork::Create(manifest, *tensors);
  if (!network) return 0;
  const std::vector<CandidateView> candidates(3);
  const std::vector<std::string_view> items = {"a", "b", "c"};
  const auto tasks = static_cast<std::size_t>(manifest.schema().tasks_size());
  std::vector<float> scores(candidates.size() * tasks);
  ScorerWorkspace workspace;
  FUSELINE_CHECK(network->Score({}, {}, "u", candidates, items, workspace, scores).ok());
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const v1::Task& task = manifest.schema().tasks(static_cast<int>(i % tasks));
    FUSELINE_CHECK(std::isnan(scores[i]) || (scores[i] >= task.min() && scores[i] <= task.max()));
  }
  return 0;
}
