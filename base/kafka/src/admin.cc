#include "fuseline/kafka/admin.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "client.h"

namespace fuseline::kafka {

struct Admin::State {
  std::int64_t timeout_ms = 0;
  Owned<rd_kafka_t> handle;

  // Sends one request with `send(options, queue)` and returns its answer, which may still hold errors per topic.
  Result<Owned<rd_kafka_event_t>> Ask(rd_kafka_admin_op_t operation, std::string_view doing,
                                      const std::function<void(const rd_kafka_AdminOptions_t*, rd_kafka_queue_t*)>& send) {
    const Owned<rd_kafka_AdminOptions_t> options(rd_kafka_AdminOptions_new(handle.get(), operation));
    char reason[256];
    FUSELINE_FAIL_IF_ERROR(FromKafka(
        rd_kafka_AdminOptions_set_request_timeout(options.get(), TimeoutOf(timeout_ms), reason, sizeof(reason)), doing));
    // The controller answers when the change is everywhere, so that the next request may rely on it.
    if (operation == RD_KAFKA_ADMIN_OP_CREATETOPICS || operation == RD_KAFKA_ADMIN_OP_DELETETOPICS) {
      FUSELINE_FAIL_IF_ERROR(FromKafka(
          rd_kafka_AdminOptions_set_operation_timeout(options.get(), TimeoutOf(timeout_ms), reason, sizeof(reason)), doing));
    }
    const Owned<rd_kafka_queue_t> queue(rd_kafka_queue_new(handle.get()));
    send(options.get(), queue.get());
    Owned<rd_kafka_event_t> answer(rd_kafka_queue_poll(queue.get(), TimeoutOf(timeout_ms + 1000)));
    if (!answer) return Error(Code::kUnavailable, doing, "not answered in time");
    if (rd_kafka_event_error(answer.get()) != RD_KAFKA_RESP_ERR_NO_ERROR) {
      return Error(CodeOf(rd_kafka_event_error(answer.get())), doing, rd_kafka_event_error_string(answer.get()));
    }
    return answer;
  }
};

namespace {

Status TopicStatus(const rd_kafka_topic_result_t* result, std::string_view doing) {
  const rd_kafka_resp_err_t error = rd_kafka_topic_result_error(result);
  if (error == RD_KAFKA_RESP_ERR_NO_ERROR) return OkStatus();
  const char* const text = rd_kafka_topic_result_error_string(result);
  return ErrorStatus(CodeOf(error), doing, rd_kafka_topic_result_name(result), text ? text : rd_kafka_err2str(error));
}

}  // namespace

Admin::Admin(std::unique_ptr<State> state) : state_(std::move(state)) {}
Admin::~Admin() = default;

Result<std::unique_ptr<Admin>> Admin::Open(const Connection& connection, std::int64_t timeout_ms) {
  // A consumer's handle: a producer's would create topics by asking about them.
  FUSELINE_ASSIGN_OR_FAIL(auto conf, MakeConf(connection, {{"allow.auto.create.topics", "false"}}));
  rd_kafka_conf_set_error_cb(conf.get(), [](rd_kafka_t*, int, const char*, void*) {});
  auto state = std::make_unique<State>();
  state->timeout_ms = timeout_ms;
  FUSELINE_ASSIGN_OR_FAIL(state->handle, MakeHandle(RD_KAFKA_CONSUMER, std::move(conf)));
  return std::unique_ptr<Admin>(new Admin(std::move(state)));
}

Status Admin::CheckReachable() {
  const rd_kafka_metadata_t* answer = nullptr;
  const rd_kafka_resp_err_t error =
      rd_kafka_metadata(state_->handle.get(), 0, nullptr, &answer, TimeoutOf(state_->timeout_ms));
  const std::unique_ptr<const rd_kafka_metadata_t, Deleter> metadata(answer);
  return FromKafka(error, "no broker answers:");
}

Result<std::string> Admin::ClusterId() {
  char* const id = rd_kafka_clusterid(state_->handle.get(), TimeoutOf(state_->timeout_ms));
  if (id == nullptr) return Error(Code::kUnavailable, "cluster id not known in time");
  std::string copy(id);
  rd_kafka_mem_free(state_->handle.get(), id);
  return copy;
}

Status Admin::CreateTopic(const std::string& topic, std::int32_t partitions, std::int32_t replication,
                          const std::map<std::string, std::string>& configs) {
  char reason[256];
  const Owned<rd_kafka_NewTopic_t> request(
      rd_kafka_NewTopic_new(topic.c_str(), partitions, replication, reason, sizeof(reason)));
  if (!request) return ErrorStatus(Code::kInvalidInput, "topic", topic, reason);
  for (const auto& [name, value] : configs) {
    FUSELINE_RETURN_IF_ERROR(
        FromKafka(rd_kafka_NewTopic_set_config(request.get(), name.c_str(), value.c_str()), "topic config", name));
  }
  FUSELINE_ASSIGN_OR_RETURN(const auto answer,
                            state_->Ask(RD_KAFKA_ADMIN_OP_CREATETOPICS, "create topic", [&](auto* options, auto* queue) {
                              rd_kafka_NewTopic_t* topics[] = {request.get()};
                              rd_kafka_CreateTopics(state_->handle.get(), topics, 1, options, queue);
                            }));
  std::size_t count = 0;
  const auto** results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(answer.get()), &count);
  for (std::size_t i = 0; i < count; ++i) FUSELINE_RETURN_IF_ERROR(TopicStatus(results[i], "create topic"));

