#include "fuseline/learner/policy_evaluation.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "evaluation.h"
#include "fitted_q.h"
#include "fuseline/fusion/policy_network.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/settings.h"
#include "replay_buffer.h"
#include "transition_builder.h"

namespace fuseline {
namespace {

constexpr int kDraws = 8;  // Of the judged policy's noise, for the model's expectation under it.
constexpr float kEdge = 1e-6F;

struct Judged {
  std::uint64_t version = 0;
  std::optional<PolicyNetwork> network;     // Absent: the static weights.
  std::vector<std::vector<float>> actions;  // Of each row, [items, D].
};

// What a row is in its session.
struct Place {
  std::size_t session = 0;
  bool first = false;
  bool ends = false;        // Terminated: nothing follows.
  bool followed = false;    // The next row is the next request.
};

class Evaluation final : public PolicyEvaluation {
 public:
  Evaluation(const v1::Config& config, ActionSpace space)
      : config_(config),
        space_(std::move(space)),
        builder_(config, SchemaOf(config)),
        layout_(builder_.layout()),
        rows_(layout_, "judged"),
        judge_(config_, space_, layout_),
        statistics_(builder_.encoder().scalable_columns()) {}

  std::vector<Judged>& policies() { return policies_; }
  Status Add(const v1::Trajectory& trajectory) override;
  Result<PolicyEvaluationReport> Finish() override;

 private:
  Status Act(Judged& judged, const v1::Exposure& exposure, std::uint32_t items);
  std::vector<float> Padded(const float* values, std::size_t used, std::size_t width) const;
  void AddState(std::size_t row, std::vector<float>& states) const;
  void AddList(std::size_t row, std::span<const float> actions, ActedLists& lists) const;
  EvaluationTransitions Transitions(const Judged& judged, bool with_next, const std::function<bool(std::size_t)>& wanted) const;

  Result<PolicyReport> Report(const Judged& judged) const;
  void AddOffPolicy(const Judged& judged, const std::optional<std::array<std::vector<double>, 2>>& model, PolicyReport& report) const;
  Result<std::optional<std::array<std::vector<double>, 2>>> Model(const Judged& judged) const;
  Result<std::optional<Estimate>> Value(const Judged& judged, double conservative_weight) const;

