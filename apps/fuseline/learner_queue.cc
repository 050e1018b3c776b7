#include "learner_queue.h"

#include "fuseline/proto/trajectory_name.h"

namespace fuseline {

TrajectorySink::Room LearnerQueue::RoomFor(std::int32_t partition) const {
  const bool ahead = status_.With([&](const PipelineStatus& status) { return status.ahead.contains(partition); });
  if (ahead) return Room::kAfterOthers;
  return queue_.size() < queue_.capacity() ? Room::kNow : Room::kLater;
}

Result<bool> LearnerQueue::Offer(const OutboxEntry& entry) {
  v1::TrajectoryRecord record;
  if (!record.mutable_trajectory()->ParseFromString(entry.bytes)) {
    return Error(Code::kCorrupt, "stored trajectory cannot be read:", NameText(entry.name));
  }
  freshness_.Closed(record.trajectory(), clock_.wall_ms());
  return queue_.TryPush(record);
}

Result<bool> LearnerQueue::Offer(const v1::ProgressMark& mark) {
  v1::TrajectoryRecord record;
  *record.mutable_progress() = mark;
  return queue_.TryPush(record);
}

std::map<std::int32_t, v1::TrajectoryName> LearnerQueue::Durable(std::int64_t) {
  return status_.With([](const PipelineStatus& status) { return status.learned_names; });
}

// Only a checkpoint lets the group hear of an offset: a learner that lacks what it covers is another one.
Status LearnerQueue::CheckHolds(const v1::TrajectoryName& last) const {
  return status_.With([&](const PipelineStatus& status) {
    const auto learned = status.learned_names.find(last.partition());
    if (learned != status.learned_names.end() && CompareNames(learned->second, last) >= 0) return OkStatus();
    return ErrorStatus(Code::kInvalidInput, "the learner's state has not taken trajectory", NameText(last),
                       "which the group's offset says is learned from; name the state folder that has (fuseline.state_dir)");
  });
}

}  // namespace fuseline
