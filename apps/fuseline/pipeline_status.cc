#include "pipeline_status.h"

#include <algorithm>
#include <utility>

#include "fuseline/fusion/policy_keys.h"
#include "fuseline/ingest/accounting.h"

namespace fuseline {

StateFolders::StateFolders(std::filesystem::path state_root)
    : root(std::move(state_root)), sessions(root / "sessions"), learner(root / "learner"), versions(root / "policy"), scorers(root / "scorer") {}

const std::filesystem::path& StateFolders::ArchiveOf(const std::string& policy) const {
  return policy.ends_with(ScorerPolicyOf("")) ? scorers : versions;
}

PartitionStatus StatusOf(const PartitionPosition& position) {
  return {position.next_offset, position.stream_time_ms, position.open_sessions, position.accounting};
}

v1::Accounting PipelineStatus::accounting() const {
  v1::Accounting total;
  for (const auto& [number, partition] : partitions) AddAccounting(partition.accounting, &total);
  return total;
}

std::uint64_t PipelineStatus::learner_backlog() const {
  const std::uint64_t closed = accounting().trajectories();
  return closed - std::min(closed, learner.trajectories + learner.waiting);
}

std::map<std::int32_t, std::optional<std::int64_t>> PipelineStatus::stream_time_lags_ms() const {
  std::int64_t latest_ms = kBeforeTimeMs;
  for (const auto& [number, partition] : partitions) latest_ms = std::max(latest_ms, partition.stream_time_ms);
  std::map<std::int32_t, std::optional<std::int64_t>> lags;
  for (const auto& [number, partition] : partitions) {
    const bool has_time = partition.stream_time_ms != kBeforeTimeMs;
    lags[number] = has_time ? std::optional(latest_ms - partition.stream_time_ms) : std::nullopt;
  }
  return lags;
}

std::optional<std::int32_t> PipelineStatus::waits_for_partition() const {
  if (accounting().trajectories() <= learner.trajectories) return std::nullopt;
  const auto earlier = [](const auto& a, const auto& b) { return a.second.stream_time_ms < b.second.stream_time_ms; };
  const auto [first, last] = std::ranges::minmax_element(partitions, earlier);
  if (first == last || !earlier(*first, *last)) return std::nullopt;
  return first->first;
}

}  // namespace fuseline
