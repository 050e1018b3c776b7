#include "scorer/scorer_stream.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "fuseline/core/check.h"
#include "fuseline/fusion/policy_keys.h"
#include "scorer/rmtl.h"

namespace fuseline {
namespace {

std::vector<std::size_t> RowsThatTrain(const StreamRows& rows, std::size_t first, std::size_t most) {
  std::vector<std::size_t> which;
  for (std::size_t row = first; row < rows.size() && which.size() < most; ++row)
    if (rows.follows[row] != Follows::kNotOurs) which.push_back(row);
  return which;
}

}  // namespace

Status CheckScorerStream(const v1::Config& config) {
  const std::string& policy = config.policy().name();
  if (policy.ends_with(ScorerPolicyOf("")))
    return ErrorStatus(Code::kInvalidInput, "policy.name must not end in", ScorerPolicyOf("") + ", as the scorers of policies do:", policy);
  const v1::Scorer& scorer = config.scorer();
  if ((scorer.learn() || config.ranker().scorer() == "live") && !ValidatePolicyName(ScorerPolicyOf(policy)).ok())
    return ErrorStatus(Code::kInvalidInput, "policy.name is no name, or too long for that of its scorer, NAME.scorer of 128 characters at most:", policy);
  if (!scorer.learn()) return OkStatus();
  if (scorer.gate_min_impressions() > scorer.gate_impressions())
    return ErrorStatus(Code::kInvalidInput, "no version could pass: scorer.gate_min_impressions is above scorer.gate_impressions:",
                       scorer.gate_min_impressions(), scorer.gate_impressions());
  if (config.learner().holdout_share() == 0)
    return ErrorStatus(Code::kInvalidInput, "no version could pass: scorer.learn is true, and learner.holdout_share is 0: nobody judges them");
  FUSELINE_ASSIGN_OR_RETURN([[maybe_unused]] const ScorerImpressions impressions, ScorerImpressions::Create(config));
  return CheckScorerBackbone(config.scorer().backbone());
}

Result<std::unique_ptr<ScorerStream>> ScorerStream::Create(const v1::Config& config, Log& log, Metrics& metrics) {
  FUSELINE_ASSIGN_OR_FAIL(ScorerImpressions impressions, ScorerImpressions::Create(config));
  const ScorerFields& fields = impressions.fields();
  FUSELINE_ASSIGN_OR_FAIL(auto plain, CreateScorerModel(config, fields.shape(), fields.tasks().size()));
  return std::unique_ptr<ScorerStream>(new ScorerStream(config, std::move(impressions), std::move(plain), log, metrics));
}

ScorerStream::ScorerStream(const v1::Config& config, ScorerImpressions impressions, std::unique_ptr<ScorerModel> plain, Log& log,
                           Metrics& metrics)
    : config_(config),
      impressions_(std::move(impressions)),
      fields_(impressions_.fields()),
      batch_rows_(static_cast<std::size_t>(SizesOf(config.scorer()).batch)),
      log_(log),
      inputs_(fields_.shape(), fields_.tasks().size()),
      plain_(std::move(plain)),
      waiting_{.rows = fields_.NoRows(), .numbers = {}, .follows = {}},
      held_back_{.rows = fields_.NoRows(), .numbers = {}, .follows = {}},
      plain_window_(fields_.tasks().size()),
      weighted_window_(fields_.tasks().size()),
      impressions_total_(metrics.GetCounter("fuseline_scorer_impressions_total", "impressions that the scorer has learned from")),
      steps_total_(metrics.GetCounter("fuseline_scorer_steps_total", "update steps of the scorer's plain model")),
      undone_total_(metrics.GetCounter("fuseline_scorer_steps_undone_total", "update steps of a scorer's model undone by the numeric guard")),
      accepted_total_(metrics.GetCounter("fuseline_scorer_versions_total", "versions of the scorer made", {{"verdict", "accepted"}})),
      refused_total_(metrics.GetCounter("fuseline_scorer_versions_total", "versions of the scorer made", {{"verdict", "refused"}})) {
  counts_.mutable_outcomes()->Resize(static_cast<int>(fields_.tasks().size()), 0.0);
  const auto gauges_of = [&](const char* model) {
    std::vector<TaskGauges> gauges;
    for (const std::string& task : fields_.tasks()) {
      const MetricLabels labels{{"model", model}, {"task", task}};
      gauges.push_back({metrics.GetGauge("fuseline_scorer_progressive_auc", "of impressions before they train; -1: a class is missing", labels),
                        metrics.GetGauge("fuseline_scorer_progressive_log_loss", "of the same impressions, mean in nats", labels)});
    }
    return gauges;
  };
  plain_gauges_ = gauges_of("plain");
  weighted_gauges_ = gauges_of("weighted");
}

ScorerPhase ScorerStream::phase() const {
  if (!HasPhases() || !critics_) return ScorerPhase::kPretraining;
  return weighted_ ? ScorerPhase::kWeighted : ScorerPhase::kCritics;
}

void ScorerStream::AppendStep(const v1::Exposure& exposure, const google::protobuf::RepeatedPtrField<v1::RewardComponents>* rewards,
                              const std::string& user_id, StreamRows& to) {
  ScorerImpressions::LeftOut left_out;
  const std::size_t appended = impressions_.Append(exposure, rewards, user_id, &to.rows, &left_out);
  to.rows.session.resize(to.rows.session.size() + appended, static_cast<std::uint32_t>(counts_.sessions()));
  to.follows.resize(to.follows.size() + appended, rewards != nullptr ? Follows::kNext : Follows::kNotOurs);
  for (const auto& [reason, impressions] : left_out) (*counts_.mutable_left_out())[reason] += impressions;
}

void ScorerStream::AppendSession(const v1::Trajectory& trajectory, bool with_next, StreamRows& to) {
  counts_.set_sessions(counts_.sessions() + 1);
  const std::size_t first = to.size();
  for (int t = 0; t < trajectory.steps_size(); ++t) {
    const v1::Step& step = trajectory.steps(t);
    if (ScorerImpressions::IsKnown(trajectory, t)) AppendStep(step.exposure(), &step.rewards(), trajectory.user_id(), to);
    else (*counts_.mutable_left_out())["flushed_last"] += static_cast<std::uint64_t>(step.exposure().items_size());
  }
  if (to.size() == first) return;
  const std::size_t last = to.size() - 1;
  to.follows[last] = trajectory.end() == v1::TERMINATED ? Follows::kNothing : Follows::kUnknown;
  if (!with_next || trajectory.end() != v1::TRUNCATED || !trajectory.has_next_step()) return;
  AppendStep(trajectory.next_step().exposure(), nullptr, trajectory.user_id(), to);
  if (to.size() > last + 1) to.follows[last] = Follows::kNext;
}

Status ScorerStream::Take(const v1::Trajectory& trajectory, bool held_back) {
  changed_ = true;
  if (held_back) {
    const auto most = static_cast<std::size_t>(config_.scorer().gate_impressions());
    const std::size_t before = held_back_.size();
    AppendSession(trajectory, /*with_next=*/false, held_back_);
    counts_.set_held_back(counts_.held_back() + held_back_.size() - before);
    if (held_back_.size() > 2 * most) held_back_.DropFront(held_back_.size() - most);  // Seldom: it moves all of them.
    return OkStatus();
  }
  const std::size_t first = waiting_.size();
  AppendSession(trajectory, /*with_next=*/true, waiting_);
  for (std::size_t row = first; row < waiting_.size(); ++row) inputs_.Numbers(waiting_.rows, row, &waiting_.numbers);
  FUSELINE_RETURN_IF_ERROR(ScoreProgressively(first));

  // What came of the session is known by now, and is counted at once: its rows have their numbers of before.
  std::size_t rows_that_train = 0;
  for (const std::size_t row : RowsThatTrain(waiting_, first, waiting_.size())) {
    inputs_.CountInput(waiting_.rows, row, std::span(waiting_.numbers).subspan(row * inputs_.numbers(), inputs_.numbers()));
    inputs_.CountOutcome(waiting_.rows, row);
    counts_.set_known(counts_.known() + 1);
    for (std::size_t k = 0; k < fields_.tasks().size(); ++k) {
      const int task = static_cast<int>(k);
      counts_.set_outcomes(task, counts_.outcomes(task) + static_cast<double>(waiting_.rows.labels[row * waiting_.rows.tasks + k]));
    }
    ++rows_that_train;
  }
  if (rows_that_train == 0) return OkStatus();
  while (RowsThatTrain(waiting_, 0, batch_rows_).size() == batch_rows_) FUSELINE_RETURN_IF_ERROR(Step());
  return OkStatus();
}

Status ScorerStream::ScoreProgressively(std::size_t first) {
  if (counts_.steps() == 0) return OkStatus();  // Nothing was learned yet.
  const auto which = RowsThatTrain(waiting_, first, waiting_.size());
  if (which.empty()) return OkStatus();
  const ScorerBatch batch = inputs_.Gather(waiting_.rows, which, waiting_.numbers);
  FUSELINE_ASSIGN_OR_RETURN(const auto by_plain, plain_->Predict(batch));
  plain_window_.Add(batch.labels, by_plain);
  if (!weighted_ || !HasPhases()) return OkStatus();
  FUSELINE_ASSIGN_OR_RETURN(const auto by_weighted, weighted_->Predict(batch));
  weighted_window_.Add(batch.labels, by_weighted);
  return OkStatus();
}

// Both begin between two batches. The weighted model begins as the plain one's copy, moments and all, and its steps have the same numbers:
// weights of the losses are all that differs.
Status ScorerStream::BeginPhases() {
  const v1::Scorer& settings = config_.scorer();
  const std::size_t tasks = fields_.tasks().size();
  if (!HasPhases()) return OkStatus();
  if (!critics_ && counts_.impressions() >= static_cast<std::uint64_t>(settings.pretraining_impressions())) {
    FUSELINE_ASSIGN_OR_RETURN(critics_, CreateScorerCritics(config_, fields_.shape(), tasks));
    log_.Info("learner.scorer_phase_begun", "phase", PhaseName(phase()), "impressions", counts_.impressions());
  }
  if (weighted_ || !critics_ || counts_.critic_impressions() < static_cast<std::uint64_t>(settings.critic_impressions())) return OkStatus();
  FUSELINE_ASSIGN_OR_RETURN(weighted_, CreateScorerModel(config_, fields_.shape(), tasks));
  FUSELINE_RETURN_IF_ERROR(weighted_->Restore(plain_->Save()));
  log_.Info("learner.scorer_phase_begun", "phase", PhaseName(phase()), "impressions", counts_.impressions());
  return OkStatus();
}

// One batch, through all that have begun.
Status ScorerStream::Step() {
  FUSELINE_RETURN_IF_ERROR(BeginPhases());
  const auto which = RowsThatTrain(waiting_, 0, batch_rows_);
  ScorerBatch batch = inputs_.Gather(waiting_.rows, which, waiting_.numbers);
  CriticBatch of_critics;
  if (critics_ && HasPhases()) {
    FUSELINE_ASSIGN_OR_RETURN(of_critics, CriticsBatchOf(which));
  }
  FUSELINE_ASSIGN_OR_RETURN(const ScorerStep plain, plain_->Step(batch, counts_.steps()));
  if (plain.undone) NoteUndone("plain");
  if (of_critics.at.size > 0) {
    FUSELINE_ASSIGN_OR_RETURN(const double error, critics_->Step(of_critics));
    counts_.set_critic_impressions(counts_.critic_impressions() + of_critics.at.size);
    if (std::isfinite(error)) {
      counts_.set_window_critic_steps(counts_.window_critic_steps() + 1);
      counts_.set_window_critic_error(counts_.window_critic_error() + error);
    } else {
      NoteUndone("critics");
    }
  }
  if (weighted_ && HasPhases()) {
    FUSELINE_RETURN_IF_ERROR(WeighLosses(config_.scorer(), *weighted_, *critics_, batch));
    FUSELINE_ASSIGN_OR_RETURN(const ScorerStep weighted, weighted_->Step(batch, counts_.steps()));
    if (weighted.undone) NoteUndone("weighted");
  }
  counts_.set_steps(counts_.steps() + 1);
  counts_.set_impressions(counts_.impressions() + which.size());
  steps_total_.Increment();
  impressions_total_.Increment(static_cast<double>(which.size()));
  std::size_t end = which.back() + 1;
  if (end < waiting_.size() && waiting_.follows[end] == Follows::kNotOurs) ++end;
  waiting_.DropFront(end);
  SetGauges();
  return OkStatus();
}

// Of the rows whose session's next impression, or its end, is known: prediction by the plain model as it stands, as the action; its
// cross-entropy, negated, as the reward.
Result<CriticBatch> ScorerStream::CriticsBatchOf(const std::vector<std::size_t>& which) const {
  CriticBatch batch;
  std::vector<std::size_t> at, next;
  for (const std::size_t row : which) {
    if (waiting_.follows[row] == Follows::kUnknown) continue;
    const bool ends = waiting_.follows[row] == Follows::kNothing;
    at.push_back(row);
    next.push_back(ends ? row : row + 1);
    batch.terminated.push_back(ends ? 1.0F : 0.0F);
  }
  if (at.empty()) return batch;
  batch.at = inputs_.Gather(waiting_.rows, at, waiting_.numbers);
  batch.next = inputs_.Gather(waiting_.rows, next, waiting_.numbers);
  FUSELINE_ASSIGN_OR_FAIL(batch.action, plain_->Predict(batch.at));
  FUSELINE_ASSIGN_OR_FAIL(batch.next_action, plain_->Predict(batch.next));
  for (std::size_t i = 0; i < batch.action.size(); ++i) batch.reward.push_back(RmtlReward(batch.action[i], batch.at.labels[i]));
  return batch;
}

void ScorerStream::NoteUndone(const char* model) {
  counts_.set_steps_undone(counts_.steps_undone() + 1);
  undone_total_.Increment();
  log_.Error("learner.scorer_step_undone", "model", model, "step", counts_.steps(), "undone", counts_.steps_undone());
}

void ScorerStream::SetGauges() const {
  const auto set = [](const std::vector<TaskGauges>& gauges, const ProgressiveWindow& window) {
    for (std::size_t k = 0; k < gauges.size(); ++k) {
      gauges[k].auc.Set(window.Auc(k));
      gauges[k].log_loss.Set(window.LogLoss(k));
    }
  };
  set(plain_gauges_, plain_window_);
  set(weighted_gauges_, weighted_window_);
}

ScorerProgress ScorerStream::progress() const {
  ScorerProgress progress{.phase = std::string(PhaseName(phase())),
                          .impressions = counts_.impressions(),
                          .held_back = counts_.held_back(),
                          .steps = counts_.steps(),
                          .steps_undone = counts_.steps_undone(),
                          .versions = counts_.versions(),
                          .versions_accepted = counts_.versions_accepted(),
                          .critic_error = counts_.window_critic_error() / std::max<double>(1, static_cast<double>(counts_.window_critic_steps())),
                          .progressive_impressions = plain_window_.impressions(),
                          .tasks = {},
                          .left_out = {counts_.left_out().begin(), counts_.left_out().end()}};
  for (std::size_t k = 0; k < fields_.tasks().size(); ++k) {
    progress.tasks.push_back({.task = fields_.tasks()[k],
                              .auc = plain_window_.Auc(k),
                              .log_loss = plain_window_.LogLoss(k),
                              .weighted_auc = weighted_window_.Auc(k),
                              .weighted_log_loss = weighted_window_.LogLoss(k)});
  }
  return progress;
}

}  // namespace fuseline
