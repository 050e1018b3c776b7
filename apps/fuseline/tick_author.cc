#include "tick_author.h"

#include <utility>

#include "fuseline/ingest/kafka_source.h"
#include "fuseline/v1/event.pb.h"

namespace fuseline {

PartitionPulse PulseOf(const PartitionPosition& processed, bool caught_up) {
  const v1::Accounting& account = processed.accounting;
  return {.previous_offset = processed.previous_offset,
          .stream_time_ms = processed.stream_time_ms,
          .events = account.read() - account.malformed() - account.quarantined() - account.control(),
          .caught_up = caught_up};
}

TickAuthor::TickAuthor(const v1::Config& config, Instruments instruments)
    : topic_(config.kafka().events_topic()), instruments_(instruments), clock_(config.sessionizer().idle_timeout_ms()) {}

Result<std::unique_ptr<TickAuthor>> TickAuthor::Open(const v1::Config& config, Instruments instruments) {
  std::unique_ptr<TickAuthor> author(new TickAuthor(config, instruments));
  FUSELINE_ASSIGN_OR_FAIL(author->producer_, kafka::Producer::Open(ConnectionOf(config.kafka()), {},
                                                                   [author = author.get()](const kafka::DeliveryReport& report) { author->Note(report); }));
  return author;
}

void TickAuthor::Look(const std::map<std::int32_t, PartitionPulse>& owned) {
  producer_->Poll(0);
  for (const DueTick& tick : clock_.Look(owned, instruments_.clock.monotonic_us())) {
    // While the brokers are away one tick waits, not one for every timeout.
    if (!under_way_.contains(tick.partition)) Append(tick);
  }
}

void TickAuthor::Append(const DueTick& tick) {
  v1::Event record;
  record.set_event_id("tick-" + std::to_string(tick.partition) + '-' + std::to_string(tick.predecessor_offset));
  record.set_event_time_ms(tick.time_ms);
  record.mutable_control()->mutable_tick()->set_predecessor_offset(tick.predecessor_offset);
  const std::string bytes = record.SerializeAsString();
  kafka::OutgoingMessage message;
  message.topic = topic_;
  message.partition = tick.partition;
  message.value = bytes;
  message.timestamp_ms = tick.time_ms;  // Where producers set the times of records, theirs are event times.
  message.id = static_cast<std::uint64_t>(tick.partition);
  if (const Status status = producer_->Produce(message); status.ok()) {
    under_way_.insert(tick.partition);
  } else {
    instruments_.log.Warn("sessionizer.tick_refused", "partition", tick.partition, "reason", status.message);
  }
}

void TickAuthor::Note(const kafka::DeliveryReport& report) {
  const auto partition = static_cast<std::int32_t>(report.id);
  under_way_.erase(partition);
  if (!report.status.ok()) {
    instruments_.log.Warn("sessionizer.tick_refused", "partition", partition, "reason", report.status.message);
    return;
  }
  instruments_.metrics
      .GetCounter("fuseline_sessionizer_ticks_appended_total", "ticks that this process appended to a silent partition",
                  {{"partition", std::to_string(partition)}})
      .Increment();
}

}  // namespace fuseline
