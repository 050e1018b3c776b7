#pragma once

#include <memory>
#include <string>

#include "fuseline/core/metrics.h"
#include "fuseline/core/status.h"
#include "fuseline/serving_bridge/event_log.h"
#include "fuseline/v1/config.pb.h"

namespace fuseline {

// In a library of its own (fuseline::event_log_kafka), so that a ranker without it links no librdkafka.
struct KafkaSinkOptions {
  v1::Kafka kafka;  // Section `kafka` of the settings: brokers, security, events_topic.
  // Records carry the event's time instead of the producer's clock: for simulations and imports, whose time is not the wall's.
  bool event_time_timestamps = false;
};

// Events → the events topic: protobuf bytes, key = user id (murmur2, as Java's client), idempotent, all in-sync replicas.
// Errors: kUnavailable, kInvalidInput as the producer's.
Result<std::unique_ptr<EventLogSink>> OpenKafkaSink(const KafkaSinkOptions& options, Metrics& metrics);

}  // namespace fuseline
