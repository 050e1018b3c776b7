#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>

#include "fuseline/core/backoff.h"
#include "fuseline/kafka/producer.h"
#include "fuseline/v1/config.pb.h"
#include "publication.h"
#include "trajectory_sink.h"

namespace fuseline {

// The way to learners elsewhere: the topic kafka.trajectories_topic, partition for partition. Durable is what all in-sync replicas
// have. The producer promises that what it wrote is a prefix of what it was given; after a delivery error it is thrown away, and
// another one begins behind the last entry that is durable. Each writer of a partition, a stalled one too, therefore writes an
// unbroken row that begins behind something which the topic holds: whatever gets between, a reader that takes a name only
// after its predecessor sees each once, in order.
class TrajectoryTopic final : public TrajectorySink {
 public:
  static Result<std::unique_ptr<TrajectoryTopic>> Open(const v1::Config& config, Instruments instruments);
  ~TrajectoryTopic() override;

  Room RoomFor(std::int32_t partition) const override;
  Result<bool> Offer(const OutboxEntry& entry) override;
  Result<bool> Offer(const v1::ProgressMark& mark) override;
  std::map<std::int32_t, v1::TrajectoryName> Durable(std::int64_t wait_ms) override;
  bool TakeSetback() override;
  Status CheckHolds(const v1::TrajectoryName&) const override { return OkStatus(); }  // Its partition's next owner wrote it.
  void Forget(std::int32_t partition) override { in_flight_.erase(partition); }
  void Close() override {}

 private:
  struct Sent {
    std::uint64_t id = 0;
    std::optional<v1::TrajectoryName> name;  // None: a mark.
  };
  TrajectoryTopic(const v1::Config& config, Instruments instruments);
  Status OpenProducer();
  Result<bool> Produce(std::int32_t partition, std::string_view key, std::string_view value, Sent sent);
  void Delivered(const kafka::DeliveryReport& report);

  const v1::Config config_;
  Instruments instruments_;
  const Counter written_, failures_;
  Backoff backoff_;
  std::int64_t open_again_us_ = 0;
  std::uint64_t next_id_ = 1;
  std::map<std::int32_t, std::deque<Sent>> in_flight_;
  std::map<std::int32_t, v1::TrajectoryName> durable_;  // Since the last call of Durable.
  std::optional<Status> failure_;                       // Of the producer in hand: nothing is given to it any more.
  bool setback_ = false;
  std::unique_ptr<kafka::Producer> producer_;  // Last: its reports use the members above.
};

// Largest record of the topic: a trajectory that is not made a stub, with its key and what Kafka puts around it.
std::int64_t TrajectoryRecordBytesMax(const v1::Config& config);

}  // namespace fuseline
