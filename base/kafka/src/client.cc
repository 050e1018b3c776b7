#include "client.h"

#include <algorithm>

#include "fuseline/core/clock.h"

namespace fuseline::kafka {
namespace {

// The client would write to standard error on its own; what matters comes out of calls as a Status.
void DropLogLine(const rd_kafka_t*, int, const char*, const char*) {}

Status Set(rd_kafka_conf_t* conf, std::string_view name, const std::string& value) {
  char reason[512];
  if (rd_kafka_conf_set(conf, std::string(name).c_str(), value.c_str(), reason, sizeof(reason)) == RD_KAFKA_CONF_OK) {
    return OkStatus();
  }
  return ErrorStatus(Code::kInvalidInput, "Kafka client setting refused:", reason);
}

}  // namespace

Code CodeOf(rd_kafka_resp_err_t error) {
  switch (error) {
    case RD_KAFKA_RESP_ERR_NO_ERROR: return Code::kOk;

    case RD_KAFKA_RESP_ERR__INVALID_ARG:
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR__SSL:
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
    case RD_KAFKA_RESP_ERR_INVALID_SESSION_TIMEOUT:
    case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP:
    case RD_KAFKA_RESP_ERR_INVALID_PARTITIONS:
    case RD_KAFKA_RESP_ERR_INVALID_REPLICATION_FACTOR:
    case RD_KAFKA_RESP_ERR_INVALID_CONFIG:
    case RD_KAFKA_RESP_ERR_INVALID_REQUEST:
    case RD_KAFKA_RESP_ERR_INVALID_RECORD:
    case RD_KAFKA_RESP_ERR_POLICY_VIOLATION: return Code::kInvalidInput;

    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART: return Code::kNotFound;

    case RD_KAFKA_RESP_ERR__FENCED:
    case RD_KAFKA_RESP_ERR__ASSIGNMENT_LOST:
    case RD_KAFKA_RESP_ERR__MAX_POLL_EXCEEDED:
    case RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID:
    case RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH:
    case RD_KAFKA_RESP_ERR_PRODUCER_FENCED:
    case RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION:
    case RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID:
    case RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS:
    case RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS: return Code::kConflict;

    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
    case RD_KAFKA_RESP_ERR__BAD_MSG:
    case RD_KAFKA_RESP_ERR__BAD_COMPRESSION:
    case RD_KAFKA_RESP_ERR_INVALID_MSG:
    case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
    case RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER: return Code::kCorrupt;

    case RD_KAFKA_RESP_ERR__STATE:
    case RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED: return Code::kInternal;

    default: return Code::kUnavailable;
  }
}

Status FatalError(rd_kafka_t* handle) {
  char reason[512];
  const rd_kafka_resp_err_t error = rd_kafka_fatal_error(handle, reason, sizeof(reason));
  if (error == RD_KAFKA_RESP_ERR_NO_ERROR) return OkStatus();
  return ErrorStatus(CodeOf(error), "Kafka client stopped for good:", reason);
}

Result<Owned<rd_kafka_conf_t>> MakeConf(const Connection& connection, const Properties& properties) {
  Owned<rd_kafka_conf_t> conf(rd_kafka_conf_new());
  rd_kafka_conf_set_log_cb(conf.get(), DropLogLine);
  FUSELINE_FAIL_IF_ERROR(Set(conf.get(), "bootstrap.servers", connection.bootstrap_servers));
  FUSELINE_FAIL_IF_ERROR(Set(conf.get(), "client.id", connection.client_id));
  // After a long outage the client would look for its brokers only every 10 s.
  FUSELINE_FAIL_IF_ERROR(Set(conf.get(), "reconnect.backoff.max.ms", "2000"));
  for (const auto& [name, value] : connection.settings) FUSELINE_FAIL_IF_ERROR(Set(conf.get(), name, value));
  for (const auto& [name, value] : properties) FUSELINE_FAIL_IF_ERROR(Set(conf.get(), name, value));
  return conf;
}

Result<Owned<rd_kafka_t>> MakeHandle(rd_kafka_type_t type, Owned<rd_kafka_conf_t> conf) {
  char reason[512];
  rd_kafka_t* const handle = rd_kafka_new(type, conf.get(), reason, sizeof(reason));
  if (handle == nullptr) return Error(Code::kInvalidInput, "Kafka client refused its settings:", reason);
  (void)conf.release();  // The handle owns it now.
  return Owned<rd_kafka_t>(handle);
}

Result<std::int32_t> PartitionCountOf(rd_kafka_t* handle, const std::string& topic, std::int64_t timeout_ms) {
  const Owned<rd_kafka_topic_t> wanted(rd_kafka_topic_new(handle, topic.c_str(), nullptr));
  if (!wanted) return Error(Code::kInvalidInput, "topic name refused:", topic, rd_kafka_err2str(rd_kafka_last_error()));
  const rd_kafka_metadata_t* answer = nullptr;
  FUSELINE_FAIL_IF_ERROR(FromKafka(rd_kafka_metadata(handle, 0, wanted.get(), &answer, TimeoutOf(timeout_ms)),
                                   "partition count of topic", topic));
  const std::unique_ptr<const rd_kafka_metadata_t, Deleter> metadata(answer);
  for (int i = 0; i < metadata->topic_cnt; ++i) {
    if (metadata->topics[i].topic != topic) continue;
    FUSELINE_FAIL_IF_ERROR(FromKafka(metadata->topics[i].err, "partition count of topic", topic));
    return metadata->topics[i].partition_cnt;
  }
  return Error(Code::kNotFound, "no such topic:", topic);
}

Deadline::Deadline(std::int64_t timeout_ms) : end_us_(SystemClock().monotonic_us() + std::max<std::int64_t>(timeout_ms, 0) * 1000) {}

int Deadline::remaining_ms() const {
  return TimeoutOf((end_us_ - SystemClock().monotonic_us() + 999) / 1000);
}

}  // namespace fuseline::kafka
