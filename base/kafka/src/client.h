#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <librdkafka/rdkafka.h>

#include "fuseline/core/status.h"
#include "fuseline/kafka/connection.h"

namespace fuseline::kafka {

// Owners of librdkafka's objects: Owned<rd_kafka_conf_t> calls the matching destructor.
struct Deleter {
  void operator()(rd_kafka_conf_t* conf) const { rd_kafka_conf_destroy(conf); }
  void operator()(rd_kafka_t* handle) const { rd_kafka_destroy(handle); }
  void operator()(rd_kafka_queue_t* queue) const { rd_kafka_queue_destroy(queue); }
  void operator()(rd_kafka_event_t* event) const { rd_kafka_event_destroy(event); }
  void operator()(rd_kafka_error_t* error) const { rd_kafka_error_destroy(error); }
  void operator()(rd_kafka_topic_t* topic) const { rd_kafka_topic_destroy(topic); }
  void operator()(rd_kafka_topic_partition_list_t* list) const { rd_kafka_topic_partition_list_destroy(list); }
  void operator()(const rd_kafka_metadata_t* metadata) const { rd_kafka_metadata_destroy(metadata); }
  void operator()(rd_kafka_NewTopic_t* topic) const { rd_kafka_NewTopic_destroy(topic); }
  void operator()(rd_kafka_DeleteTopic_t* topic) const { rd_kafka_DeleteTopic_destroy(topic); }
  void operator()(rd_kafka_DeleteRecords_t* records) const { rd_kafka_DeleteRecords_destroy(records); }
  void operator()(rd_kafka_ConfigResource_t* resource) const { rd_kafka_ConfigResource_destroy(resource); }
  void operator()(rd_kafka_AdminOptions_t* options) const { rd_kafka_AdminOptions_destroy(options); }
};
template <typename T>
using Owned = std::unique_ptr<T, Deleter>;

// What a caller should do about an error of the client or of a broker.
Code CodeOf(rd_kafka_resp_err_t error);

// Ok if `error` is none; else its code and text behind `doing`.
template <typename... Values>
Status FromKafka(rd_kafka_resp_err_t error, std::string_view doing, const Values&... values) {
  if (error == RD_KAFKA_RESP_ERR_NO_ERROR) return OkStatus();
  return ErrorStatus(CodeOf(error), doing, values..., rd_kafka_err2str(error));
}

// The error that made `handle` unusable for good, if there is one.
Status FatalError(rd_kafka_t* handle);

using Properties = std::initializer_list<std::pair<std::string_view, std::string>>;

// The connection's settings, then `properties`, which win: what the room promises cannot be configured away.
// Errors: kInvalidInput, naming the property.
Result<Owned<rd_kafka_conf_t>> MakeConf(const Connection& connection, const Properties& properties);

// Consumes `conf`.
Result<Owned<rd_kafka_t>> MakeHandle(rd_kafka_type_t type, Owned<rd_kafka_conf_t> conf);

// Asks the cluster, never creates the topic. REQUIRES: a consumer's handle.
Result<std::int32_t> PartitionCountOf(rd_kafka_t* handle, const std::string& topic, std::int64_t timeout_ms);

inline int TimeoutOf(std::int64_t timeout_ms) { return static_cast<int>(timeout_ms < 0 ? 0 : timeout_ms > INT32_MAX ? INT32_MAX : timeout_ms); }

// A monotonic point in time that waiting loops measure against.
class Deadline {
 public:
  explicit Deadline(std::int64_t timeout_ms);
  int remaining_ms() const;  // 0 once passed.
  bool passed() const { return remaining_ms() == 0; }

 private:
  std::int64_t end_us_;
};

}  // namespace fuseline::kafka
