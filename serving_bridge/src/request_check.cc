#include "request_check.h"

#include <string>

namespace fuseline {
namespace {

Counter Refused(Metrics& metrics, const char* reason) {
  return metrics.GetCounter("fuseline_serving_bridge_requests_refused_total",
                            "requests that were not ranked, by reason", {{"reason", reason}});
}

// Counts, and says why.
template <typename... Words>
Status Refuse(const Counter& counter, const Words&... words) {
  counter.Increment();
  return ErrorStatus(Code::kInvalidInput, words...);
}

}  // namespace

RequestCheck::RequestCheck(const v1::FeatureSchema& schema, bool scorer, std::size_t max_candidates, Metrics& metrics)
    : tasks_(static_cast<std::size_t>(schema.tasks_size())),
      max_candidates_(max_candidates),
      scorer_(scorer),
      identity_total_(Refused(metrics, "identity")),
      candidates_total_(Refused(metrics, "candidates")),
      schema_total_(Refused(metrics, "schema")) {
  for (const auto& feature : schema.features()) {
    Expected& scope = feature.scope() == v1::USER ? user_ : feature.scope() == v1::CONTEXT ? context_ : item_;
    if (feature.has_categorical()) scope.ids += 1;
    else scope.dense += feature.dense().width();
  }
}

Status RequestCheck::CheckIdentityAndCandidates(const RankingRequest& request) const {
  if (request.request_id.empty()) return Refuse(identity_total_, "request without request_id");
  if (request.user_id.empty()) return Refuse(identity_total_, "request without user_id");
  const std::size_t candidates = request.candidates.size();
  if (candidates > max_candidates_) {
    return Refuse(candidates_total_, "request has more candidates than ranker.max_candidates:", candidates);
  }
  if (request.item_ids.size() == candidates) return OkStatus();
  return Refuse(candidates_total_,
                "request has another number of item ids than of candidates:", request.item_ids.size());
}

Status RequestCheck::CheckNumbers(const Expected& expected, const FeatureView& values, const char* scope) const {
  const bool absent = values.dense.empty() && values.ids.empty();
  if (absent || (values.dense.size() == expected.dense && values.ids.size() == expected.ids)) return OkStatus();
  return Refuse(schema_total_, "number of feature values disagrees with the schema, scope", scope, "dense",
                values.dense.size(), "instead of", expected.dense, "ids", values.ids.size(), "instead of",
                expected.ids);
}

Result<bool> RequestCheck::Check(const RankingRequest& request) const {
  FUSELINE_FAIL_IF_ERROR(CheckIdentityAndCandidates(request));
  FUSELINE_FAIL_IF_ERROR(CheckNumbers(user_, request.user, "user"));
  FUSELINE_FAIL_IF_ERROR(CheckNumbers(context_, request.context, "context"));
  bool finite = AllFinite(request.user.dense) && AllFinite(request.context.dense);
  const bool unscored = scorer_ && !request.candidates.empty() && request.candidates[0].task_scores.empty();
  const std::size_t tasks = unscored ? 0 : tasks_;
  for (const CandidateView& candidate : request.candidates) {
    FUSELINE_FAIL_IF_ERROR(CheckNumbers(item_, candidate.features, "item"));
    if (candidate.task_scores.size() != tasks) {
      return tl::unexpected(Refuse(schema_total_, "number of task scores disagrees with the schema:",
                                   candidate.task_scores.size(), "instead of", tasks));
    }
    finite = finite && AllFinite(candidate.features.dense) && AllFinite(candidate.task_scores);
  }
  return finite;
}

}  // namespace fuseline
