#include "fuseline/serving_bridge/decision_maker.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "fuseline/core/digest.h"
#include "fuseline/core/random.h"
#include "fuseline/proto/schema.h"
#include "fuseline/rollout/ranking.h"

#include "exposure.h"
#include "request_check.h"

namespace fuseline {
namespace {

Status CheckOptions(const RankerOptions& options) {
  FUSELINE_RETURN_IF_ERROR(ValidateSchema(options.schema));
  if (options.ranges.lower_size() != 2 * options.schema.tasks_size()) {
    return ErrorStatus(Code::kInvalidInput, "action ranges disagree with the schema's tasks:", options.ranges.lower_size());
  }
  if (!(options.box.lower <= 0.0F && options.box.upper >= 0.0F)) {
    return ErrorStatus(Code::kInvalidInput, "exploration box does not hold 0:", options.box.lower, options.box.upper);
  }
  return OkStatus();
}

// An empty decision in the memory of the one before.
void Begin(const ServingPolicy& policy, std::size_t action_width, Decision& decision) {
  decision.order.clear();
  decision.action_width = action_width;
  decision.baseline_actions.clear();
  decision.executed_actions.clear();
  decision.log_density.reset();
  decision.box.reset();
  decision.policy_version = 0;
  decision.scorer_version = 0;
  decision.task_scores.clear();
  decision.experiment = policy.experiment;
  decision.arm = policy.arm;
  decision.experiment_coverage = policy.coverage;
  decision.shadows.clear();
  decision.fell_back = false;
}

bool IsUnscored(const RankingRequest& request) { return !request.candidates.empty() && request.candidates[0].task_scores.empty(); }

}  // namespace

struct DecisionMaker::Workspace::Impl {
  ActorWorkspace actor;
  ScorerWorkspace scorer;
  std::vector<float> task_scores;         // [n, k], of a request without,
  std::vector<CandidateView> candidates;  // [n], and its candidates with them.
  std::vector<float> baseline, executed;  // [n, D]
  std::vector<float> noise;               // [D]
  std::vector<float> scores;              // [k]
  std::vector<RankedItem> ranked;         // [n]
  std::vector<float> shadow;              // [n, D]
  std::vector<double> served_scores, shadow_scores;
  RankBuffers ranks;
  std::vector<std::size_t> shadow_order;
};

DecisionMaker::Workspace::Workspace() : impl_(std::make_unique<Impl>()) {}
DecisionMaker::Workspace::Workspace(Workspace&&) noexcept = default;
DecisionMaker::Workspace& DecisionMaker::Workspace::operator=(Workspace&&) noexcept = default;
DecisionMaker::Workspace::~Workspace() = default;

struct DecisionMaker::Impl {
  Impl(const RankerOptions& its_options, ActionSpace its_space, Metrics& metrics)
      : options(its_options),
        encoder(options.schema),
        space(std::move(its_space)),
        check(options.schema, options.scorer, options.max_candidates, metrics),
        exposures(options.schema),
        input_fallbacks_total(Fallbacks(metrics, "input")),
        action_fallbacks_total(Fallbacks(metrics, "action")),
        clamped_total(
            metrics.GetCounter("fuseline_serving_bridge_scores_clamped_total", "task scores outside their range")),
        empty_total(
            metrics.GetCounter("fuseline_serving_bridge_requests_empty_total", "requests without candidates")),
        no_scorer_total(Unscored(metrics, "scorer")),
        input_unscored_total(Unscored(metrics, "input")) {}

  static Counter Fallbacks(Metrics& metrics, const char* reason) {
    return metrics.GetCounter("fuseline_serving_bridge_fallbacks_total", "requests that got the static weights because something was not finite",
                              {{"reason", reason}});
  }

  static Counter Unscored(Metrics& metrics, const char* reason) {
    return metrics.GetCounter("fuseline_serving_bridge_unscored_total",
                              "requests without task scores that got each task's minimum: there was no scorer, or a feature was not finite",
                              {{"reason", reason}});
  }

