#include "fuseline/datasets/kuairand.h"

#include <unordered_set>

#include "fuseline/datasets/kuairand_impressions.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/settings.h"
#include "kuairand_events.h"
#include "kuairand_log.h"
#include "kuairand_scores.h"

namespace fuseline {
namespace {

constexpr std::uint64_t kEventsPerProgress = 10'000;
constexpr std::int64_t kDayMs = 86'400'000;

void MeasureAreas(const std::vector<KuaiRandRow>& rows, const std::vector<KuaiRandScores>& scores,
                  KuaiRandSummary* summary) {
  if (rows.empty()) return summary->auc.fill(-1);
  const std::int64_t from_ms = rows.back().time_ms - summary->auc_days * kDayMs;
  std::array<std::vector<std::pair<float, bool>>, kKuaiRandBinaryTasks> scored;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].time_ms < from_ms) continue;
    const std::array<bool, kKuaiRandBinaryTasks> labels = {rows[i].click, rows[i].long_view, rows[i].like,
                                                           rows[i].comment, rows[i].forward};
    for (std::size_t t = 0; t < labels.size(); ++t) scored[t].emplace_back(scores[i][t], labels[t]);
  }
  for (std::size_t t = 0; t < scored.size(); ++t) summary->auc[t] = RocArea(std::move(scored[t]));
}

void CountUnknown(const std::vector<KuaiRandRow>& rows, const EventMaker& maker, KuaiRandSummary* summary) {
  std::unordered_set<std::uint64_t> users, items;
  for (const auto& row : rows) {
    if (!maker.users().contains(row.user_id)) users.insert(row.user_id);
    if (!maker.videos().contains(row.video_id)) items.insert(row.video_id);
  }
  summary->users_without_features = users.size();
  summary->items_without_features = items.size();
}

Status EmitAll(const std::vector<KuaiRandRow>& rows, const std::vector<KuaiRandScores>& scores, const EventMaker& maker,
               const EventFunction& emit, const ProgressFunction& progress, KuaiRandSummary* summary) {
  const auto plan = PlanEvents(rows);
  if (!plan.empty()) {
    summary->first_ms = plan.front().time_ms;
    summary->last_ms = plan.back().time_ms;
  }
  v1::Event event;
  for (const auto& planned : plan) {
    maker.Make(planned, rows[planned.row], scores[planned.row], &event);
    FUSELINE_RETURN_IF_ERROR(emit(event));
    ++summary->events;
    ++summary->events_by_kind[KindName(planned)];
    summary->duplicate_events += rows[planned.row].repeats ? 1 : 0;
    if (progress && summary->events % kEventsPerProgress == 0) progress({"writing", summary->events, plan.size()});
  }
  return OkStatus();
}

// Leaves out what the scorer may have learned from, and puts its scores in place of the rates.
Status ScoreByModel(const KuaiRandScorer& scorer, const FeatureTable& users, const FeatureTable& videos, std::vector<KuaiRandRow>* rows,
                    std::vector<KuaiRandScores>* scores, KuaiRandSummary* summary) {
  std::size_t first = 0;  // Rows are in order of time.
  while (first < rows->size() && (*rows)[first].time_ms <= scorer.learned_until_ms) ++first;
  rows->erase(rows->begin(), rows->begin() + static_cast<std::ptrdiff_t>(first));
  scores->erase(scores->begin(), scores->begin() + static_cast<std::ptrdiff_t>(first));
  summary->rows_of_the_scorer = first;
  if (rows->empty()) return ErrorStatus(Code::kInvalidInput, "the log has no row later than what the scorer learned from");
  KuaiRandImpressions impressions{.users = users, .videos = videos};
  for (const KuaiRandRow& row : *rows) impressions.rows.push_back(ImpressionOf(row));
  FUSELINE_ASSIGN_OR_RETURN(const auto by_model, scorer.score(impressions));
  for (std::size_t i = 0; i < rows->size(); ++i)
    for (std::size_t k = 0; k < scorer.tasks.size(); ++k) (*scores)[i][scorer.tasks[k]] = by_model[i * scorer.tasks.size() + k];
  return OkStatus();
}

}  // namespace

Result<KuaiRandSummary> ImportKuaiRand(const KuaiRandFiles& files, const KuaiRandOptions& options,
                                       const EventFunction& emit, const ProgressFunction& progress) {
  KuaiRandSummary summary;
  const auto schema = KuaiRandSchema();
  FUSELINE_ASSIGN_OR_FAIL(const auto ranges, ActionRangesOf(DefaultSettings().policy(), schema));
  FUSELINE_ASSIGN_OR_FAIL(auto users, ReadKuaiRandUsers(files.users));
  FUSELINE_ASSIGN_OR_FAIL(auto videos, ReadKuaiRandVideos(files.videos));
  FUSELINE_ASSIGN_OR_FAIL(auto rows, ReadKuaiRandLog(files.log, options, progress, &summary));
  auto scores = ScoreFromThePast(rows, progress);
  if (options.scorer.score) FUSELINE_FAIL_IF_ERROR(ScoreByModel(options.scorer, users, videos, &rows, &scores, &summary));
  const EventMaker maker(std::move(users), std::move(videos), SchemaDigest(schema), ranges);
  CountUnknown(rows, maker, &summary);
  MeasureAreas(rows, scores, &summary);
  FUSELINE_FAIL_IF_ERROR(EmitAll(rows, scores, maker, emit, progress, &summary));
  return summary;
}

}  // namespace fuseline
