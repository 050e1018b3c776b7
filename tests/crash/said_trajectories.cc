#include "said_trajectories.h"

#include "fuseline/core/digest.h"
#include "fuseline/proto/trajectory_record.h"

namespace fuseline::test {

Result<std::unique_ptr<TrajectoryTopic>> TrajectoryTopic::Open(const kafka::Connection& connection,
                                                               const std::string& topic, int partitions) {
  auto made = std::make_unique<TrajectoryTopic>();
  FUSELINE_ASSIGN_OR_FAIL(made->consumer_, kafka::Consumer::Open(connection, {.topic = topic}));
  std::map<std::int32_t, kafka::StartPosition> starts;
  for (int p = 0; p < partitions; ++p) starts[p] = kafka::StartPosition::Earliest();
  FUSELINE_FAIL_IF_ERROR(made->consumer_->Assign(starts));
  made->said_.resize(static_cast<std::size_t>(partitions));
  return made;
}

Status TrajectoryTopic::Poll(std::int64_t timeout_ms) {
  FUSELINE_ASSIGN_OR_RETURN(const auto batch, consumer_->Consume(10'000, timeout_ms));
  for (const kafka::Message& message : batch.messages()) {
    FUSELINE_ASSIGN_OR_RETURN(const auto record, DecodeTrajectoryRecord(message.value, message.partition));
    if (!record.has_trajectory()) continue;
    const v1::Trajectory& trajectory = record.trajectory();
    auto& said = said_[static_cast<std::size_t>(message.partition)];
    const Name name(trajectory.name().offset(), trajectory.name().ordinal());
    std::string digest = Sha256Of(message.value);
    if (!said.empty() && name <= said.rbegin()->first) {
      ++repeats_;
      const auto before = said.find(name);
      if (before == said.end() || before->second != digest) ++contradictions_;
      continue;
    }
    const Name predecessor = trajectory.has_predecessor()
                                 ? Name(trajectory.predecessor().offset(), trajectory.predecessor().ordinal())
                                 : Name(-1, 0);
    if (predecessor != (said.empty() ? Name(-1, 0) : said.rbegin()->first)) ++gaps_;
    said.emplace(name, std::move(digest));
    ++trajectories_;
  }
  return OkStatus();
}

}  // namespace fuseline::test
