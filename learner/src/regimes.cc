#include "regimes.h"

#include "checkpoint.h"
#include "fuseline/core/digest.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/settings.h"
#include "learner_impl.h"

namespace fuseline {

v1::Regime RegimeOf(const v1::Config& config, const std::string& build, const ComputeFacts& facts) {
  v1::Regime regime;
  regime.set_settings_sha256(SettingsDigest(config));
  regime.set_settings(CanonicalBytes(ShapingSettings(config)));
  regime.set_build(build);
  regime.set_blas(facts.blas);
  regime.set_threads(static_cast<std::uint32_t>(facts.threads));
  regime.set_device(facts.device);
  return regime;
}

bool SameConditions(const v1::Regime& a, const v1::Regime& b) {
  return a.settings_sha256() == b.settings_sha256() && a.build() == b.build() && a.blas() == b.blas() &&
         a.threads() == b.threads() && a.device() == b.device();
}

// Where a state is continued under other conditions, it is kept as it was: what follows can be derived again from there. The regime
// itself is durable with the next checkpoint; a death before it begins the regime again at the same instant.
Status Learner::Impl::EnterRegime(v1::LearnerCheckpoint restored) {
  v1::Regime here = RegimeOf(config, build, algorithm->facts());
  if (!regimes.empty() && SameConditions(regimes.back(), here)) return OkStatus();
  here.set_first_trajectory(counts.trajectories());
  here.set_first_step(counts.steps());
  const bool begins = regimes.empty();
  regimes.push_back(std::move(here));
  if (regimes.size() > kRegimesMax) regimes.erase(regimes.begin());
  if (begins) return OkStatus();
  log.Info("learner.regime_begun", "trajectories", counts.trajectories(), "steps", counts.steps(), "settings",
           ToHex(regimes.back().settings_sha256()).substr(0, 16), "build", build);
  restored.clear_regimes();
  for (const v1::Regime& regime : regimes) *restored.add_regimes() = regime;
  return KeepCheckpoint(folder, restored, {.version = counts.versions(), .steps = counts.steps()});
}

Result<v1::Regime> RegimeHere(const v1::Config& config, const std::string& build) {
  const v1::FeatureSchema schema = SchemaOf(config);
  FUSELINE_FAIL_IF_ERROR(ValidateSchema(schema));
  FUSELINE_ASSIGN_OR_FAIL(v1::ActionRanges ranges, PolicyRangesOf(config));
  FUSELINE_ASSIGN_OR_FAIL(const ActionSpace space, ActionSpace::Create(std::move(ranges)));
  FUSELINE_ASSIGN_OR_FAIL(const auto algorithm, CreateAlgorithm(config, ProblemOf(FeatureEncoder(schema), space)));
  return RegimeOf(config, build, algorithm->facts());
}

}  // namespace fuseline
