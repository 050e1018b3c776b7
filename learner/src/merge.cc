#include "merge.h"

#include <algorithm>
#include <tuple>

#include "fuseline/core/check.h"
#include "fuseline/core/digest.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/trajectory_name.h"

namespace fuseline {

void Merge::ExpectPartitions(int count) {
  FUSELINE_CHECK(count >= 1);
  for (std::int32_t partition = 0; partition < count; ++partition) partitions_[partition];
}

void Merge::Restore(const v1::PartitionPosition& position) {
  Partition& partition = partitions_[position.last().partition()];
  partition.taken = position;
  partition.promised_ms = position.stream_time_ms();
  partition.seen.push_back({position.last(), position.digest()});
}

Status Merge::CheckRepeat(Partition& partition, const v1::Trajectory& trajectory) {
  ++repeats_;
  for (const Seen& seen : partition.seen) {
    if (CompareNames(seen.name, trajectory.name()) != 0) continue;
    if (seen.digest.empty()) return OkStatus();  // Known by name alone: a version's manifest holds no digests.
    if (seen.digest == Sha256Of(CanonicalBytes(trajectory))) return OkStatus();
    ++repeats_differing_;
    log_.Error("learner.trajectory_repeated_differently", "name", NameText(trajectory.name()));
  }
  return OkStatus();  // Older than what is remembered: its name alone says that it is a repeat.
}

Status Merge::Offer(v1::Trajectory trajectory) {
  if (!trajectory.has_name()) return ErrorStatus(Code::kInvalidInput, "trajectory without a name");
  const auto found = partitions_.find(trajectory.name().partition());
  if (found == partitions_.end())
    return ErrorStatus(Code::kInvalidInput, "trajectory of a partition that is not expected:", trajectory.name().partition());
  Partition& partition = found->second;

  const v1::TrajectoryName* last = partition.seen.empty() ? nullptr : &partition.seen.back().name;
  if (last != nullptr && CompareNames(trajectory.name(), *last) <= 0) return CheckRepeat(partition, trajectory);
  const bool follows = last == nullptr ? anywhere_ || !trajectory.has_predecessor()
                                       : trajectory.has_predecessor() && CompareNames(trajectory.predecessor(), *last) == 0;
  if (!follows) {
    return ErrorStatus(Code::kCorrupt, "gap before trajectory", NameText(trajectory.name()), "whose predecessor is",
                       trajectory.has_predecessor() ? NameText(trajectory.predecessor()) : "none", "while the last taken is",
                       last == nullptr ? "none" : NameText(*last));
  }
  if (trajectory.stream_time_ms() < partition.promised_ms) {
    return ErrorStatus(Code::kCorrupt, "trajectory", NameText(trajectory.name()), "has stream time", trajectory.stream_time_ms(),
                       "though its partition promised", partition.promised_ms);
  }
  if (partition.queue.size() >= queue_max_)
    return ErrorStatus(Code::kUnavailable, "learner.queue_trajectories wait already for partition", trajectory.name().partition());

  partition.seen.push_back({trajectory.name(), Sha256Of(CanonicalBytes(trajectory))});
  if (partition.seen.size() > kSeenMax) partition.seen.pop_front();
  partition.promised_ms = trajectory.stream_time_ms();
  partition.queue.push_back(std::move(trajectory));
  ++waiting_;
  return OkStatus();
}

Status Merge::Offer(const v1::ProgressMark& mark) {
  const auto found = partitions_.find(mark.partition());
  if (found == partitions_.end())
    return ErrorStatus(Code::kInvalidInput, "progress mark of a partition that is not expected:", mark.partition());
  found->second.promised_ms = std::max(found->second.promised_ms, mark.stream_time_ms());
  return OkStatus();
}

std::optional<std::int32_t> Merge::Ready() const {
  std::optional<std::pair<std::int64_t, std::int32_t>> head;
  for (const auto& [number, partition] : partitions_) {
    if (partition.queue.empty()) continue;
    const std::pair candidate(partition.queue.front().stream_time_ms(), number);
    if (!head || candidate < *head) head = candidate;
  }
  if (!head) return std::nullopt;
  // An empty queue may still bring its promised time, which comes first unless (time, partition) is larger.
  for (const auto& [number, partition] : partitions_) {
    if (partition.queue.empty() && std::pair(partition.promised_ms, number) < *head) return std::nullopt;
  }
  return head->second;
}

v1::Trajectory Merge::Take(std::int32_t number) {
  Partition& partition = partitions_.at(number);
  FUSELINE_CHECK(!partition.queue.empty());
  v1::Trajectory trajectory = std::move(partition.queue.front());
  partition.queue.pop_front();
  --waiting_;
  const auto seen = std::ranges::find_if(
      partition.seen, [&](const Seen& s) { return CompareNames(s.name, trajectory.name()) == 0; });
  v1::PartitionPosition taken;
  *taken.mutable_last() = trajectory.name();
  taken.set_stream_time_ms(trajectory.stream_time_ms());
  taken.set_digest(seen != partition.seen.end() ? seen->digest : Sha256Of(CanonicalBytes(trajectory)));
  partition.taken = std::move(taken);
  return trajectory;
}

std::vector<v1::PartitionPosition> Merge::Positions() const {
  std::vector<v1::PartitionPosition> positions;
  for (const auto& [number, partition] : partitions_) {
    if (partition.taken) positions.push_back(*partition.taken);
  }
  return positions;
}

}  // namespace fuseline