  // The controller's word reaches a broker's metadata a moment later.
  const Deadline deadline(state_->timeout_ms);
  for (;;) {
    const auto known = PartitionCountOf(state_->handle.get(), topic, deadline.remaining_ms());
    if (known && *known == partitions) return OkStatus();
    if (!known && known.error().code != Code::kNotFound && known.error().code != Code::kUnavailable) return known.error();
    if (deadline.passed()) return ErrorStatus(Code::kUnavailable, "topic created but not visible in time:", topic);
    rd_kafka_poll(state_->handle.get(), std::min(deadline.remaining_ms(), 20));
  }
}

Status Admin::DeleteTopic(const std::string& topic) {
  const Owned<rd_kafka_DeleteTopic_t> request(rd_kafka_DeleteTopic_new(topic.c_str()));
  FUSELINE_ASSIGN_OR_RETURN(const auto answer,
                            state_->Ask(RD_KAFKA_ADMIN_OP_DELETETOPICS, "delete topic", [&](auto* options, auto* queue) {
                              rd_kafka_DeleteTopic_t* topics[] = {request.get()};
                              rd_kafka_DeleteTopics(state_->handle.get(), topics, 1, options, queue);
                            }));
  std::size_t count = 0;
  const auto** results = rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(answer.get()), &count);
  for (std::size_t i = 0; i < count; ++i) FUSELINE_RETURN_IF_ERROR(TopicStatus(results[i], "delete topic"));
  return OkStatus();
}

Status Admin::DeleteRecords(const std::string& topic, std::int32_t partition, std::int64_t offset) {
  const Owned<rd_kafka_topic_partition_list_t> before(rd_kafka_topic_partition_list_new(1));
  rd_kafka_topic_partition_list_add(before.get(), topic.c_str(), partition)->offset = offset;
  const Owned<rd_kafka_DeleteRecords_t> request(rd_kafka_DeleteRecords_new(before.get()));
  FUSELINE_ASSIGN_OR_RETURN(const auto answer,
                            state_->Ask(RD_KAFKA_ADMIN_OP_DELETERECORDS, "delete records", [&](auto* options, auto* queue) {
                              rd_kafka_DeleteRecords_t* requests[] = {request.get()};
                              rd_kafka_DeleteRecords(state_->handle.get(), requests, 1, options, queue);
                            }));
  const auto* result = rd_kafka_DeleteRecords_result_offsets(rd_kafka_event_DeleteRecords_result(answer.get()));
  for (int i = 0; i < result->cnt; ++i) {
    FUSELINE_RETURN_IF_ERROR(FromKafka(result->elems[i].err, "delete records of partition", result->elems[i].partition));
  }
  return OkStatus();
}

Result<std::int32_t> Admin::PartitionCount(const std::string& topic) {
  return PartitionCountOf(state_->handle.get(), topic, state_->timeout_ms);
}

Result<std::map<std::string, std::string>> Admin::TopicConfigs(const std::string& topic) {
  const Owned<rd_kafka_ConfigResource_t> request(rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic.c_str()));
  FUSELINE_ASSIGN_OR_FAIL(const auto answer,
                          state_->Ask(RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, "topic configs", [&](auto* options, auto* queue) {
                            rd_kafka_ConfigResource_t* resources[] = {request.get()};
                            rd_kafka_DescribeConfigs(state_->handle.get(), resources, 1, options, queue);
                          }));
  std::map<std::string, std::string> configs;
  std::size_t resource_count = 0;
  const auto** resources =
      rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(answer.get()), &resource_count);
  for (std::size_t i = 0; i < resource_count; ++i) {
    FUSELINE_FAIL_IF_ERROR(FromKafka(rd_kafka_ConfigResource_error(resources[i]), "configs of topic", topic));
    std::size_t entry_count = 0;
    const auto** entries = rd_kafka_ConfigResource_configs(resources[i], &entry_count);
    for (std::size_t j = 0; j < entry_count; ++j) {
      const char* const value = rd_kafka_ConfigEntry_value(entries[j]);
      configs[rd_kafka_ConfigEntry_name(entries[j])] = value ? value : "";
    }
  }
  return configs;
}

}  // namespace fuseline::kafka
