#include "fuseline/serving_bridge/ranker.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "fuseline/core/check.h"
#include "fuseline/core/digest.h"
#include "fuseline/core/random.h"
#include "fuseline/core/stage.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/settings.h"

#include "exposure.h"
#include "live_version.h"
#include "pick_up.h"
#include "request_check.h"
#include "snapshot_store.h"

namespace fuseline {
namespace {

constexpr std::string_view kExposureIdPrefix = "exposure-";

Status CheckOptions(const RankerOptions& options) {
  FUSELINE_RETURN_IF_ERROR(ValidatePolicyName(options.policy));
  FUSELINE_RETURN_IF_ERROR(ValidateSchema(options.schema));
  if (options.name.empty()) return ErrorStatus(Code::kInvalidInput, "a ranker needs a name");
  if (options.ranges.lower_size() != 2 * options.schema.tasks_size()) {
    return ErrorStatus(Code::kInvalidInput, "action ranges disagree with the schema's tasks:", options.ranges.lower_size());
  }
  if (!(options.box.lower <= 0.0F && options.box.upper >= 0.0F)) {
    return ErrorStatus(Code::kInvalidInput, "exploration box does not hold 0:", options.box.lower, options.box.upper);
  }
  if (!(options.static_share >= 0.0 && options.static_share <= 1.0)) {
    return ErrorStatus(Code::kInvalidInput, "static_share is outside [0, 1]:", options.static_share);
  }
  if (options.poll_interval_ms <= 0 || options.fetch_jitter_ms < 0) {
    return ErrorStatus(Code::kInvalidInput, "poll_interval_ms must be above 0 and fetch_jitter_ms not below:",
                       options.poll_interval_ms, options.fetch_jitter_ms);
  }
  return OkStatus();
}

bool AllFinite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
}

}  // namespace

Result<RankerOptions> RankerOptionsOf(const v1::Config& config) {
  RankerOptions options;
  options.redis = {.address = config.redis().address(),
                   .user = config.redis().user(),
                   .password = config.redis().password(),
                   .database = config.redis().database(),
                   .connect_timeout_ms = config.redis().connect_timeout_ms(),
                   .command_timeout_ms = config.redis().command_timeout_ms(),
                   .max_reply_bytes = static_cast<std::size_t>(config.redis().max_reply_bytes())};
  options.policy = config.policy().name();
  options.schema = SchemaOf(config);
  FUSELINE_ASSIGN_OR_FAIL(options.ranges, ActionRangesOf(config.policy(), options.schema));
  options.box = {static_cast<float>(config.policy().box_lower()), static_cast<float>(config.policy().box_upper())};
  options.explore = config.ranker().exploration() == "per_request";
  options.seed = config.fuseline().seed();
  options.poll_interval_ms = config.ranker().poll_interval_ms();
  options.fetch_jitter_ms = config.ranker().fetch_jitter_ms();
  options.max_candidates = static_cast<std::size_t>(config.ranker().max_candidates());
  return options;
}

struct Ranker::Reader::Impl {
  explicit Impl(SnapshotStore<LiveVersion>& store) : slot(store) {}

  SnapshotStore<LiveVersion>::Reader slot;
  ActorWorkspace workspace;
  std::vector<float> baseline, executed;  // [n, D]
  std::vector<float> noise;               // [D]
  std::vector<float> scores;              // [k]
  std::vector<RankedItem> ranked;         // [n]
};

Ranker::Reader::Reader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Ranker::Reader::Reader(Reader&&) noexcept = default;
Ranker::Reader& Ranker::Reader::operator=(Reader&&) noexcept = default;
Ranker::Reader::~Reader() = default;

