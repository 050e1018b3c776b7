#include "fuseline/kafka/producer.h"

#include <algorithm>
#include <utility>

#include "client.h"

namespace fuseline::kafka {

struct Producer::State {
  Delivered delivered;
  std::size_t reports = 0;  // Owner thread only: callbacks run inside Poll and Flush.
  Owned<rd_kafka_t> handle;  // Last: destroyed first, its callbacks use the members above.

  void Report(const rd_kafka_message_t& message) noexcept;
};

// noexcept: an exception of the owner's callback ends the process rather than unwinding through C.
void Producer::State::Report(const rd_kafka_message_t& message) noexcept {
  ++reports;
  if (!delivered) return;
  DeliveryReport report;
  report.id = reinterpret_cast<std::uintptr_t>(message._private);
  report.partition = message.partition;
  report.offset = message.offset;
  report.status = FromKafka(message.err, "delivery failed:");
  delivered(report);
}

Producer::Producer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Producer::~Producer() = default;

Result<std::unique_ptr<Producer>> Producer::Open(const Connection& connection, const ProducerOptions& options,
                                                 Delivered delivered) {
  FUSELINE_ASSIGN_OR_FAIL(
      auto conf,
      MakeConf(connection, {{"enable.idempotence", "true"},
                            {"acks", "all"},
                            {"partitioner", "murmur2_random"},
                            {"message.timeout.ms", "0"},
                            {"enable.gapless.guarantee", options.without_holes ? "true" : "false"},
                            {"queue.buffering.max.messages", std::to_string(options.queue_messages)},
                            {"queue.buffering.max.kbytes", std::to_string(std::max<std::int64_t>(options.queue_bytes / 1024, 1))},
                            {"message.max.bytes", std::to_string(options.message_bytes)},
                            {"linger.ms", std::to_string(options.linger_ms)},
                            {"compression.type", options.compression}}));
  auto state = std::make_unique<State>();
  state->delivered = std::move(delivered);
  rd_kafka_conf_set_opaque(conf.get(), state.get());
  rd_kafka_conf_set_dr_msg_cb(conf.get(), [](rd_kafka_t*, const rd_kafka_message_t* message, void* opaque) {
    static_cast<State*>(opaque)->Report(*message);
  });
  // Without one the client logs each broker's ups and downs; it heals by itself, and Flush says when it does not.
  rd_kafka_conf_set_error_cb(conf.get(), [](rd_kafka_t*, int, const char*, void*) {});
  FUSELINE_ASSIGN_OR_FAIL(state->handle, MakeHandle(RD_KAFKA_PRODUCER, std::move(conf)));
  return std::unique_ptr<Producer>(new Producer(std::move(state)));
}

Status Producer::Produce(const OutgoingMessage& message) {
  const std::string topic(message.topic);
  // clang-format off
  const rd_kafka_resp_err_t error = rd_kafka_producev(
      state_->handle.get(),
      RD_KAFKA_V_TOPIC(topic.c_str()),
      RD_KAFKA_V_PARTITION(message.partition),
      RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
      RD_KAFKA_V_KEY(message.key.data(), message.key.size()),
      RD_KAFKA_V_VALUE(const_cast<char*>(message.value.data()), message.value.size()),
      RD_KAFKA_V_TIMESTAMP(message.timestamp_ms),
      RD_KAFKA_V_OPAQUE(reinterpret_cast<void*>(static_cast<std::uintptr_t>(message.id))),
      RD_KAFKA_V_END);
  // clang-format on
  if (error == RD_KAFKA_RESP_ERR__FATAL) return FatalError(state_->handle.get());
  return FromKafka(error, "message not accepted for topic", topic);
}

Status Producer::ProduceOrWait(const OutgoingMessage& message, std::int64_t timeout_ms) {
  const Deadline deadline(timeout_ms);
  for (;;) {
    Status status = Produce(message);
    if (status.code != Code::kUnavailable || deadline.passed()) return status;
    Poll(std::min(deadline.remaining_ms(), 100));
  }
}

std::size_t Producer::Poll(std::int64_t timeout_ms) {
  const std::size_t before = state_->reports;
  rd_kafka_poll(state_->handle.get(), TimeoutOf(timeout_ms));
  return state_->reports - before;
}

Status Producer::Flush(std::int64_t deadline_ms) {
  const rd_kafka_resp_err_t error = rd_kafka_flush(state_->handle.get(), TimeoutOf(deadline_ms));
  if (error == RD_KAFKA_RESP_ERR_NO_ERROR) return OkStatus();
  FUSELINE_RETURN_IF_ERROR(FatalError(state_->handle.get()));
  return FromKafka(error, "messages not delivered in time:", undelivered());
}

std::size_t Producer::undelivered() const {
  return static_cast<std::size_t>(rd_kafka_outq_len(state_->handle.get()));
}

}  // namespace fuseline::kafka
