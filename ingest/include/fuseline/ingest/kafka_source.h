#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/ingest/dead_letter.h"
#include "fuseline/ingest/event_source.h"
#include "fuseline/kafka/connection.h"
#include "fuseline/kafka/consumer.h"
#include "fuseline/proto/event_codec.h"
#include "fuseline/v1/config.pb.h"

namespace fuseline {

kafka::Connection ConnectionOf(const v1::Kafka& settings);

struct KafkaSourceOptions {
  kafka::Connection connection;
  kafka::ConsumerOptions consumer;  // Topic, group, time-outs.
  bool group = false;               // Partitions from the group; else all of the topic.
  bool until_end = false;           // A range: up to the high watermarks seen at the start. Not with `group`.
  std::int64_t batch_records = 2000;
  std::int64_t max_future_ms = 60'000;
  EventLimits limits;

  // Where to begin in a partition that is now read here; `consumer` is there to be asked what the group and the log say of it. Runs
  // inside Open or Next. An error comes out of them; with `group` the partitions of that call are then read by nobody.
  std::function<Result<kafka::StartPosition>(kafka::Consumer& consumer, std::int32_t partition)> start;
  // Only with `group`, inside Next or Close: partitions are about to leave this member, or did so already (`lost`: nothing can be
  // committed any more). Their batches still inside were dropped.
  std::function<void(std::span<const std::int32_t> partitions, bool lost)> revoked;
};
// Everything that settings know; `start`, `revoked` and the modes are the caller's.
KafkaSourceOptions KafkaSourceOptionsOf(const v1::Kafka& kafka, const v1::Ingest& ingest);

// Events of a Kafka topic. An event further ahead of its record's timestamp than max_future_ms is quarantined, a control
// record made void; no clock is asked. See EventSource for threads and order. Cost: consume plus one parse per event.
class KafkaSource final : public EventSource {
 public:
  // `dead_letters` is borrowed for the source's life. Errors: as kafka::Consumer, and those of `start`.
  static Result<std::unique_ptr<KafkaSource>> Open(KafkaSourceOptions options, DeadLetterSink* dead_letters);
  ~KafkaSource() override;

  Result<std::optional<EventBatch>> Next(std::int64_t timeout_ms) override;
  Status Pause(std::span<const std::int32_t> partitions) override;
  Status Resume(std::span<const std::int32_t> partitions) override;
  Status Commit(const std::map<std::int32_t, kafka::CommittedOffset>& offsets) override;
  bool caught_up(std::int32_t partition) const override;
  bool finished() const override;

  std::vector<std::int32_t> partitions() const;  // Read here now, sorted.
  // Records between what Next gave last and the end of the partition, as of the last fetch; -1: not known yet.
  std::int64_t lag(std::int32_t partition) const;

  Status Close(std::int64_t deadline_ms);  // As kafka::Consumer::Close.

 private:
  struct Impl;
  explicit KafkaSource(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace fuseline
