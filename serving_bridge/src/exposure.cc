#include "exposure.h"

#include <cmath>

#include "fuseline/core/check.h"
#include "fuseline/proto/schema.h"

namespace fuseline {
namespace {

void CopyFeatures(const FeatureView& from, v1::Features* to) {
  to->mutable_dense()->Reserve(static_cast<int>(from.dense.size()));
  for (const float value : from.dense) to->add_dense(std::isfinite(value) ? value : 0.0F);
  to->mutable_ids()->Add(from.ids.begin(), from.ids.end());
}

}  // namespace

ExposureWriter::ExposureWriter(const v1::FeatureSchema& schema) : schema_digest_(SchemaDigest(schema)) {
  for (const v1::Task& task : schema.tasks()) task_min_.push_back(task.min());
}

std::size_t ExposureWriter::UsableScores(std::span<const float> from, std::span<float> to) const {
  FUSELINE_CHECK(from.size() == task_min_.size() && to.size() == task_min_.size());
  std::size_t replaced = 0;
  for (std::size_t i = 0; i < from.size(); ++i) {
    const bool finite = std::isfinite(from[i]);
    to[i] = finite ? from[i] : task_min_[i];
    replaced += finite ? 0 : 1;
  }
  return replaced;
}

void ExposureWriter::Fill(const RankingRequest& request, const Decision& decision, v1::Exposure* exposure) const {
  exposure->set_request_id(std::string(request.request_id));
  exposure->set_surface(std::string(request.surface));
  exposure->set_schema_digest(schema_digest_);
  CopyFeatures(request.user, exposure->mutable_user_features());
  CopyFeatures(request.context, exposure->mutable_context_features());
  exposure->set_policy_version(decision.policy_version);
  exposure->set_scorer_version(decision.scorer_version);
  exposure->set_experiment(decision.experiment);
  exposure->set_arm(decision.arm);
  exposure->set_experiment_coverage(decision.experiment_coverage);
  exposure->mutable_shadows()->Assign(decision.shadows.begin(), decision.shadows.end());
  if (decision.box) {
    exposure->mutable_box()->set_lower(decision.box->lower);
    exposure->mutable_box()->set_upper(decision.box->upper);
  }
  if (decision.log_density) exposure->set_log_density(*decision.log_density);
  for (std::size_t position = 0; position < decision.order.size(); ++position) {
    const std::size_t candidate = decision.order[position].candidate;
    const CandidateView& view = request.candidates[candidate];
    v1::ExposedItem& item = *exposure->add_items();
    item.set_item_id(std::string(request.item_ids[candidate]));
    item.set_position(static_cast<std::uint32_t>(position));
    CopyFeatures(view.features, item.mutable_item_features());
    const std::span<const float> scores = decision.task_scores.empty() ? view.task_scores : decision.task_scores_of(position);
    item.mutable_task_scores()->Resize(static_cast<int>(scores.size()), 0.0F);
    UsableScores(scores, {item.mutable_task_scores()->mutable_data(), scores.size()});
    const auto baseline = decision.baseline_action(position);
    const auto executed = decision.executed_action(position);
    item.mutable_baseline_action()->Add(baseline.begin(), baseline.end());
    item.mutable_executed_action()->Add(executed.begin(), executed.end());
    item.set_fused_score(static_cast<float>(decision.order[position].fused_score));
  }
}

}  // namespace fuseline
