#include "kuairand_rows.h"

#include <string>

#include "fuseline/datasets/kuairand_impressions.h"
#include "fuseline/fusion/feature_encoding.h"
#include "measure.h"

namespace fuseline::bench {

v1::FeatureSchema KuaiRandFeatures() { return KuaiRandSchema(); }

ScorerRows KuaiRandRows(const ScorerFields& fields, const std::filesystem::path& folder) {
  const auto all = Must(ReadKuaiRandImpressions({.log = folder / "log_w1.csv.gz",
                                                 .users = folder / "user_features_pure.csv.gz",
                                                 .videos = folder / "video_features_basic_pure.csv.gz"},
                                                {}, /*frozen_days=*/2));
  const std::int64_t test_day = all.rows.back().local_day - 1, test_begin_ms = KuaiRandDayBeginMs(test_day);
  const auto features = [](const auto& table, std::uint64_t id) {
    const auto found = table.find(id);
    return found == table.end() ? FeatureView{} : ViewOf(found->second);
  };
  ScorerRows rows = fields.NoRows();
  for (const KuaiRandImpression& one : all.rows) {
    if (one.local_day >= test_day || one.known_ms >= test_begin_ms) continue;
    Must(fields.Append(features(all.users, one.user_id), ViewOf(one.context), features(all.videos, one.video_id),
                       std::to_string(one.user_id), std::to_string(one.video_id), &rows));
    for (const KuaiRandTask task : {kClick, kLongView}) rows.labels.push_back(one.outcomes[task]);
    rows.session.push_back(0);
    rows.time_ms.push_back(one.time_ms);
    rows.known_ms.push_back(one.known_ms);
  }
  return rows;
}

}  // namespace fuseline::bench
