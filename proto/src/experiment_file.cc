#include "fuseline/proto/experiment_file.h"

#include "settings_yaml.h"

namespace fuseline {
namespace {

// Of what an arm may serve, the document names one.
Status CheckServes(const SettingOrigins& origins, const std::string& list, int arms) {
  for (int i = 0; i < arms; ++i) {
    const std::string arm = list + '[' + std::to_string(i) + "].";
    std::string first;
    for (const char* const way : {"version", "alias", "static_weights"}) {
      const auto origin = origins.find(arm + way);
      if (origin == origins.end()) continue;
      if (!first.empty()) return ErrorStatus(Code::kInvalidInput, origin->second + ':', arm + way, "stands beside", arm + first);
      first = way;
    }
  }
  return OkStatus();
}

}  // namespace

Result<v1::Experiment> ReadExperimentFile(const std::string& file, const std::string& text) {
  v1::Experiment experiment;
  SettingOrigins origins;
  FUSELINE_FAIL_IF_ERROR(ReadYaml(file, text, nullptr, &experiment, &origins));
  for (const char* const made : {"state", "revision", "history"}) {
    const auto origin = origins.find(made);
    if (origin != origins.end()) return Error(Code::kInvalidInput, origin->second + ':', made, "is nobody's to write");
  }
  FUSELINE_FAIL_IF_ERROR(CheckServes(origins, "arms", experiment.arms_size()));
  FUSELINE_FAIL_IF_ERROR(CheckServes(origins, "shadows", experiment.shadows_size()));
  return experiment;
}

}  // namespace fuseline
