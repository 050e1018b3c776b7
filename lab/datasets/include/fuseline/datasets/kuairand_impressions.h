#pragma once

#include <array>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/datasets/kuairand.h"
#include "fuseline/v1/event.pb.h"

namespace fuseline {

// One row of KuaiRand's log as something to learn task scores from.
struct KuaiRandImpression {
  std::uint64_t user_id = 0, video_id = 0;
  std::int64_t time_ms = 0;
  std::int64_t known_ms = 0;   // When all of its feedback was known.
  std::int64_t local_day = 0;  // Days since the epoch of the app's users (UTC+8).
  v1::Features context;
  std::array<float, kKuaiRandTasks> outcomes{};      // By KuaiRandTask, in the task's range: 0 or 1; seconds watched.
  std::array<float, kKuaiRandTasks> rates{};         // The importer's scores: smoothed rates of all that was known before it,
  std::array<float, kKuaiRandTasks> frozen_rates{};  // and of what was known before it and before the frozen days began.
};

struct KuaiRandImpressions {
  std::vector<KuaiRandImpression> rows;  // In time order; a row that stands in the log twice stands here once.
  std::unordered_map<std::uint64_t, v1::Features> users, videos;  // Without an entry: the schema's defaults.
  std::uint64_t duplicate_rows = 0;
};

// `frozen_days`: how many of the log's last local days the frozen rates know nothing of. Errors and cost as
// ImportKuaiRand.
Result<KuaiRandImpressions> ReadKuaiRandImpressions(const KuaiRandFiles& files, const KuaiRandOptions& options, std::int64_t frozen_days,
                                                    const ProgressFunction& progress = {});

// Where a local day begins; days as in KuaiRandImpression.
std::int64_t KuaiRandDayBeginMs(std::int64_t local_day);

}  // namespace fuseline
