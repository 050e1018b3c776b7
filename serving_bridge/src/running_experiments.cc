#include "running_experiments.h"

#include <utility>

#include "fuseline/fusion/policy_keys.h"

namespace fuseline {
namespace {

// Of a pinned version, which no alias brings: only its number.
v1::AliasChange ChangeOfVersion(std::uint64_t version) {
  v1::AliasChange change;
  change.set_to_version(version);
  return change;
}

// The change that an alias stands at, unless it is older than the last one that was taken of it.
Result<v1::AliasChange> ChangeOfAlias(const std::string& alias, const std::map<std::string, std::string>& aliases,
                                      const std::map<std::string, v1::AliasChange>& followed) {
  const auto bytes = aliases.find(alias);
  const auto last = followed.find(alias);
  if (bytes == aliases.end()) {
    if (last != followed.end()) return last->second;  // Redis forgot.
    return Error(Code::kNotFound, "alias points nowhere:", alias);
  }
  FUSELINE_ASSIGN_OR_FAIL(v1::AliasChange change, DecodeAliasChange(bytes->second));
  if (last != followed.end() && !IsNewer(change, last->second)) return last->second;
  return change;
}

}  // namespace

std::map<std::string, v1::Experiment> RunningExperiments::Definitions(const std::map<std::string, std::string>& defined,
                                                                      const Refuse& refuse) {
  for (const auto& [name, bytes] : defined) {
    v1::Experiment experiment;
    const bool is_read = experiment.ParseFromString(bytes) && experiment.name() == name;
    const Status valid = is_read ? ValidateExperiment(experiment) : ErrorStatus(Code::kCorrupt, "experiment cannot be read:", name);
    if (!valid.ok()) {
      refuse(valid);
      continue;
    }
    const auto seen = seen_.find(name);
    if (seen == seen_.end() || !IsFurther(seen->second, experiment)) seen_[name] = std::move(experiment);
  }
  std::map<std::string, v1::Experiment> definitions = seen_;
  for (const v1::Experiment& experiment : built_in_) definitions.emplace(experiment.name(), experiment);
  return definitions;
}

Result<ServedArm> RunningExperiments::Serve(const std::string& experiment, const v1::Arm& arm,
                                            const std::map<std::string, std::string>& aliases, const Fetch& fetch, const Refuse& refuse,
                                            Held& held_versions) {
  ServedArm served{.name = arm.name(),
                   .explore = arm.explore(),
                   .requests_total = metrics_.GetCounter("fuseline_serving_bridge_requests_total", "requests ranked",
                                                         {{"experiment", experiment}, {"arm", arm.name()}})};
  if (arm.static_weights()) return served;
  served.follows_live = arm.alias() == kLiveAlias;
  if (served.follows_live) return served;

  auto change = arm.alias().empty() ? Result<v1::AliasChange>(ChangeOfVersion(arm.version())) : ChangeOfAlias(arm.alias(), aliases, followed_);
  std::shared_ptr<const LiveVersion>& held = held_versions[arm.name()];
  if (change && held != nullptr && held->change.to_version() == change->to_version() &&
      held->change.manifest_sha256() == change->manifest_sha256()) {
    served.version = held;
    return served;
  }
  auto version = change ? fetch(*change) : Result<std::shared_ptr<const LiveVersion>>(tl::unexpected(change.error()));
  if (version) {
    held = *std::move(version);
    if (!arm.alias().empty()) followed_[arm.alias()] = *change;
  } else if (held == nullptr || version.error().code == Code::kUnavailable) {
    return tl::unexpected(version.error());
  } else {
    refuse(version.error());
  }
  served.version = held;
  return served;
}

Result<RunningExperiment> RunningExperiments::Begin(const v1::Experiment& definition, const std::map<std::string, std::string>& aliases,
                                                    const Fetch& fetch, const Refuse& refuse) {
  FUSELINE_ASSIGN_OR_FAIL(ArmChooser chooser, ArmChooser::Create(definition));
  RunningExperiment running{definition, std::move(chooser), {}, {}};
  HeldVersions& held = versions_[definition.name()];
  for (const v1::Arm& arm : definition.arms()) {
    FUSELINE_ASSIGN_OR_FAIL(ServedArm served, Serve(definition.name(), arm, aliases, fetch, refuse, held.arms));
    running.arms.push_back(std::move(served));
  }
  for (const v1::Arm& arm : definition.shadows()) {
    auto served = Serve(definition.name() + "/shadow", arm, aliases, fetch, refuse, held.shadows);
    if (served) {
      running.shadows.push_back(*std::move(served));
    } else if (served.error().code == Code::kUnavailable) {
      return tl::unexpected(served.error());
    } else {
      refuse(served.error());  // The arms serve without it.
    }
  }
  return running;
}

Result<std::vector<RunningExperiment>> RunningExperiments::Build(const std::map<std::string, std::string>& defined,
                                                                 const std::map<std::string, std::string>& aliases, const Fetch& fetch,
                                                                 const Refuse& refuse) {
  std::vector<RunningExperiment> running;
  for (const auto& [name, definition] : Definitions(defined, refuse)) {
    if (!IsServing(definition)) {
      versions_.erase(name);
      continue;
    }
    auto begun = Begin(definition, aliases, fetch, refuse);
    if (begun) {
      running.push_back(*std::move(begun));
    } else if (begun.error().code == Code::kUnavailable) {
      return tl::unexpected(begun.error());
    } else {
      refuse(begun.error());
    }
  }
  return running;
}

}  // namespace fuseline
