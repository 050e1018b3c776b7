#include "fuseline/serving_bridge/ranker.h"

#include <filesystem>
#include <optional>
#include <utility>

#include "fuseline/core/digest.h"
#include "fuseline/core/file.h"
#include "fuseline/core/stage.h"
#include "fuseline/fusion/policy_keys.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/settings.h"
#include "fuseline/rollout/experiment.h"
#include "fuseline/serving_bridge/decision_maker.h"
#include "fuseline/serving_bridge/redis_options.h"

#include "pick_up.h"
#include "serving_state.h"
#include "snapshot_store.h"

namespace fuseline {
namespace {

constexpr std::string_view kExposureIdPrefix = "exposure-";

Status CheckOptions(const RankerOptions& options) {
  FUSELINE_RETURN_IF_ERROR(ValidatePolicyName(options.policy));
  if (options.scorer) FUSELINE_RETURN_IF_ERROR(ValidatePolicyName(ScorerPolicyOf(options.policy)));
  if (options.name.empty()) return ErrorStatus(Code::kInvalidInput, "a ranker needs a name");
  if (options.poll_interval_ms <= 0 || options.fetch_jitter_ms < 0) {
    return ErrorStatus(Code::kInvalidInput, "poll_interval_ms must be above 0 and fetch_jitter_ms not below:",
                       options.poll_interval_ms, options.fetch_jitter_ms);
  }
  return OkStatus();
}

// The version in a folder as the archive writes one. Errors: kNotFound, kCorrupt.
Result<PolicyVersion> ReadVersion(const std::filesystem::path& folder) {
  PolicyVersion version;
  FUSELINE_ASSIGN_OR_FAIL(const std::string manifest, ReadFile(folder / "manifest.pb"));
  if (!version.manifest.ParseFromString(manifest)) return Error(Code::kCorrupt, "not a manifest:", (folder / "manifest.pb").string());
  FUSELINE_ASSIGN_OR_FAIL(version.weights, ReadFile(folder / "weights.safetensors"));
  if (Sha256Of(version.weights) != version.manifest.weights_sha256()) {
    return Error(Code::kCorrupt, "weights are not those that the manifest promises:", (folder / "weights.safetensors").string());
  }
  return version;
}

// A follower's version for ever, by what lies in `folder`, or the thread that follows it. Errors: as Ranker::Open.
Status Begin(VersionFollower& follower, const std::string& folder, const char* name, std::optional<Stage>& thread) {
  if (!folder.empty()) {
    FUSELINE_ASSIGN_OR_RETURN(const PolicyVersion version, ReadVersion(folder));
    return follower.TakeForEver(version);
  }
  thread.emplace(name, [&follower](std::stop_token stop) { return follower.Run(stop); });
  return OkStatus();
}

ServingPolicy PolicyOf(const LiveVersion* version) {
  return version == nullptr ? ServingPolicy() : ServingPolicy{&version->network, version->box, version->change.to_version()};
}

ServingPolicy PolicyOf(const ServingState& state, const ServedArm& arm) {
  ServingPolicy policy = PolicyOf(arm.follows_live ? state.live.get() : arm.version.get());
  policy.explore = arm.explore;
  policy.arm = arm.name;
  return policy;
}

// Where a user stands.
struct Placed {
  ServingPolicy policy;
  const RunningExperiment* experiment = nullptr;  // Null: in none,
  const ServedArm* arm = nullptr;                 // and so is this.
};

Placed Place(const ServingState& state, std::string_view user_id) {
  for (const RunningExperiment& experiment : state.experiments) {
    const int chosen = experiment.chooser.Choose(user_id);
    if (chosen == kNoArm) continue;
    const ServedArm& arm = experiment.arms[static_cast<std::size_t>(chosen)];
    Placed placed{PolicyOf(state, arm), &experiment, &arm};
    placed.policy.experiment = experiment.definition.name();
    placed.policy.coverage = experiment.definition.coverage();
    return placed;
  }
  return {PolicyOf(state.live.get())};
}

// A sample of the requests, the same on every machine.
bool IsShadowed(const RunningExperiment& experiment, std::string_view request_id) {
  return !experiment.shadows.empty() && Fnv1a64(request_id) % kWholeShare < experiment.definition.shadow_share();
}

}  // namespace

Result<RankerOptions> RankerOptionsOf(const v1::Config& config) {
  RankerOptions options;
  options.redis = RedisOptionsOf(config.redis());
  FUSELINE_ASSIGN_OR_FAIL(options.public_keys, PublicKeys::FromHex(config.policy_store().public_keys()));
  options.policy = config.policy().name();
  options.schema = SchemaOf(config);
  FUSELINE_ASSIGN_OR_FAIL(options.ranges, PolicyRangesOf(config));
  options.box = {static_cast<float>(config.policy().box_lower()), static_cast<float>(config.policy().box_upper())};
  options.explore = config.ranker().exploration() == "per_request";
  options.exploration = ExplorationOf(config);
  options.seed = config.fuseline().seed();
  options.poll_interval_ms = config.ranker().poll_interval_ms();
  options.fetch_jitter_ms = config.ranker().fetch_jitter_ms();
  options.scorer = config.ranker().scorer() == "live";
  options.max_candidates = static_cast<std::size_t>(config.ranker().max_candidates());
  options.precision = config.ranker().precision() == "bfloat16" ? Precision::kBfloat16 : Precision::kFloat32;
  return options;
}

struct Ranker::Reader::Impl {
  Impl(SnapshotStore<ServingState>& store, SnapshotStore<LiveScorer>& scorers) : slot(store), scorer_slot(scorers) {}

