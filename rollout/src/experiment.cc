#include "fuseline/rollout/experiment.h"

#include <cmath>
#include <set>
#include <utility>

namespace fuseline {
namespace {

constexpr std::size_t kNameBytesMax = 128;

Status CheckName(std::string_view what, const std::string& name) {
  if (!name.empty() && name.size() <= kNameBytesMax) return OkStatus();
  return ErrorStatus(Code::kInvalidInput, what, "has 1 to 128 bytes, not", name.size());
}

Status CheckArms(std::string_view what, const google::protobuf::RepeatedPtrField<v1::Arm>& arms) {
  std::set<std::string> names;
  for (const v1::Arm& arm : arms) {
    FUSELINE_RETURN_IF_ERROR(CheckName(std::string(what) + ".name", arm.name()));
    if (!names.insert(arm.name()).second) return ErrorStatus(Code::kInvalidInput, what, "is there twice:", arm.name());
    const bool serves = arm.version() > 0 || !arm.alias().empty() || arm.static_weights();
    if (!serves) return ErrorStatus(Code::kInvalidInput, what, arm.name(), "needs one of version, alias and static_weights");
  }
  return OkStatus();
}

Status CheckGuardrail(const v1::Guardrail& guardrail) {
  if (!v1::Guardrail::Metric_IsValid(guardrail.metric())) return ErrorStatus(Code::kInvalidInput, "guardrails.metric is unknown");
  if (!v1::Guardrail::Action_IsValid(guardrail.action())) return ErrorStatus(Code::kInvalidInput, "guardrails.action is unknown");
  if (!(guardrail.tolerance() >= 0 && guardrail.tolerance() < 1))
    return ErrorStatus(Code::kInvalidInput, "guardrails.tolerance must be in [0, 1), it is", guardrail.tolerance());
  if (!(guardrail.alpha() >= 0 && guardrail.alpha() <= 0.5))
    return ErrorStatus(Code::kInvalidInput, "guardrails.alpha must be in [0, 0.5], it is", guardrail.alpha());
  return OkStatus();
}

std::vector<double> WeightsOf(const v1::Experiment& experiment) {
  std::vector<double> weights;
  for (const v1::Arm& arm : experiment.arms()) weights.push_back(static_cast<double>(arm.share()) / kWholeShare);
  return weights;
}

HashVersion VersionOf(const v1::Experiment& experiment) {
  return experiment.hash_version() == 1 ? HashVersion::kOne : HashVersion::kTwo;
}

// How many of the buckets 0 / count, 1 / count … lie below `end`, as the doubles that users are compared by.
double BucketsBelow(double end, std::uint32_t count) {
  auto n = static_cast<std::int64_t>(end * count);
  while (n > 0 && static_cast<double>(n - 1) / count >= end) --n;
  while (n < count && static_cast<double>(n) / count < end) ++n;
  return static_cast<double>(n);
}

}  // namespace

Status ValidateExperiment(const v1::Experiment& experiment) {
  FUSELINE_RETURN_IF_ERROR(CheckName("name", experiment.name()));
  if (experiment.salt().size() > kNameBytesMax) return CheckName("salt", experiment.salt());
  FUSELINE_RETURN_IF_ERROR(CheckArms("arms", experiment.arms()));
  FUSELINE_RETURN_IF_ERROR(CheckArms("shadows", experiment.shadows()));
  if (experiment.arms_size() < 2 || experiment.arms_size() > kArmsMax)
    return ErrorStatus(Code::kInvalidInput, "arms must be 2 to", kArmsMax, "they are", experiment.arms_size());
  if (experiment.shadows_size() > kExperimentShadowsMax)
    return ErrorStatus(Code::kInvalidInput, "shadows are at most", kExperimentShadowsMax, "they are", experiment.shadows_size());
  std::uint64_t shares = 0;
  for (const v1::Arm& arm : experiment.arms()) shares += arm.share();
  if (shares != kWholeShare) return ErrorStatus(Code::kInvalidInput, "arms.share must sum to 10000, they sum to", shares);
  if (experiment.coverage() > kWholeShare) return ErrorStatus(Code::kInvalidInput, "coverage must be at most 10000, it is", experiment.coverage());
  if (experiment.shadow_share() > kWholeShare)
    return ErrorStatus(Code::kInvalidInput, "shadow_share must be at most 10000, it is", experiment.shadow_share());
  if (experiment.hash_version() > 2) return ErrorStatus(Code::kInvalidInput, "hash_version must be 1 or 2, it is", experiment.hash_version());
  if (experiment.has_within()) {
    const v1::Namespace& within = experiment.within();
    FUSELINE_RETURN_IF_ERROR(CheckName("within.name", within.name()));
    if (!(within.begin() >= 0 && within.begin() < within.end() && within.end() <= 1))
      return ErrorStatus(Code::kInvalidInput, "within must be 0 <= begin < end <= 1, it is", within.begin(), within.end());
  }
  if (!(experiment.sample_ratio_alpha() >= 0 && experiment.sample_ratio_alpha() <= 0.5))
    return ErrorStatus(Code::kInvalidInput, "sample_ratio_alpha must be in [0, 0.5], it is", experiment.sample_ratio_alpha());
  for (const v1::Guardrail& guardrail : experiment.guardrails()) FUSELINE_RETURN_IF_ERROR(CheckGuardrail(guardrail));
  return OkStatus();
}

v1::Experiment LearningBesideStatic(const std::string& name, double static_share) {
  v1::Experiment experiment;
  experiment.set_name(name);
  experiment.set_coverage(kWholeShare);
  v1::Arm& fixed = *experiment.add_arms();
  fixed.set_name("static");
  fixed.set_static_weights(true);
  fixed.set_share(static_cast<std::uint32_t>(std::lround(static_share * kWholeShare)));
  v1::Arm& learning = *experiment.add_arms();
  learning.set_name("learning");
  learning.set_alias("live");
  learning.set_explore(true);
  learning.set_share(kWholeShare - fixed.share());
  return experiment;
}

bool IsServing(const v1::Experiment& experiment) {
  return experiment.state() == v1::Experiment::RUNNING || experiment.state() == v1::Experiment::PAUSED;
}

std::uint32_t NextStage(const v1::Experiment& experiment) {
  for (const std::uint32_t stage : kRampStages) {
    if (stage > experiment.coverage()) return stage;
  }
  return experiment.coverage();
}

Result<v1::Experiment> Changed(v1::Experiment experiment, v1::Experiment::State state, std::uint32_t coverage, std::string_view who,
                               std::string_view why, std::int64_t wall_ms) {
  if (!IsServing(experiment)) {
    return Error(Code::kConflict, "experiment has ended, it is", v1::Experiment::State_Name(experiment.state()), experiment.name());
  }
  if (coverage < experiment.coverage()) {
    return Error(Code::kConflict, "coverage never shrinks, users would change sides; stop the experiment instead. It is", experiment.coverage(),
                 "not", coverage);
  }
  if (coverage > kWholeShare) return Error(Code::kInvalidInput, "coverage must be at most 10000, it is", coverage);
  if (experiment.history_size() >= kHistoryMax) return Error(Code::kInvalidInput, "experiment has changed too often:", experiment.history_size());
  experiment.set_state(state);
  experiment.set_coverage(coverage);
  experiment.set_revision(experiment.revision() + 1);
  v1::ExperimentChange& change = *experiment.add_history();
  change.set_revision(experiment.revision());
  change.set_state(state);
  change.set_coverage(coverage);
  change.set_who(std::string(who));
  change.set_why(std::string(why));
  change.set_wall_ms(wall_ms);
  return experiment;
}

bool IsFurther(const v1::Experiment& a, const v1::Experiment& b) {
  if (IsServing(a) != IsServing(b)) return IsServing(b);
  if (a.coverage() != b.coverage()) return a.coverage() > b.coverage();
  return a.revision() > b.revision();
}

bool MayShareUsers(const v1::Experiment& a, const v1::Experiment& b) {
  if (!a.has_within() || !b.has_within() || a.within().name() != b.within().name()) return true;
  return a.within().begin() < b.within().end() && b.within().begin() < a.within().end();
}

Result<ArmChooser> ArmChooser::Create(const v1::Experiment& experiment) {
  FUSELINE_FAIL_IF_ERROR(ValidateExperiment(experiment));
  ArmChooser chooser;
  chooser.salt_ = experiment.salt().empty() ? experiment.name() : experiment.salt();
  chooser.version_ = VersionOf(experiment);
  if (experiment.has_within()) {
    chooser.namespace_ = experiment.within().name();
    chooser.part_ = {experiment.within().begin(), experiment.within().end()};
  }
  FUSELINE_ASSIGN_OR_FAIL(chooser.ranges_, BucketRangesOf(WeightsOf(experiment), static_cast<double>(experiment.coverage()) / kWholeShare));
  return chooser;
}

int ArmChooser::Choose(std::string_view user_id) const {
  return IsWithin(user_id) ? ArmOfBucket(Bucket(user_id), ranges_) : kNoArm;
}

std::vector<double> ExpectedShares(const v1::Experiment& experiment, std::uint32_t coverage) {
  std::vector<double> shares = WeightsOf(experiment);
  if (coverage == 0) return shares;
  const auto ranges = BucketRangesOf(shares, static_cast<double>(coverage) / kWholeShare);
  if (!ranges) return shares;
  const std::uint32_t count = BucketCountOf(VersionOf(experiment));
  std::vector<double> held;
  double all = 0;
  for (const BucketRange& range : *ranges) {
    held.push_back(BucketsBelow(range.end, count) - BucketsBelow(range.begin, count));
    all += held.back();
  }
  if (all == 0) return shares;
  for (double& share : held) share /= all;
  return held;
}

}  // namespace fuseline
