#include "fuseline/serving_bridge/event_log_kafka.h"

#include <algorithm>
#include <utility>

#include "fuseline/core/check.h"

namespace fuseline {
namespace {

constexpr std::int64_t kRoomWaitMs = 100;  // For a place in the producer's queue, before the log's thread looks for a stop.

class KafkaSink final : public EventLogSink {
 public:
  KafkaSink(KafkaSinkOptions options, Log& log) : options_(std::move(options)), log_(log) {}

  Status Open() {
    auto producer = kafka::Producer::Open(options_.connection, options_.producer,
                                          [this](const kafka::DeliveryReport& report) { Delivered(report); });
    if (!producer) return std::move(producer).error();
    producer_ = *std::move(producer);
    return OkStatus();
  }

  Result<std::size_t> Write(std::span<const v1::Event> events) override {
    producer_->Poll(0);
    for (std::size_t i = 0; i < events.size(); ++i) {
      Status status = Produce(events[i]);
      if (status.ok()) ++taken_;
      else if (i > 0) return i;
      else return tl::unexpected<Status>(std::move(status));
    }
    return events.size();
  }

  Settled Settle() override {
    producer_->Poll(0);
    return settled_;
  }

  // What counts are the reports, whatever the client says of its queue.
  Status Flush(std::int64_t patience_ms) override {
    Status flushed = producer_->Flush(patience_ms);
    const std::uint64_t unsaid = taken_ - settled_.written - settled_.refused;
    if (unsaid == 0 || !flushed.ok()) return flushed;
    return ErrorStatus(Code::kUnavailable, "messages without a delivery report:", unsaid);
  }

 private:
  Status Produce(const v1::Event& event) {
    FUSELINE_CHECK(event.SerializeToString(&bytes_));
    // 0 would mean the producer's clock.
    const std::int64_t timestamp_ms = options_.event_time_timestamps ? std::max<std::int64_t>(1, event.event_time_ms()) : 0;
    return producer_->ProduceOrWait({.topic = options_.topic, .key = event.user_id(), .value = bytes_, .timestamp_ms = timestamp_ms},
                                    kRoomWaitMs);
  }

  void Delivered(const kafka::DeliveryReport& report) {
    ++(report.status.ok() ? settled_.written : settled_.refused);
    if (report.status.ok()) return;
    log_.Error("serving_bridge.event_undelivered", "why", report.status.message);
  }

  const KafkaSinkOptions options_;
  Log& log_;
  std::uint64_t taken_ = 0;
  Settled settled_;
  std::string bytes_;  // Reused from event to event.
  std::unique_ptr<kafka::Producer> producer_;  // Last: its reports use the members above.
};

}  // namespace

Result<std::unique_ptr<EventLogSink>> OpenKafkaSink(const KafkaSinkOptions& options, Log& log) {
  auto sink = std::make_unique<KafkaSink>(options, log);
  FUSELINE_FAIL_IF_ERROR(sink->Open());
  return sink;
}

}  // namespace fuseline
