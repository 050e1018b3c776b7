// Events through the Kafka sink and back: bytes, key, partition and timestamp, in order; and brokers that are away.
#include "fuseline/serving_bridge/event_log_kafka.h"

#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/kafka/consumer.h"
#include "fuseline/kafka/mock_cluster.h"
#include "fuseline/test_support/matchers.h"

namespace fuseline {
namespace {

constexpr int kPartitions = 3;
constexpr int kUsers = 7;

v1::Event Click(int number) {
  const std::string id = std::to_string(number);
  const std::string user = "u" + std::to_string(number % kUsers);
  return MakeFeedbackEvent({.event_id = id, .user_id = user, .event_time_ms = 1'000 + number, .request_id = "r", .item_id = "i",
                            .kind = v1::Feedback::CLICK});
}

struct Received {
  std::int32_t partition;
  std::int64_t timestamp_ms;
  v1::Event event;
};

class EventLogKafkaTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(cluster_, kafka::MockCluster::Start(1));
    ASSERT_THAT(cluster_->CreateTopic("events", kPartitions), IsOk());
  }
  std::unique_ptr<EventLog> Open(KafkaSinkOptions options, std::size_t queue_events) {
    options.connection = cluster_->connection();
    auto sink = OpenKafkaSink(options, log_);
    EXPECT_THAT(sink, IsOk());
    return std::make_unique<EventLog>(EventLogOptions{.queue_events = queue_events}, *std::move(sink), log_, metrics_);
  }
  // Everything in the topic, by partition in order of offsets.
  std::vector<Received> ReadAll(std::size_t expected) {
    std::vector<Received> received;
    auto consumer = kafka::Consumer::Open(cluster_->connection(), {.topic = "events"});
    EXPECT_THAT(consumer, IsOk());
    std::map<std::int32_t, kafka::StartPosition> from;
    for (std::int32_t partition = 0; partition < kPartitions; ++partition) from[partition] = kafka::StartPosition::Earliest();
    EXPECT_THAT((*consumer)->Assign(from), IsOk());
    for (int polls = 0; received.size() < expected && polls < 1'000; ++polls) {
      const auto batch = (*consumer)->Consume(1'000, 100);
      EXPECT_THAT(batch, IsOk());
      for (const kafka::Message& message : batch->messages()) {
        Received one{message.partition, message.timestamp_ms, {}};
        EXPECT_TRUE(one.event.ParseFromArray(message.value.data(), static_cast<int>(message.value.size())));
        EXPECT_EQ(message.key, one.event.user_id());
        received.push_back(std::move(one));
      }
    }
    return received;
  }

  Log log_{Severity::kError};
  Metrics metrics_;
  std::unique_ptr<kafka::MockCluster> cluster_;
};

TEST_F(EventLogKafkaTest, EventsArriveOnceByUserInOrderWithTheirOwnTime) {
  // given: a producer's queue much smaller than the number of events
  const auto log = Open({.producer = {.queue_messages = 50}, .event_time_timestamps = true}, 16);

  // when
  for (int i = 0; i < 1'000; ++i) ASSERT_THAT(log->Append(Click(i)), IsOk());
  ASSERT_THAT(log->Close(), IsOk());

  // then
  const auto received = ReadAll(1'000);
  ASSERT_EQ(received.size(), 1'000U);
  std::map<std::string, std::int32_t> partition_of;
  std::map<std::string, int> last_of;
  for (const Received& one : received) {
    EXPECT_EQ(one.timestamp_ms, one.event.event_time_ms());
    const auto [place, is_new] = partition_of.emplace(one.event.user_id(), one.partition);
    EXPECT_EQ(place->second, one.partition);
    const int number = std::stoi(one.event.event_id());
    if (!is_new) {
      EXPECT_EQ(number, last_of[one.event.user_id()] + kUsers);
    }
    last_of[one.event.user_id()] = number;
  }
  EXPECT_EQ(partition_of.size(), static_cast<std::size_t>(kUsers));
}

TEST_F(EventLogKafkaTest, WithoutTheOptionRecordsCarryTheProducersClock) {
  const auto log = Open({}, 16);
  ASSERT_THAT(log->Append(Click(1)), IsOk());
  ASSERT_THAT(log->Close(), IsOk());
  const auto received = ReadAll(1);
  ASSERT_EQ(received.size(), 1U);
  EXPECT_GT(received[0].timestamp_ms, 1'600'000'000'000);
}

TEST_F(EventLogKafkaTest, ABrokerThatIsAwayForAWhileLosesNothing) {
  const auto log = Open({.producer = {.queue_messages = 20}, .event_time_timestamps = true}, 8);
  ASSERT_THAT(log->Append(Click(0)), IsOk());
  ASSERT_THAT(cluster_->SetBrokerDown(1), IsOk());
  int pushed = 1;
  while (log->TryPush(Click(pushed))) ++pushed;  // Until everything is full: requests go on, events are dropped and counted.
  EXPECT_EQ(log->figures().full, 1U);
  ASSERT_THAT(cluster_->SetBrokerUp(1), IsOk());
  ASSERT_THAT(log->Close(), IsOk());
  EXPECT_EQ(ReadAll(static_cast<std::size_t>(pushed)).size(), static_cast<std::size_t>(pushed));
  EXPECT_EQ(log->figures().written, static_cast<std::uint64_t>(pushed));
}

}  // namespace
}  // namespace fuseline