  SnapshotStore<ServingState>::Reader slot;
  SnapshotStore<LiveScorer>::Reader scorer_slot;
  DecisionMaker::Workspace workspace;
};

Ranker::Reader::Reader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Ranker::Reader::Reader(Reader&&) noexcept = default;
Ranker::Reader& Ranker::Reader::operator=(Reader&&) noexcept = default;
Ranker::Reader::~Reader() = default;

struct Ranker::Impl {
  Impl(RankerOptions its_options, DecisionMaker its_decisions, Log& log, Metrics& metrics, const Clock& clock)
      : options(std::move(its_options)),
        decisions(std::move(its_decisions)),
        outside_total(metrics.GetCounter("fuseline_serving_bridge_requests_total", "requests ranked", {{"experiment", ""}, {"arm", "learning"}})),
        pick_up(options, versions, log, metrics, clock) {
    if (options.scorer) scorer_pick_up.emplace(options, scorers, log, metrics, clock);
  }

  const RankerOptions options;
  const DecisionMaker decisions;
  const Counter outside_total;  // Requests of users in no experiment.
  SnapshotStore<ServingState> versions;
  SnapshotStore<LiveScorer> scorers;
  PickUp pick_up;
  std::optional<ScorerPickUp> scorer_pick_up;
  std::optional<Stage> thread, scorer_thread;  // Last: they use the members above.
};

Ranker::Ranker(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Ranker::~Ranker() = default;

Result<std::unique_ptr<Ranker>> Ranker::Open(RankerOptions options, Log& log, Metrics& metrics, const Clock& clock) {
  options.scorer = options.scorer || !options.scorer_folder.empty();
  FUSELINE_FAIL_IF_ERROR(CheckOptions(options));
  for (const v1::Experiment& experiment : options.experiments) FUSELINE_FAIL_IF_ERROR(ValidateExperiment(experiment));
  FUSELINE_ASSIGN_OR_FAIL(DecisionMaker decisions, DecisionMaker::Create(options, metrics));
  metrics.GetGauge("fuseline_serving_bridge_bfloat16", "1 where actors are multiplied in bfloat16: asked for, and the processor has it")
      .Set(options.precision == Precision::kBfloat16 && HasBfloat16() ? 1 : 0);
  auto impl = std::make_unique<Impl>(std::move(options), std::move(decisions), log, metrics, clock);
  FUSELINE_FAIL_IF_ERROR(impl->pick_up.Begin());
  FUSELINE_FAIL_IF_ERROR(Begin(impl->pick_up.follower(), impl->options.version_folder, "pick_up", impl->thread));
  if (impl->scorer_pick_up) {
    FUSELINE_FAIL_IF_ERROR(Begin(impl->scorer_pick_up->follower(), impl->options.scorer_folder, "scorer_pick_up", impl->scorer_thread));
  }
  return std::unique_ptr<Ranker>(new Ranker(std::move(impl)));
}

Ranker::Reader Ranker::NewReader() { return Reader(std::make_unique<Reader::Impl>(impl_->versions, impl_->scorers)); }

RankerStatus Ranker::status() const {
  RankerStatus status = impl_->pick_up.follower().status();
  if (!impl_->scorer_pick_up) return status;
  const RankerStatus of_scorer = impl_->scorer_pick_up->follower().status();
  status.scorer_version = of_scorer.version;
  status.scorer_refused = of_scorer.refused;
  return status;
}

Status Ranker::Rank(const RankingRequest& request, Reader& reader, Decision& decision) const {
  const auto pin = reader.impl_->slot.PinCurrent();
  DecisionMaker::Workspace& workspace = reader.impl_->workspace;
  const auto scorer_pin = reader.impl_->scorer_slot.PinCurrent();
  Placed placed = Place(*pin.get(), request.user_id);
  if (const LiveScorer* const scorer = scorer_pin.get()) {
    placed.policy.scorer = &scorer->network;
    placed.policy.scorer_version = scorer->version;
  }
  FUSELINE_RETURN_IF_ERROR(impl_->decisions.Decide(request, placed.policy, workspace, decision));
  (placed.arm == nullptr ? impl_->outside_total : placed.arm->requests_total).Increment();
  if (placed.experiment == nullptr || !IsShadowed(*placed.experiment, request.request_id)) return OkStatus();
  for (const ServedArm& shadow : placed.experiment->shadows) {
    FUSELINE_RETURN_IF_ERROR(impl_->decisions.ScoreShadow(request, PolicyOf(*pin.get(), shadow), workspace, decision));
  }
  return OkStatus();
}

Result<Decision> Ranker::Rank(const RankingRequest& request, Reader& reader) const {
  Decision decision;
  FUSELINE_FAIL_IF_ERROR(Rank(request, reader, decision));
  return decision;
}

void Ranker::FillExposure(const RankingRequest& request, const Decision& decision, v1::Exposure* exposure) const {
  impl_->decisions.FillExposure(request, decision, exposure);
}

v1::Event Ranker::MakeExposureEvent(const RankingRequest& request, const Decision& decision) const {
  v1::Event event;
  event.set_event_id(std::string(kExposureIdPrefix).append(request.request_id));
  event.set_user_id(std::string(request.user_id));
  event.set_event_time_ms(request.event_time_ms);
  FillExposure(request, decision, event.mutable_exposure());
  return event;
}

}  // namespace fuseline
