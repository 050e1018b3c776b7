#include <algorithm>
#include <cmath>

#include "fuseline/learner/scorer.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/settings.h"
#include "scorer/outcomes.h"

namespace fuseline {

Result<ScorerImpressions> ScorerImpressions::Create(const v1::Config& config) {
  FUSELINE_ASSIGN_OR_FAIL(ScorerFields fields, ScorerFields::Create(config));
  FUSELINE_ASSIGN_OR_FAIL(Outcomes outcomes, Outcomes::Create(config, fields));
  return ScorerImpressions(std::move(fields), std::make_shared<const Outcomes>(std::move(outcomes)), config);
}

ScorerImpressions::ScorerImpressions(ScorerFields fields, std::shared_ptr<const Outcomes> outcomes, const v1::Config& config)
    : fields_(std::move(fields)),
      outcomes_(std::move(outcomes)),
      schema_digest_(SchemaDigest(SchemaOf(config))),
      max_feature_(static_cast<float>(config.learner().max_feature())) {}

const std::string& ScorerImpressions::outcomes() const { return outcomes_->text(); }

bool ScorerImpressions::IsKnown(const v1::Trajectory& trajectory, int step) {
  return step < trajectory.steps_size() - 1 || trajectory.end() != v1::FLUSHED;
}

// One request's 1e30 would blind the normaliser to everybody else's values.
bool ScorerImpressions::IsSane(const v1::Exposure& exposure) const {
  const auto sane = [this](const v1::Features& features) {
    return std::ranges::all_of(features.dense(), [this](float value) { return std::abs(value) <= max_feature_; });
  };
  return sane(exposure.user_features()) && sane(exposure.context_features()) &&
         std::ranges::all_of(exposure.items(), [&](const v1::ExposedItem& item) { return sane(item.item_features()); });
}

std::size_t ScorerImpressions::Append(const v1::Exposure& exposure,
                                      const google::protobuf::RepeatedPtrField<v1::RewardComponents>* rewards, const std::string& user_id,
                                      ScorerRows* rows, LeftOut* left_out) const {
  const auto leave_out = [&](const char* reason) -> std::size_t {
    if (exposure.items_size() > 0) (*left_out)[reason] += static_cast<std::uint64_t>(exposure.items_size());
    return 0;
  };
  if (exposure.schema_digest() != schema_digest_) return leave_out("schema");
  if (rewards != nullptr && rewards->size() != exposure.items_size()) return leave_out("rewards");
  if (!IsSane(exposure)) return leave_out("feature_magnitude");
  std::size_t appended = 0;
  for (int j = 0; j < exposure.items_size() && (rewards != nullptr || appended == 0); ++j) {
    const v1::ExposedItem& item = exposure.items(j);
    const Status read = fields_.Append(ViewOf(exposure.user_features()), ViewOf(exposure.context_features()), ViewOf(item.item_features()),
                                       user_id, item.item_id(), rows);
    if (!read.ok()) {
      ++(*left_out)["features"];
      continue;
    }
    if (rewards != nullptr) outcomes_->Append((*rewards)[j], &rows->labels);
    else rows->labels.resize(rows->labels.size() + rows->tasks, 0.0F);
    ++appended;
  }
  return appended;
}

}  // namespace fuseline
