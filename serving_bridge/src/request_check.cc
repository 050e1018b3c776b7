#include "request_check.h"

namespace fuseline {

RequestCheck::RequestCheck(const v1::FeatureSchema& schema, std::size_t max_candidates)
    : tasks_(static_cast<std::size_t>(schema.tasks_size())), max_candidates_(max_candidates) {
  for (const auto& feature : schema.features()) {
    Expected& scope = feature.scope() == v1::USER ? user_ : feature.scope() == v1::CONTEXT ? context_ : item_;
    if (feature.has_categorical()) scope.ids += 1;
    else scope.dense += feature.dense().width();
  }
}

Status RequestCheck::CheckNumbers(const Expected& expected, const FeatureView& values, const char* scope) {
  const bool absent = values.dense.empty() && values.ids.empty();
  if (absent || (values.dense.size() == expected.dense && values.ids.size() == expected.ids)) return OkStatus();
  return ErrorStatus(Code::kInvalidInput, "number of feature values disagrees with the schema, scope", scope, "dense",
                     values.dense.size(), "instead of", expected.dense, "ids", values.ids.size(), "instead of", expected.ids);
}

Result<bool> RequestCheck::Check(const RankingRequest& request) const {
  if (request.request_id.empty()) return Error(Code::kInvalidInput, "request without request_id");
  if (request.user_id.empty()) return Error(Code::kInvalidInput, "request without user_id");
  if (request.candidates.size() > max_candidates_) {
    return Error(Code::kInvalidInput, "request has more candidates than ranker.max_candidates:", request.candidates.size());
  }
  if (request.item_ids.size() != request.candidates.size()) {
    return Error(Code::kInvalidInput, "request has another number of item ids than of candidates:", request.item_ids.size());
  }
  FUSELINE_FAIL_IF_ERROR(CheckNumbers(user_, request.user, "user"));
  FUSELINE_FAIL_IF_ERROR(CheckNumbers(context_, request.context, "context"));
  bool finite = AllFinite(request.user.dense) && AllFinite(request.context.dense);
  for (const CandidateView& candidate : request.candidates) {
    FUSELINE_FAIL_IF_ERROR(CheckNumbers(item_, candidate.features, "item"));
    if (candidate.task_scores.size() != tasks_) {
      return Error(Code::kInvalidInput, "number of task scores disagrees with the schema:", candidate.task_scores.size(),
                   "instead of", tasks_);
    }
    finite = finite && AllFinite(candidate.features.dense) && AllFinite(candidate.task_scores);
  }
  return finite;
}

}  // namespace fuseline
