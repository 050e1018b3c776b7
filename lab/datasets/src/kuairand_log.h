#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/datasets/kuairand.h"
#include "fuseline/v1/event.pb.h"

namespace fuseline {

// One row of the log: an impression and what became of it.
struct KuaiRandRow {
  std::string digest;  // SHA-256 of its fields, 32 bytes: its identity.
  std::uint64_t user_id = 0;
  std::uint64_t video_id = 0;
  std::int64_t time_ms = 0;
  std::int64_t play_ms = 0;
  std::int64_t duration_ms = 0;  // 0: unknown.
  std::uint32_t tab = 0;
  bool click = false, like = false, follow = false, comment = false, forward = false, hate = false;
  bool long_view = false, profile = false;
  bool repeats = false;  // A row with the same digest stands before it in time order.

  std::int64_t feedback_ms() const { return time_ms + play_ms; }  // When all of its feedback is known.
};

// Rows in time order (ties: the file's). Counts rows, bad_rows, duplicate_rows, users and items into `summary`.
Result<std::vector<KuaiRandRow>> ReadKuaiRandLog(const std::filesystem::path& path, const KuaiRandOptions& options,
                                                 const ProgressFunction& progress, KuaiRandSummary* summary);

using FeatureTable = std::unordered_map<std::uint64_t, v1::Features>;
Result<FeatureTable> ReadKuaiRandUsers(const std::filesystem::path& path);
Result<FeatureTable> ReadKuaiRandVideos(const std::filesystem::path& path);

struct KuaiRandImpression;
KuaiRandImpression ImpressionOf(const KuaiRandRow& row);  // Without rates.

// Tab, and the local hour of the app's users (UTC+8) as sine and cosine.
v1::Features KuaiRandContext(const KuaiRandRow& row);

}  // namespace fuseline
