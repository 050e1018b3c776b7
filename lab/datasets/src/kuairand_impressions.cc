#include "fuseline/datasets/kuairand_impressions.h"

#include "kuairand_log.h"
#include "kuairand_scores.h"

namespace fuseline {
namespace {

constexpr std::int64_t kDayMs = 86'400'000;
constexpr std::int64_t kLocalOffsetMs = 8 * 3'600'000;

std::int64_t LocalDay(std::int64_t time_ms) { return (time_ms + kLocalOffsetMs) / kDayMs; }

}  // namespace

KuaiRandImpression ImpressionOf(const KuaiRandRow& row) {
  return {.user_id = row.user_id,
          .video_id = row.video_id,
          .time_ms = row.time_ms,
          .known_ms = row.feedback_ms(),
          .local_day = LocalDay(row.time_ms),
          .context = KuaiRandContext(row),
          .outcomes = OutcomesOf(row)};
}

std::int64_t KuaiRandDayBeginMs(std::int64_t local_day) { return local_day * kDayMs - kLocalOffsetMs; }

Result<KuaiRandImpressions> ReadKuaiRandImpressions(const KuaiRandFiles& files, const KuaiRandOptions& options, std::int64_t frozen_days,
                                                    const ProgressFunction& progress) {
  KuaiRandImpressions result;
  KuaiRandSummary summary;
  FUSELINE_ASSIGN_OR_FAIL(result.users, ReadKuaiRandUsers(files.users));
  FUSELINE_ASSIGN_OR_FAIL(result.videos, ReadKuaiRandVideos(files.videos));
  FUSELINE_ASSIGN_OR_FAIL(const auto rows, ReadKuaiRandLog(files.log, options, progress, &summary));
  if (rows.empty()) return Error(Code::kInvalidInput, "the log has no rows:", files.log.string());
  result.duplicate_rows = summary.duplicate_rows;
  const std::int64_t frozen_ms = KuaiRandDayBeginMs(LocalDay(rows.back().time_ms) + 1 - frozen_days);
  const auto rates = ScoreFromThePast(rows, progress);
  const auto frozen = ScoreFromThePast(rows, progress, frozen_ms);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].repeats) continue;
    KuaiRandImpression one = ImpressionOf(rows[i]);
    one.rates = rates[i];
    one.frozen_rates = frozen[i];
    result.rows.push_back(std::move(one));
  }
  return result;
}

}  // namespace fuseline
