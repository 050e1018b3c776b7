// A real Kafka broker is there when Start returns: topics are made once, what was acknowledged
// before SIGKILL is read after the restart.

#include "fuseline/test_support/kafka_process.h"

#include <memory>
#include <string>

#include <gtest/gtest.h>
#include <librdkafka/rdkafka.h>

#include "fuseline/test_support/matchers.h"

namespace fuseline::test {
namespace {

using Client = std::unique_ptr<rd_kafka_t, decltype(&rd_kafka_destroy)>;

Client MakeClient(rd_kafka_type_t type, const KafkaProcess& kafka) {
  rd_kafka_conf_t* conf = rd_kafka_conf_new();
  char problem[256];
  rd_kafka_conf_set(conf, "bootstrap.servers", kafka.bootstrap_servers().c_str(), problem,
                    sizeof problem);
  if (type == RD_KAFKA_CONSUMER)
    rd_kafka_conf_set(conf, "group.id", "unused", problem, sizeof problem);
  return {rd_kafka_new(type, conf, problem, sizeof problem), rd_kafka_destroy};
}

TEST(KafkaProcessTest, TopicsAreMadeOnceAndRefusedWithAReason) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess* const kafka, SharedKafka());

  EXPECT_THAT(kafka->CreateTopic("made-once", 3, {{"retention.ms", "-1"}}), IsOk());

  EXPECT_THAT(kafka->CreateTopic("made-once", 3), HasCode(Code::kConflict));
  EXPECT_THAT(kafka->CreateTopic("bad-setting", 1, {{"retention.ms", "soon"}}),
              HasCode(Code::kInvalidInput));
}

TEST(KafkaProcessTest, WhatWasAcknowledgedIsReadAfterTheBrokerWasKilled) {
  FUSELINE_KAFKA_OR_SKIP(const auto kafka, KafkaProcess::Start());
  ASSERT_THAT(kafka->CreateTopic("durable", 1, {{"flush.messages", "1"}}), IsOk());
  {
    const Client producer = MakeClient(RD_KAFKA_PRODUCER, *kafka);
    ASSERT_EQ(rd_kafka_producev(producer.get(), RD_KAFKA_V_TOPIC("durable"),
                                RD_KAFKA_V_VALUE(const_cast<char*>("kept"), 4), RD_KAFKA_V_END),
              RD_KAFKA_RESP_ERR_NO_ERROR);
    ASSERT_EQ(rd_kafka_flush(producer.get(), 20'000), RD_KAFKA_RESP_ERR_NO_ERROR);
  }

  kafka->Kill();
  ASSERT_THAT(kafka->Restart(), IsOk());

  const Client consumer = MakeClient(RD_KAFKA_CONSUMER, *kafka);
  rd_kafka_topic_partition_list_t* assignment = rd_kafka_topic_partition_list_new(1);
  rd_kafka_topic_partition_list_add(assignment, "durable", 0)->offset = 0;
  rd_kafka_assign(consumer.get(), assignment);
  rd_kafka_topic_partition_list_destroy(assignment);
  std::string value;
  for (int tries = 0; tries < 30 && value.empty(); ++tries) {
    rd_kafka_message_t* message = rd_kafka_consumer_poll(consumer.get(), 1'000);
    if (message == nullptr) continue;
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
      value.assign(static_cast<const char*>(message->payload), message->len);
    rd_kafka_message_destroy(message);
  }
  EXPECT_EQ(value, "kept");
}

}  // namespace
}  // namespace fuseline::test