struct Ranker::Impl {
  Impl(RankerOptions its_options, ActionSpace its_space, Log& log, Metrics& metrics, const Clock& clock)
      : options(std::move(its_options)),
        encoder(options.schema),
        space(std::move(its_space)),
        check(options.schema, options.max_candidates),
        exposures(options.schema, options.experiment),
        requests_total{Requests(metrics, Arm::kLearning), Requests(metrics, Arm::kStatic)},
        input_fallbacks_total(Fallbacks(metrics, "input")),
        action_fallbacks_total(Fallbacks(metrics, "action")),
        clamped_total(metrics.GetCounter("fuseline_serving_bridge_scores_clamped_total", "task scores outside their range")),
        pick_up(options, versions, log, metrics, clock) {}

  static Counter Requests(Metrics& metrics, Arm arm) {
    return metrics.GetCounter("fuseline_serving_bridge_requests_total", "requests ranked", {{"arm", std::string(ArmName(arm))}});
  }
  static Counter Fallbacks(Metrics& metrics, const char* reason) {
    return metrics.GetCounter("fuseline_serving_bridge_fallbacks_total", "requests that got the static weights because something was not finite",
                              {{"reason", reason}});
  }

  Status ChooseActions(const RankingRequest& request, bool finite, Reader::Impl& reader, Decision& decision) const;
  void FallBack(const Counter& counter, Reader::Impl& reader, Decision& decision) const;
  void FillStatic(Reader::Impl& reader) const;
  void Explore(const RankingRequest& request, const ExplorationBox& box, Reader::Impl& reader, Decision& decision) const;
  void Order(const RankingRequest& request, Reader::Impl& reader, Decision& decision) const;

  const RankerOptions options;
  const FeatureEncoder encoder;
  const ActionSpace space;
  const RequestCheck check;
  const ExposureWriter exposures;
  const Counter requests_total[2];  // By arm.
  const Counter input_fallbacks_total, action_fallbacks_total, clamped_total;
  SnapshotStore<LiveVersion> versions;
  PickUp pick_up;
  std::optional<Stage> thread;  // Last: it uses the members above.
};

