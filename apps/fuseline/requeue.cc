#include "requeue.h"

#include <utility>

#include "fuseline/ingest/kafka_source.h"
#include "fuseline/proto/event_codec.h"

namespace fuseline {

RequeuePlan PlanRequeue(const KeptLetter& kept, const v1::Config& config, std::int32_t partitions,
                        std::int64_t now_ms, bool refused_too) {
  const DeadLetter& letter = kept.letter;
  const auto refuse = [](std::string why) { return RequeuePlan{.appends = false, .why_not = std::move(why)}; };
  if (kept.is_cut()) {
    return refuse("its bytes were cut to " + std::to_string(letter.bytes.size()) + " of " +
                  std::to_string(letter.size_bytes) + " when it was kept: send the original again");
  }
  v1::Event event;
  const Status decoded = letter.bytes.empty() ? ErrorStatus(Code::kInvalidInput, "record is empty")
                                              : DecodeEvent(letter.bytes, LimitsOf(config.ingest()), &event);
  if (!decoded.ok() && !refused_too) return refuse("would be malformed again: " + decoded.message);
  if (decoded.ok() && event.has_control())
    return refuse("is a control record, which says something of its old place only");
  const std::int64_t ahead_ms = decoded.ok() ? event.event_time_ms() - now_ms : 0;
  if (ahead_ms > config.ingest().max_future_ms() && !refused_too) {
    return refuse("would be quarantined again: its time is " + std::to_string(ahead_ms) + " ms ahead of now");
  }
  RequeuePlan plan{.appends = true, .why_not = "", .partition = -1, .key = decoded.ok() ? event.user_id() : ""};
  if (letter.source == config.kafka().events_topic()) {
    if (letter.partition >= partitions)
      return refuse("the topic has no partition " + std::to_string(letter.partition) + " any more");
    plan.partition = letter.partition;
  } else if (plan.key.empty()) {
    return refuse("is from " + letter.source +
                  ", not from the events topic, and says no user: no partition is its own");
  }
  return plan;
}

Result<std::unique_ptr<Requeuer>> Requeuer::Open(const v1::Config& config) {
  auto requeuer = std::unique_ptr<Requeuer>(new Requeuer(config));
  kafka::ProducerOptions options;
  options.message_bytes = config.ingest().max_event_bytes() + 65'536;  // Whatever was read once fits.
  const auto delivered = [r = requeuer.get()](const kafka::DeliveryReport& report) {
    Appended& appended = r->appended_[report.id];
    appended.partition = report.partition;
    appended.offset = report.offset;
    appended.status = report.status;
  };
  FUSELINE_ASSIGN_OR_FAIL(requeuer->producer_,
                          kafka::Producer::Open(ConnectionOf(config.kafka()), options, delivered));
  return requeuer;
}

Status Requeuer::Append(const RequeuePlan& plan, const DeadLetter& letter) {
  kafka::OutgoingMessage message;
  message.topic = topic_;
  if (!plan.key.empty()) message.key = plan.key;
  message.value = letter.bytes;
  message.partition = plan.partition;
  message.id = appended_.size();
  appended_.push_back({.from_partition = letter.partition,
                       .from_offset = letter.offset,
                       .partition = -1,
                       .offset = -1,
                       .status = ErrorStatus(Code::kUnavailable, "no answer from the broker")});
  return producer_->ProduceOrWait(message, patience_ms_);
}

std::vector<Requeuer::Appended> Requeuer::Finish() {
  (void)producer_->Flush(patience_ms_).ok();  // What has no answer yet says so by its status.
  return appended_;
}

}  // namespace fuseline