  const v1::Config config_;
  const ActionSpace space_;
  const TransitionBuilder builder_;
  const RowLayout layout_;
  RowStore rows_;
  const RowJudge judge_;
  NormaliserStatistics statistics_;
  Normaliser normaliser_;
  std::vector<Judged> policies_;
  std::vector<Place> places_;
  std::uint64_t sessions_ = 0;
};

// ---- What is judged ----

Status Evaluation::Act(Judged& judged, const v1::Exposure& exposure, std::uint32_t items) {
  const std::size_t width = space_.width();
  std::vector<float> actions(static_cast<std::size_t>(exposure.items_size()) * width);
  if (!judged.network) {
    for (std::size_t i = 0; i < actions.size(); ++i) actions[i] = space_.static_action()[i % width];
  } else {
    std::vector<CandidateView> candidates;
    for (const v1::ExposedItem& item : exposure.items()) candidates.push_back(ViewOf(item));
    ActorWorkspace workspace;
    FUSELINE_RETURN_IF_ERROR(judged.network->Act(ViewOf(exposure.user_features()), ViewOf(exposure.context_features()), candidates,
                                                 workspace, actions));
  }
  std::vector<float>& learned = judged.actions.emplace_back();  // The others are not learned from, and have no row.
  for (std::size_t item = 0; item < items; ++item)
    std::ranges::copy(std::span(actions).subspan(item * width, layout_.action), std::back_inserter(learned));
  return OkStatus();
}

Status Evaluation::Add(const v1::Trajectory& trajectory) {
  if (!trajectory.stub_reason().empty()) return OkStatus();
  std::vector<int> kept;
  const std::uint64_t begin = rows_.end_row();
  builder_.AppendJudged(trajectory, rows_, &kept);
  if (kept.empty()) return OkStatus();
  ++sessions_;
  for (std::size_t i = 0; i < kept.size(); ++i) {
    const ConstRow row = rows_.At(begin + i);
    const bool last = i + 1 == kept.size();
    places_.push_back({.session = sessions_,
                       .first = i == 0,
                       .ends = last && kept[i] + 1 == trajectory.steps_size() && trajectory.end() == v1::TERMINATED,
                       .followed = !last && kept[i + 1] == kept[i] + 1});
    std::vector<float> state(layout_.shared + layout_.item);
    std::copy_n(row.shared, layout_.shared, state.begin());
    for (std::uint32_t j = 0; j < row.header->items; ++j) {
      std::copy_n(row.items + j * layout_.item, layout_.item, state.begin() + static_cast<std::ptrdiff_t>(layout_.shared));
      statistics_.Add(state);
    }
    const v1::Exposure& exposure = trajectory.steps(kept[i]).exposure();
    for (Judged& judged : policies_) FUSELINE_RETURN_IF_ERROR(Act(judged, exposure, row.header->items));
    const auto kernel = judge_.KernelOf(row, std::span(row.baseline, row.header->items * layout_.action));
    if (kernel && !kernel->common)
      return ErrorStatus(Code::kInvalidInput, "each item was explored by noise of its own, so its density is no propensity: request",
                         exposure.request_id(), "of user", trajectory.user_id());
  }
  return OkStatus();
}

// ---- Lists for fitted values ----

void Evaluation::AddState(std::size_t row, std::vector<float>& states) const {
  const std::size_t width = layout_.shared + layout_.item;
  const ConstRow& of = rows_.At(row);
  states.resize(states.size() + layout_.max_items * width);
  NormalisedStates(layout_, of, normaliser_, &states[states.size() - layout_.max_items * width]);
}

std::vector<float> Evaluation::Padded(const float* values, std::size_t used, std::size_t width) const {
  std::vector<float> padded(layout_.max_items * width);
  std::copy_n(values, used * width, padded.begin());
  return padded;
}

void Evaluation::AddList(std::size_t row, std::span<const float> actions, ActedLists& lists) const {
  const std::size_t items = rows_.At(row).header->items;
  AddState(row, lists.state);
  const std::vector<float> padded = Padded(actions.data(), items, layout_.action);
  lists.action.insert(lists.action.end(), padded.begin(), padded.end());
  for (std::size_t j = 0; j < layout_.max_items; ++j) lists.mask.push_back(j < items ? 1.0F : 0.0F);
}

EvaluationTransitions Evaluation::Transitions(const Judged& judged, bool with_next, const std::function<bool(std::size_t)>& wanted) const {
  EvaluationTransitions t{.items = layout_.max_items, .state_width = layout_.shared + layout_.item, .action_width = layout_.action};
  for (std::size_t r = 0; r < places_.size(); ++r) {
    if (!wanted(r)) continue;
    const ConstRow row = rows_.At(r);
    const std::size_t values = row.header->items * layout_.action;
    AddList(r, std::span(row.executed, values), t.logged);
    const std::vector<float> padded = Padded(judged.actions[r].data(), row.header->items, layout_.action);
    t.judged_action.insert(t.judged_action.end(), padded.begin(), padded.end());
    t.reward.push_back(static_cast<float>(judge_.RewardOf(row)));
    const bool follows = with_next && places_[r].followed;
    AddList(follows ? r + 1 : r, judged.actions[follows ? r + 1 : r], t.next);
    if (!follows) std::fill(t.next.mask.end() - static_cast<std::ptrdiff_t>(layout_.max_items), t.next.mask.end(), 0.0F);
    ++t.count;
  }
  return t;
}

// ---- Off-policy ----

// For each row what a model expects of what was logged, and of the judged policy's noise; fitted on the other half of the users.
Result<std::optional<std::array<std::vector<double>, 2>>> Evaluation::Model(const Judged& judged) const {
  std::array<std::vector<double>, 2> model{std::vector<double>(places_.size()), std::vector<double>(places_.size())};
  for (std::uint64_t half = 0; half < 2; ++half) {
    const auto of_half = [&](std::size_t r) { return rows_.At(r).is(kHasDensity) && rows_.At(r).header->user % 2 == half; };
    const EvaluationTransitions others = Transitions(judged, false, [&](std::size_t r) {
      return rows_.At(r).is(kHasDensity) && rows_.At(r).header->user % 2 != half;
    });
    if (others.count == 0) return std::nullopt;
    FUSELINE_ASSIGN_OR_FAIL(const auto fitted, FittedQ::Fit(config_, others, {.purpose = "reward model " + std::to_string(half)}));
    ActedLists logged, drawn;
    std::vector<std::size_t> numbers;
    for (std::size_t r = 0; r < places_.size(); ++r) {
      if (!of_half(r)) continue;
      numbers.push_back(r);
      const ConstRow row = rows_.At(r);
      AddList(r, std::span(row.executed, row.header->items * layout_.action), logged);
      const auto kernel = judge_.KernelOf(row, judged.actions[r]);
      Random random(config_.fuseline().seed(), "judged noise", r);
      for (int draw = 0; draw < kDraws; ++draw) {
        const std::vector<double> noise = kernel->Draw(config_.gate().ncis_bandwidth(), random);
        std::vector<float> actions(row.baseline, row.baseline + row.header->items * layout_.action);
        for (std::size_t i = 0; i < actions.size(); ++i) actions[i] += static_cast<float>(noise[i % layout_.action]);
        AddList(r, actions, drawn);
      }
    }
    FUSELINE_ASSIGN_OR_FAIL(const std::vector<double> q, fitted->Values(logged));
    FUSELINE_ASSIGN_OR_FAIL(const std::vector<double> v, fitted->Values(drawn));
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      model[0][numbers[i]] = q[i];
      for (int draw = 0; draw < kDraws; ++draw) model[1][numbers[i]] += v[i * kDraws + static_cast<std::size_t>(draw)] / kDraws;
    }
  }
  return model;
}

void Evaluation::AddOffPolicy(const Judged& judged, const std::optional<std::array<std::vector<double>, 2>>& model,
                              PolicyReport& report) const {
  std::vector<LoggedRequest> requests;
  OffPolicyEstimator estimator(config_.gate().ncis_cap());
  double inside = 0;
  for (std::size_t r = 0; r < places_.size(); ++r) {
    const ConstRow row = rows_.At(r);
    const auto kernel = judge_.KernelOf(row, judged.actions[r]);
    if (!kernel) continue;
    if (!requests.empty() && requests.back().session != places_[r].session) estimator.CloseCluster();
    requests.push_back({places_[r].session, judge_.LogRatio(row, *kernel), judge_.RewardOf(row)});
    estimator.Add(std::exp(requests.back().log_ratio), requests.back().reward, model ? (*model)[0][r] : 0, model ? (*model)[1][r] : 0);
    bool in_box = true;
    for (std::size_t i = 0; i < judged.actions[r].size(); ++i) {
      const float offset = row.executed[i] - judged.actions[r][i];
      in_box = in_box && offset > row.header->box_lower - kEdge && offset < row.header->box_upper + kEdge;
    }
    inside += in_box ? 1 : 0;
  }
  if (requests.empty()) return;
  estimator.CloseCluster();
  const OffPolicyEstimates found = estimator.Finish();
  const NcisResult ncis = Ncis(requests, config_.gate().ncis_cap());
  report.ncis = ncis.reward;
  report.ncis_ess = ncis.effective;
  report.capped_share = ncis.capped_share;
  report.snips = found.snips;
  report.clipped_ips = found.clipped_ips;
  report.snips_ess = found.ess.value_or(0);
  report.inside_box_share = inside / static_cast<double>(requests.size());
  if (!model) return;
  report.dr = found.dr;
  report.sndr = found.sndr;
}

// ---- The value of a session ----

Result<std::optional<Estimate>> Evaluation::Value(const Judged& judged, double conservative_weight) const {
  const EvaluationTransitions transitions =
      Transitions(judged, true, [this](std::size_t r) { return places_[r].ends || places_[r].followed; });
  if (transitions.count == 0) return std::nullopt;
  const FitOptions options{.gamma = config_.learner().gamma(), .conservative_weight = conservative_weight, .purpose = "policy value"};
  FUSELINE_ASSIGN_OR_FAIL(const auto fitted, FittedQ::Fit(config_, transitions, options));
  ActedLists firsts;
  for (std::size_t r = 0; r < places_.size(); ++r)
    if (places_[r].first) AddList(r, judged.actions[r], firsts);
  FUSELINE_ASSIGN_OR_FAIL(const std::vector<double> values, fitted->Values(firsts));
  OffPolicyEstimator mean(1);
  for (const double value : values) {
    mean.Add(1, value);
    mean.CloseCluster();
  }
  return mean.Finish().ips;
}

Result<PolicyReport> Evaluation::Report(const Judged& judged) const {
  PolicyReport report{.version = judged.version};
  std::vector<ScoredPair> pairs;
  for (std::size_t r = 0; r < places_.size(); ++r) judge_.AddPairs(rows_.At(r), judged.actions[r], pairs);
  report.mtf_gauc = JudgeRanking(std::move(pairs));
  FUSELINE_ASSIGN_OR_FAIL(const auto model, Model(judged));
  AddOffPolicy(judged, model, report);
  FUSELINE_ASSIGN_OR_FAIL(report.fqe, Value(judged, 0));
  FUSELINE_ASSIGN_OR_FAIL(report.conservative_fqe, Value(judged, config_.evaluation().fqe_conservative_weight()));
  return report;
}

Result<PolicyEvaluationReport> Evaluation::Finish() {
  if (places_.empty()) return Error(Code::kInvalidInput, "no session has a request that could be judged");
  normaliser_ = statistics_.Finish();
  PolicyEvaluationReport report{.sessions = sessions_, .requests = places_.size()};
  OffPolicyEstimator logged(1);
  for (std::size_t r = 0; r < places_.size(); ++r) {
    report.explored += rows_.At(r).is(kHasDensity) ? 1 : 0;
    logged.Add(1, judge_.RewardOf(rows_.At(r)));
    if (r + 1 == places_.size() || places_[r + 1].session != places_[r].session) logged.CloseCluster();
  }
  report.logged_reward = logged.Finish().ips;
  for (const Judged& judged : policies_) {
    FUSELINE_ASSIGN_OR_FAIL(PolicyReport of, Report(judged));
    report.policies.push_back(std::move(of));
  }
  return report;
}

// An action of the log is a place within the ranges in force; a policy of others would be judged at another place than it means.
Status CheckRanges(const v1::PolicyManifest& manifest, const v1::ActionRanges& in_force) {
  const v1::ActionRanges& its = manifest.ranges();
  const auto differs = [&](const char* keys, int first, int end) {
    for (int d = first; d < end; ++d) {
      if (its.lower(d) == in_force.lower(d) && its.upper(d) == in_force.upper(d)) continue;
      return ErrorStatus(Code::kInvalidInput, "version", manifest.version(),
                         "was learned within other ranges than those of the settings:", keys, "of task", d - first, "were",
                         its.lower(d), "and", its.upper(d), "then, and are", in_force.lower(d), "and", in_force.upper(d));
    }
    return OkStatus();
  };
  const int width = in_force.lower_size();
  if (its.lower_size() != width || its.upper_size() != width)
    return ErrorStatus(Code::kInvalidInput, "version", manifest.version(), "was learned for", its.lower_size() / 2,
                       "tasks, the settings have", width / 2);
  FUSELINE_RETURN_IF_ERROR(differs("policy.power_min and policy.power_max", 0, width / 2));
  return differs("policy.bias_min and policy.bias_max", width / 2, width);
}

}  // namespace