  static RankingRequest Scored(const RankingRequest& request, const Workspace::Impl& buffers) {
    RankingRequest scored = request;
    if (IsUnscored(request)) scored.candidates = buffers.candidates;
    return scored;
  }
  Result<RankingRequest> WithScores(const RankingRequest& request, const ServingPolicy& policy, bool finite, Workspace::Impl& buffers,
                                    Decision& decision) const;
  Status ChooseActions(const RankingRequest& request, const ServingPolicy& policy, bool finite, Workspace::Impl& buffers,
                       Decision& decision) const;
  void FallBack(const Counter& counter, Workspace::Impl& buffers, Decision& decision) const;
  void FillStatic(std::vector<float>& actions) const;
  void Explore(const RankingRequest& request, bool around_static, const ExplorationBox& box, Workspace::Impl& buffers,
               Decision& decision) const;
  void Order(const RankingRequest& request, Workspace::Impl& buffers, Decision& decision) const;
  v1::ShadowScore Compare(const RankingRequest& request, const Decision& decision, Workspace::Impl& buffers) const;

  const RankerOptions options;
  const FeatureEncoder encoder;
  const ActionSpace space;
  const RequestCheck check;
  const ExposureWriter exposures;
  const Counter input_fallbacks_total, action_fallbacks_total, clamped_total, empty_total, no_scorer_total, input_unscored_total;
};

DecisionMaker::DecisionMaker(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DecisionMaker::DecisionMaker(DecisionMaker&&) noexcept = default;
DecisionMaker& DecisionMaker::operator=(DecisionMaker&&) noexcept = default;
DecisionMaker::~DecisionMaker() = default;

Result<DecisionMaker> DecisionMaker::Create(const RankerOptions& options, Metrics& metrics) {
  FUSELINE_FAIL_IF_ERROR(CheckOptions(options));
  FUSELINE_ASSIGN_OR_FAIL(ActionSpace space, ActionSpace::Create(options.ranges));
  return DecisionMaker(std::make_unique<Impl>(options, std::move(space), metrics));
}

Status DecisionMaker::Decide(const RankingRequest& request, const ServingPolicy& policy, Workspace& workspace, Decision& decision) const {
  FUSELINE_ASSIGN_OR_RETURN(const bool finite, impl_->check.Check(request));
  Workspace::Impl& buffers = *workspace.impl_;
  const std::size_t values = request.candidates.size() * impl_->space.width();
  buffers.baseline.resize(values);
  buffers.executed.resize(values);

  Begin(policy, impl_->space.width(), decision);
  if (request.candidates.empty()) {
    impl_->empty_total.Increment();
    return OkStatus();
  }
  FUSELINE_ASSIGN_OR_RETURN(const RankingRequest scored, impl_->WithScores(request, policy, finite, buffers, decision));
  FUSELINE_RETURN_IF_ERROR(impl_->ChooseActions(scored, policy, finite, buffers, decision));
  impl_->Order(scored, buffers, decision);
  if (!IsUnscored(request)) return OkStatus();
  for (const RankedItem& item : decision.order) {
    const std::span<const float> scores = scored.candidates[item.candidate].task_scores;
    decision.task_scores.insert(decision.task_scores.end(), scores.begin(), scores.end());
  }
  return OkStatus();
}

// The request, with the scorer's task scores if it has none.
Result<RankingRequest> DecisionMaker::Impl::WithScores(const RankingRequest& request, const ServingPolicy& policy, bool finite,
                                                       Workspace::Impl& buffers, Decision& decision) const {
  if (!IsUnscored(request)) return request;
  const std::size_t tasks = encoder.task_count();
  buffers.task_scores.resize(request.candidates.size() * tasks);
  if (finite && policy.scorer != nullptr) {
    FUSELINE_FAIL_IF_ERROR(policy.scorer->Score(request.user, request.context, request.user_id, request.candidates, request.item_ids,
                                                buffers.scorer, buffers.task_scores));
    decision.scorer_version = policy.scorer_version;
  } else {
    (finite ? no_scorer_total : input_unscored_total).Increment();
    std::ranges::fill(buffers.task_scores, std::numeric_limits<float>::quiet_NaN());  // Nobody knows.
  }
  std::size_t replaced = 0;
  buffers.candidates.resize(request.candidates.size());
  for (std::size_t i = 0; i < buffers.candidates.size(); ++i) {
    const std::span<float> scores(buffers.task_scores.data() + i * tasks, tasks);
    replaced += exposures.UsableScores(scores, scores);
    buffers.candidates[i] = {request.candidates[i].features, scores};
  }
  if (decision.scorer_version != 0 && replaced > 0) clamped_total.Increment(static_cast<double>(replaced));
  return Scored(request, buffers);
}

// Fills baseline and executed of every candidate.
Status DecisionMaker::Impl::ChooseActions(const RankingRequest& request, const ServingPolicy& policy, bool finite,
                                          Workspace::Impl& buffers, Decision& decision) const {
  if (!finite) {
    FallBack(input_fallbacks_total, buffers, decision);
    return OkStatus();
  }
  ExplorationBox box = options.box;
  const bool explores = policy.explore && options.explore;
  const bool around_static = explores && ExploresAroundStatic(options.exploration, options.seed, request.user_id);
  if (around_static || policy.network == nullptr) {
    FillStatic(buffers.baseline);
  } else {
    FUSELINE_RETURN_IF_ERROR(policy.network->Act(request.user, request.context, request.candidates, buffers.actor, buffers.baseline));
    if (!AllFinite(buffers.baseline)) {  // Finite weights, but products beyond float32.
      FallBack(action_fallbacks_total, buffers, decision);
      return OkStatus();
    }
    box = policy.box;
    decision.policy_version = policy.version;
  }
  buffers.executed = buffers.baseline;
  if (explores) Explore(request, around_static, box, buffers, decision);
  return OkStatus();
}

void DecisionMaker::Impl::FallBack(const Counter& counter, Workspace::Impl& buffers, Decision& decision) const {
  counter.Increment();
  decision.fell_back = true;
  FillStatic(buffers.baseline);
  buffers.executed = buffers.baseline;
}

void DecisionMaker::Impl::FillStatic(std::vector<float>& actions) const {
  const auto action = space.static_action();
  for (std::size_t i = 0; i < actions.size(); i += action.size()) {
    std::copy(action.begin(), action.end(), actions.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

void DecisionMaker::Impl::Explore(const RankingRequest& request, bool around_static, const ExplorationBox& box,
                                  Workspace::Impl& buffers, Decision& decision) const {
  Random random(options.seed, "exploration", Fnv1a64(request.request_id));
  buffers.noise.resize(space.width());
  const DrawnNoise drawn = DrawNoise(options.exploration, around_static, buffers.baseline, box, random, buffers.noise,
                                     space.learned_width());
  decision.log_density = drawn.log_density;
  decision.box = drawn.box;
  for (std::size_t i = 0; i < buffers.executed.size(); i += buffers.noise.size()) {
    for (std::size_t d = 0; d < buffers.noise.size(); ++d) buffers.executed[i + d] += buffers.noise[d];
  }
}

// Fuses every candidate's scores and keeps the best.
void DecisionMaker::Impl::Order(const RankingRequest& request, Workspace::Impl& buffers, Decision& decision) const {
  const std::size_t width = space.width();
  const std::size_t candidates = request.candidates.size();
  buffers.ranked.resize(candidates);
  buffers.scores.resize(encoder.task_count());
  std::size_t clamped = 0;
  for (std::size_t i = 0; i < candidates; ++i) {
    clamped += exposures.UsableScores(request.candidates[i].task_scores, buffers.scores);
    clamped += encoder.ClampTaskScores(buffers.scores);
    buffers.ranked[i] = {i, space.FusedScore(buffers.scores, std::span<const float>(buffers.executed).subspan(i * width, width))};
  }
  if (clamped > 0) clamped_total.Increment(static_cast<double>(clamped));

  const std::size_t shown = request.expose_count == 0 ? candidates : std::min(request.expose_count, candidates);
  const auto better = [](const RankedItem& a, const RankedItem& b) {
    return a.fused_score != b.fused_score ? a.fused_score > b.fused_score : a.candidate < b.candidate;
  };
  const auto end = buffers.ranked.begin() + static_cast<std::ptrdiff_t>(shown);
  std::partial_sort(buffers.ranked.begin(), end, buffers.ranked.end(), better);
  decision.order.assign(buffers.ranked.begin(), end);
  for (const RankedItem& item : decision.order) {
    const auto from = static_cast<std::ptrdiff_t>(item.candidate * width);
    const auto to = from + static_cast<std::ptrdiff_t>(width);
    decision.baseline_actions.insert(decision.baseline_actions.end(), buffers.baseline.begin() + from, buffers.baseline.begin() + to);
    decision.executed_actions.insert(decision.executed_actions.end(), buffers.executed.begin() + from, buffers.executed.begin() + to);
  }
}

Status DecisionMaker::ScoreShadow(const RankingRequest& request, const ServingPolicy& shadow, Workspace& workspace, Decision& decision) const {
  if (decision.fell_back || decision.order.empty()) return OkStatus();
  Workspace::Impl& buffers = *workspace.impl_;
  const RankingRequest scored = Impl::Scored(request, buffers);
  buffers.shadow.resize(buffers.baseline.size());
  if (shadow.network == nullptr) {
    impl_->FillStatic(buffers.shadow);
  } else {
    FUSELINE_RETURN_IF_ERROR(shadow.network->Act(scored.user, scored.context, scored.candidates, buffers.actor, buffers.shadow));
    if (!AllFinite(buffers.shadow)) return OkStatus();
  }
  decision.shadows.push_back(impl_->Compare(scored, decision, buffers));
  decision.shadows.back().set_policy_version(shadow.version);
  return OkStatus();
}

v1::ShadowScore DecisionMaker::Impl::Compare(const RankingRequest& request, const Decision& decision, Workspace::Impl& buffers) const {
  const std::size_t width = space.width(), candidates = request.candidates.size(), shown = decision.order.size();
  buffers.served_scores.resize(candidates);
  for (const RankedItem& item : buffers.ranked) buffers.served_scores[item.candidate] = item.fused_score;
  buffers.shadow_scores.resize(candidates);
  buffers.shadow_order.resize(candidates);
  for (std::size_t i = 0; i < candidates; ++i) {
    exposures.UsableScores(request.candidates[i].task_scores, buffers.scores);
    encoder.ClampTaskScores(buffers.scores);
    buffers.shadow_scores[i] = space.FusedScore(buffers.scores, std::span<const float>(buffers.shadow).subspan(i * width, width));
    buffers.shadow_order[i] = i;
  }
  const auto better = [&](std::size_t a, std::size_t b) {
    return buffers.shadow_scores[a] != buffers.shadow_scores[b] ? buffers.shadow_scores[a] > buffers.shadow_scores[b] : a < b;
  };
  const auto end = buffers.shadow_order.begin() + static_cast<std::ptrdiff_t>(shown);
  std::partial_sort(buffers.shadow_order.begin(), end, buffers.shadow_order.end(), better);

  std::size_t common = 0;
  double difference = 0;
  for (std::size_t position = 0; position < shown; ++position) {
    const std::size_t candidate = decision.order[position].candidate;
    common += std::find(buffers.shadow_order.begin(), end, candidate) != end ? 1 : 0;
    const auto baseline = decision.baseline_action(position);
    for (std::size_t d = 0; d < width; ++d) difference += std::abs(buffers.shadow[candidate * width + d] - baseline[d]);
  }
  v1::ShadowScore score;
  score.set_rank_correlation(static_cast<float>(RankCorrelation(buffers.served_scores, buffers.shadow_scores, buffers.ranks)));
  score.set_top_overlap(static_cast<float>(common) / static_cast<float>(shown));
  score.set_action_difference(static_cast<float>(std::min(2.0, difference / static_cast<double>(shown * width))));
  return score;
}

void DecisionMaker::FillExposure(const RankingRequest& request, const Decision& decision, v1::Exposure* exposure) const {
  impl_->exposures.Fill(request, decision, exposure);
}

}  // namespace fuseline
