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
#include "fuseline/serving_bridge/decision_maker.h"
#include "fuseline/serving_bridge/redis_options.h"

#include "live_version.h"
#include "pick_up.h"
#include "snapshot_store.h"

namespace fuseline {
namespace {

constexpr std::string_view kExposureIdPrefix = "exposure-";

Status CheckOptions(const RankerOptions& options) {
  FUSELINE_RETURN_IF_ERROR(ValidatePolicyName(options.policy));
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

}  // namespace

Result<RankerOptions> RankerOptionsOf(const v1::Config& config) {
  RankerOptions options;
  options.redis = RedisOptionsOf(config.redis());
  FUSELINE_ASSIGN_OR_FAIL(options.public_keys, PublicKeys::FromHex(config.policy_store().public_keys()));
  options.policy = config.policy().name();
  options.schema = SchemaOf(config);
  FUSELINE_ASSIGN_OR_FAIL(options.ranges, ActionRangesOf(config.policy(), options.schema));
  options.box = {static_cast<float>(config.policy().box_lower()), static_cast<float>(config.policy().box_upper())};
  options.explore = config.ranker().exploration() == "per_request";
  options.exploration = ExplorationOf(config.ranker());
  options.seed = config.fuseline().seed();
  options.poll_interval_ms = config.ranker().poll_interval_ms();
  options.fetch_jitter_ms = config.ranker().fetch_jitter_ms();
  options.max_candidates = static_cast<std::size_t>(config.ranker().max_candidates());
  return options;
}

struct Ranker::Reader::Impl {
  explicit Impl(SnapshotStore<LiveVersion>& store) : slot(store) {}

  SnapshotStore<LiveVersion>::Reader slot;
  DecisionMaker::Workspace workspace;
};

Ranker::Reader::Reader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Ranker::Reader::Reader(Reader&&) noexcept = default;
Ranker::Reader& Ranker::Reader::operator=(Reader&&) noexcept = default;
Ranker::Reader::~Reader() = default;

struct Ranker::Impl {
  Impl(RankerOptions its_options, DecisionMaker its_decisions, Log& log, Metrics& metrics, const Clock& clock)
      : options(std::move(its_options)), decisions(std::move(its_decisions)), pick_up(options, versions, log, metrics, clock) {}

  const RankerOptions options;
  const DecisionMaker decisions;
  SnapshotStore<LiveVersion> versions;
  PickUp pick_up;
  std::optional<Stage> thread;  // Last: it uses the members above.
};

Ranker::Ranker(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Ranker::~Ranker() = default;

Result<std::unique_ptr<Ranker>> Ranker::Open(RankerOptions options, Log& log, Metrics& metrics, const Clock& clock) {
  FUSELINE_FAIL_IF_ERROR(CheckOptions(options));
  FUSELINE_ASSIGN_OR_FAIL(DecisionMaker decisions, DecisionMaker::Create(options, metrics));
  auto impl = std::make_unique<Impl>(std::move(options), std::move(decisions), log, metrics, clock);
  if (!impl->options.version_folder.empty()) {
    FUSELINE_ASSIGN_OR_FAIL(const PolicyVersion version, ReadVersion(impl->options.version_folder));
    v1::AliasChange change;
    change.set_to_version(version.manifest.version());
    auto admitted = VersionDemands(impl->options).Admit(version, change);
    if (!admitted) return tl::unexpected(std::move(admitted).error().status);
    impl->pick_up.Serve(*std::move(admitted));
    return std::unique_ptr<Ranker>(new Ranker(std::move(impl)));
  }
  impl->thread.emplace("pick_up", [pick_up = &impl->pick_up](std::stop_token stop) { return pick_up->Run(stop); });
  return std::unique_ptr<Ranker>(new Ranker(std::move(impl)));
}

Ranker::Reader Ranker::NewReader() { return Reader(std::make_unique<Reader::Impl>(impl_->versions)); }

RankerStatus Ranker::status() const { return impl_->pick_up.status(); }

Result<Decision> Ranker::Rank(const RankingRequest& request, Reader& reader) const {
  const auto pin = reader.impl_->slot.PinCurrent();
  ServingPolicy policy;
  if (const LiveVersion* const live = pin.get()) policy = {&live->network, live->box, live->change.to_version()};
  return impl_->decisions.Decide(request, policy, reader.impl_->workspace);
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
