// Versions of the scorer in the stream, and the evidence for them.

#include <algorithm>
#include <cmath>

#include "fuseline/core/check.h"
#include "fuseline/core/digest.h"
#include "fuseline/fusion/policy_keys.h"
#include "fuseline/proto/schema.h"
#include "scorer/scorer_stream.h"

namespace fuseline {
namespace {

bool AllFinite(const TensorMap& tensors) {
  return std::ranges::all_of(tensors, [](const auto& named) {
    return std::ranges::all_of(named.second.values, [](float value) { return std::isfinite(value); });
  });
}

bool ReadsTheSame(const v1::PolicyManifest& a, const v1::PolicyManifest& b) {
  return a.schema_digest() == b.schema_digest() && CanonicalBytes(a.scorer().shape()) == CanonicalBytes(b.scorer().shape()) &&
         std::ranges::equal(a.scorer().tasks(), b.scorer().tasks());
}

double MeanLogLoss(const std::vector<TaskFigures>& figures) {
  double sum = 0;
  for (const TaskFigures& task : figures) sum += task.log_loss;
  return sum / static_cast<double>(figures.size());
}

}  // namespace

// Of all impressions that were learned from or wait to be; none is 0 or 1.
std::vector<float> ScorerStream::ConstantRates() const {
  std::vector<float> rates;
  for (const double sum : counts_.outcomes()) rates.push_back(static_cast<float>((sum + 0.5) / (static_cast<double>(counts_.known()) + 1)));
  return rates;
}

v1::PolicyManifest ScorerStream::ManifestOf(v1::Lineage lineage) const {
  v1::PolicyManifest manifest;
  manifest.set_version(counts_.versions() + 1);
  manifest.set_policy(ScorerPolicyOf(config_.policy().name()));
  DescribeScorer(config_, fields_, manifest);
  v1::ScorerLineage& learned = *manifest.mutable_scorer()->mutable_lineage();
  learned.set_impressions(counts_.impressions());
  learned.set_steps(counts_.steps());
  learned.set_phase(std::string(PhaseName(phase())));
  *manifest.mutable_lineage() = std::move(lineage);
  manifest.mutable_lineage()->set_parent(accepted_ ? accepted_->manifest.version() : 0);

  auto& figures = *manifest.mutable_metrics();
  figures["held_back"] = static_cast<double>(counts_.held_back());
  figures["steps_undone"] = static_cast<double>(counts_.steps_undone());
  if (started_from_ != 0) figures[kScorerStartedFrom] = static_cast<double>(started_from_);
  if (measured_from_ != 0) figures[kScorerMeasuredFrom] = static_cast<double>(measured_from_);
  if (counts_.window_critic_steps() > 0)
    figures["critic_error"] = counts_.window_critic_error() / static_cast<double>(counts_.window_critic_steps());
  const std::pair<const char*, const ProgressiveWindow*> windows[] = {{"plain.", &plain_window_}, {"weighted.", &weighted_window_}};
  for (const auto& [model, window] : windows) {
    for (std::size_t k = 0; k < fields_.tasks().size() && window->impressions() > 0; ++k) {
      figures[model + ("auc." + fields_.tasks()[k])] = window->Auc(k);
      figures[model + ("log_loss." + fields_.tasks()[k])] = window->LogLoss(k);
    }
  }
  return manifest;
}

Status ScorerStream::MakeVersion(v1::Lineage lineage, std::uint64_t policy_versions, std::int64_t wall_ms) {
  FUSELINE_CHECK(!pending_);
  changed_ = true;
  TensorMap tensors = Published().Weights();
  inputs_.Export(&tensors);
  PolicyVersion made{ManifestOf(std::move(lineage)), EncodeWeights(tensors), {}};
  made.manifest.set_weights_sha256(Sha256Of(made.weights));
  made.manifest.set_created_ms(wall_ms);
  FUSELINE_ASSIGN_OR_RETURN(*made.manifest.mutable_gate(), Judge(made, AllFinite(tensors)));
  const v1::GateVerdict& verdict = made.manifest.gate();
  std::string reasons;
  for (const std::string& reason : verdict.reasons()) reasons += (reasons.empty() ? "" : "; ") + reason;
  (verdict.passed() ? accepted_total_ : refused_total_).Increment();
  log_.Info("learner.scorer_version_made", "version", made.manifest.version(), "passed", verdict.passed(), "steps", counts_.steps(),
            "phase", PhaseName(phase()), "reasons", reasons);
  counts_.set_versions(made.manifest.version());
  policy_versions_.push_back(policy_versions);
  if (policy_versions_.size() > static_cast<std::size_t>(config_.policy_store().keep_versions())) policy_versions_.pop_front();
  counts_.set_steps_at_version(counts_.steps());
  counts_.set_window_critic_steps(0);
  counts_.set_window_critic_error(0);
  plain_window_.Clear();
  weighted_window_.Clear();
  if (verdict.passed()) {
    counts_.set_versions_accepted(counts_.versions_accepted() + 1);
    accepted_ = made;
    accepted_scorer_.reset();
  }
  pending_ = std::move(made);
  return OkStatus();
}

void ScorerStream::MarkStored() {
  FUSELINE_CHECK(pending_.has_value());
  pending_.reset();
  changed_ = true;
}

Status ScorerStream::Adopt(std::uint64_t newest, const PolicyVersion* measure) {
  FUSELINE_CHECK(counts_.sessions() == 0);
  if (measure != nullptr && !measure->manifest.has_scorer())
    return ErrorStatus(Code::kInvalidInput, "the version is a policy's, not a scorer's:", measure->manifest.version());
  changed_ = true;
  started_from_ = newest;
  counts_.set_versions(newest);
  if (measure != nullptr && ReadsTheSame(measure->manifest, ManifestOf({}))) {
    accepted_ = *measure;
    measured_from_ = measure->manifest.version();
  }
  log_.Info("learner.scorer_begun_from_version", "version", newest, "judged_beside", measured_from_);
  return OkStatus();
}

// The candidate is judged as rankers will load it: from its bytes.
Result<v1::GateVerdict> ScorerStream::Judge(const PolicyVersion& candidate, bool finite) {
  v1::GateVerdict verdict;
  const v1::Scorer& settings = config_.scorer();
  const std::size_t end = held_back_.size(), count = std::min(end, static_cast<std::size_t>(settings.gate_impressions()));
  auto& figures = *verdict.mutable_figures();
  figures["impressions"] = static_cast<double>(count);
  if (!finite) verdict.add_reasons("a tensor is not finite");
  if (count < static_cast<std::size_t>(settings.gate_min_impressions()))
    verdict.add_reasons("no evidence: fewer held-back impressions than scorer.gate_min_impressions");
  if (verdict.reasons_size() > 0) return verdict;

  const auto judge = [&](const Scorer& scorer) -> Result<std::vector<TaskFigures>> {
    FUSELINE_ASSIGN_OR_FAIL(const auto scores, scorer.Score(held_back_.rows, end - count, end));
    return JudgeScores(held_back_.rows, end - count, end, scores);
  };
  FUSELINE_ASSIGN_OR_FAIL(const auto scorer, Scorer::Load(candidate));
  FUSELINE_ASSIGN_OR_FAIL(const auto mine, judge(*scorer));
  std::vector<float> constant;
  for (std::size_t row = 0; row < count; ++row) std::ranges::copy(ConstantRates(), std::back_inserter(constant));
  const double loss = MeanLogLoss(mine), floor = MeanLogLoss(JudgeScores(held_back_.rows, end - count, end, constant));
  figures["log_loss"] = loss;
  figures["log_loss_constant"] = floor;
  for (std::size_t k = 0; k < mine.size(); ++k) {
    figures["auc." + fields_.tasks()[k]] = mine[k].auc;
    figures["log_loss." + fields_.tasks()[k]] = mine[k].log_loss;
  }
  if (!(loss <= floor)) verdict.add_reasons("log loss: above that of constant rates");
  if (accepted_) {
    if (!accepted_scorer_) {
      FUSELINE_ASSIGN_OR_FAIL(accepted_scorer_, Scorer::Load(*accepted_));
    }
    FUSELINE_ASSIGN_OR_FAIL(const auto theirs, judge(*accepted_scorer_));
    figures["log_loss_before"] = MeanLogLoss(theirs);
    if (!(loss <= (1 + settings.gate_tolerance()) * MeanLogLoss(theirs)))
      verdict.add_reasons("log loss: above that of the version before by more than scorer.gate_tolerance");
  }
  verdict.set_passed(verdict.reasons_size() == 0);
  return verdict;
}

}  // namespace fuseline