Result<std::unique_ptr<PolicyEvaluation>> PolicyEvaluation::Create(const v1::Config& config, const std::vector<PolicyVersion>& versions,
                                                                   bool with_static) {
  const v1::FeatureSchema schema = SchemaOf(config);
  FUSELINE_FAIL_IF_ERROR(ValidateSchema(schema));
  FUSELINE_ASSIGN_OR_FAIL(const v1::ActionRanges ranges, PolicyRangesOf(config));
  FUSELINE_ASSIGN_OR_FAIL(ActionSpace space, ActionSpace::Create(ranges));
  const std::size_t learned_width = space.learned_width();
  auto evaluation = std::make_unique<Evaluation>(config, std::move(space));
  if (with_static) evaluation->policies().emplace_back();
  for (const PolicyVersion& version : versions) {
    if (version.manifest.schema_digest() != SchemaDigest(schema))
      return Error(Code::kInvalidInput, "version was learned for another schema than that of the settings:", version.manifest.version());
    FUSELINE_FAIL_IF_ERROR(CheckRanges(version.manifest, ranges));
    FUSELINE_ASSIGN_OR_FAIL(const TensorMap tensors, DecodeWeights(version.weights));
    FUSELINE_ASSIGN_OR_FAIL(PolicyNetwork network, PolicyNetwork::Create(version.manifest, tensors));
    if (network.action_space().learned_width() != learned_width)
      return Error(Code::kInvalidInput, "version was learned under other policy.biases than those of the settings:",
                   version.manifest.version());
    Judged judged{.version = version.manifest.version()};
    judged.network.emplace(std::move(network));
    evaluation->policies().push_back(std::move(judged));
  }
  return evaluation;
}

}  // namespace fuseline