Ranker::Ranker(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Ranker::~Ranker() = default;

Result<std::unique_ptr<Ranker>> Ranker::Open(RankerOptions options, Log& log, Metrics& metrics, const Clock& clock) {
  FUSELINE_FAIL_IF_ERROR(CheckOptions(options));
  FUSELINE_ASSIGN_OR_FAIL(ActionSpace space, ActionSpace::Create(options.ranges));
  auto impl = std::make_unique<Impl>(std::move(options), std::move(space), log, metrics, clock);
  impl->thread.emplace("pick_up", [pick_up = &impl->pick_up](std::stop_token stop) { return pick_up->Run(stop); });
  return std::unique_ptr<Ranker>(new Ranker(std::move(impl)));
}

Ranker::Reader Ranker::NewReader() { return Reader(std::make_unique<Reader::Impl>(impl_->versions)); }

RankerStatus Ranker::status() const { return impl_->pick_up.status(); }

Result<Decision> Ranker::Rank(const RankingRequest& request, Reader& reader) const {
  FUSELINE_ASSIGN_OR_FAIL(const bool finite, impl_->check.Check(request));
  Reader::Impl& buffers = *reader.impl_;
  const std::size_t values = request.candidates.size() * impl_->space.width();
  buffers.baseline.resize(values);
  buffers.executed.resize(values);

  Decision decision;
  decision.action_width = impl_->space.width();
  decision.arm = AssignArm(request.user_id, impl_->options.salt, impl_->options.static_share);
  impl_->requests_total[static_cast<std::size_t>(decision.arm)].Increment();
  if (request.candidates.empty()) return decision;
  FUSELINE_FAIL_IF_ERROR(impl_->ChooseActions(request, finite, buffers, decision));
  impl_->Order(request, buffers, decision);
  return decision;
}

// Fills baseline and executed of every candidate.
Status Ranker::Impl::ChooseActions(const RankingRequest& request, bool finite, Reader::Impl& reader, Decision& decision) const {
  if (!finite) {
    FallBack(input_fallbacks_total, reader, decision);
    return OkStatus();
  }
  ExplorationBox box = options.box;
  const auto pin = reader.slot.PinCurrent();
  const LiveVersion* const live = decision.arm == Arm::kLearning ? pin.get() : nullptr;
  if (live == nullptr) {
    FillStatic(reader);
  } else {
    FUSELINE_RETURN_IF_ERROR(live->network.Act(request.user, request.context, request.candidates, reader.workspace, reader.baseline));
    if (!AllFinite(reader.baseline)) {  // Finite weights, but products beyond float32.
      FallBack(action_fallbacks_total, reader, decision);
      return OkStatus();
    }
    box = live->box;
    decision.policy_version = live->change.to_version();
  }
  reader.executed = reader.baseline;
  if (decision.arm == Arm::kLearning && options.explore) Explore(request, box, reader, decision);
  return OkStatus();
}

void Ranker::Impl::FallBack(const Counter& counter, Reader::Impl& reader, Decision& decision) const {
  counter.Increment();
  decision.fell_back = true;
  FillStatic(reader);
  reader.executed = reader.baseline;
}

void Ranker::Impl::FillStatic(Reader::Impl& reader) const {
  const auto action = space.static_action();
  for (std::size_t i = 0; i < reader.baseline.size(); i += action.size()) {
    std::copy(action.begin(), action.end(), reader.baseline.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

void Ranker::Impl::Explore(const RankingRequest& request, const ExplorationBox& box, Reader::Impl& reader, Decision& decision) const {
  Random random(options.seed, "exploration", Fnv1a64(request.request_id));
  reader.noise.resize(space.width());
  decision.log_density = DrawRequestNoise(reader.baseline, box, random, reader.noise);
  decision.box = box;
  for (std::size_t i = 0; i < reader.executed.size(); i += reader.noise.size()) {
    for (std::size_t d = 0; d < reader.noise.size(); ++d) reader.executed[i + d] += reader.noise[d];
  }
}

// Fuses every candidate's scores and keeps the best.
void Ranker::Impl::Order(const RankingRequest& request, Reader::Impl& reader, Decision& decision) const {
  const std::size_t width = space.width();
  const std::size_t candidates = request.candidates.size();
  reader.ranked.resize(candidates);
  reader.scores.resize(encoder.task_count());
  std::size_t clamped = 0;
  for (std::size_t i = 0; i < candidates; ++i) {
    clamped += exposures.UsableScores(request.candidates[i].task_scores, reader.scores);
    clamped += encoder.ClampTaskScores(reader.scores);
    reader.ranked[i] = {i, space.FusedScore(reader.scores, std::span<const float>(reader.executed).subspan(i * width, width))};
  }
  if (clamped > 0) clamped_total.Increment(static_cast<double>(clamped));

  const std::size_t shown = request.expose_count == 0 ? candidates : std::min(request.expose_count, candidates);
  const auto better = [](const RankedItem& a, const RankedItem& b) {
    return a.fused_score != b.fused_score ? a.fused_score > b.fused_score : a.candidate < b.candidate;
  };
  const auto end = reader.ranked.begin() + static_cast<std::ptrdiff_t>(shown);
  std::partial_sort(reader.ranked.begin(), end, reader.ranked.end(), better);
  decision.order.assign(reader.ranked.begin(), end);
  decision.baseline_actions.reserve(shown * width);
  decision.executed_actions.reserve(shown * width);
  for (const RankedItem& item : decision.order) {
    const auto from = static_cast<std::ptrdiff_t>(item.candidate * width);
    const auto to = from + static_cast<std::ptrdiff_t>(width);
    decision.baseline_actions.insert(decision.baseline_actions.end(), reader.baseline.begin() + from, reader.baseline.begin() + to);
    decision.executed_actions.insert(decision.executed_actions.end(), reader.executed.begin() + from, reader.executed.begin() + to);
  }
}

void Ranker::FillExposure(const RankingRequest& request, const Decision& decision, v1::Exposure* exposure) const {
  impl_->exposures.Fill(request, decision, exposure);
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
