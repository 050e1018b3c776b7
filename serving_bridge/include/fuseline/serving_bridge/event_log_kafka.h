#pragma once

#include <memory>
#include <string>

#include "fuseline/core/log.h"
#include "fuseline/core/status.h"
#include "fuseline/kafka/connection.h"
#include "fuseline/kafka/producer.h"
#include "fuseline/serving_bridge/event_log.h"

namespace fuseline {

// In a library of its own (fuseline::event_log_kafka), so that a ranker without it links no librdkafka.
struct KafkaSinkOptions {
  kafka::Connection connection;
  kafka::ProducerOptions producer;
  std::string topic = "events";
  // Records carry the event's time instead of the producer's clock: for simulations and imports, whose time is not the wall's.
  bool event_time_timestamps = false;
};

// Events → the topic of events: protobuf bytes, key = user id (murmur2, as Java's client), idempotent, all in-sync
// replicas. Written is what all in-sync replicas have acknowledged; a record that a broker refuses for good is
// refused, and logged. Errors: kInvalidInput as the producer's.
Result<std::unique_ptr<EventLogSink>> OpenKafkaSink(const KafkaSinkOptions& options, Log& log);

}  // namespace fuseline
