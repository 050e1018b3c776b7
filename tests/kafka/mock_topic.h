#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fuseline/kafka/consumer.h"
#include "fuseline/kafka/mock_cluster.h"
#include "fuseline/kafka/producer.h"
#include "fuseline/test_support/matchers.h"

namespace fuseline::kafka {

// A mock cluster of one broker with one topic, and the few things that tests do with it.
class MockTopic : public ::testing::Test {
 protected:
  static constexpr int kPatience = 200;  // Consumes of 50 ms.

  void SetUp() override { StartCluster(1); }

  void StartCluster(int partitions) {
    ASSERT_OK_AND_ASSIGN(cluster_, MockCluster::Start(1));
    ASSERT_THAT(cluster_->CreateTopic(topic_, partitions), IsOk());
  }

  // Appends `count` messages "0", "1" … to `partition`, durably.
  void Append(std::int32_t partition, int count) {
    ASSERT_OK_AND_ASSIGN(const auto producer, Producer::Open(cluster_->connection(), {}, nullptr));
    for (int i = 0; i < count; ++i) {
      const std::string value = std::to_string(i);
      OutgoingMessage message;
      message.topic = topic_;
      message.partition = partition;
      message.value = value;
      ASSERT_THAT(producer->Produce(message), IsOk());
    }
    ASSERT_THAT(producer->Flush(10'000), IsOk());
  }

  std::unique_ptr<Consumer> OpenConsumer(const std::string& group = "") {
    ConsumerOptions options;
    options.topic = topic_;
    options.group_id = group;
    options.session_timeout_ms = 6'000;
    options.request_timeout_ms = 2'000;
    auto consumer = Consumer::Open(cluster_->connection(), options);
    EXPECT_THAT(consumer, IsOk());
    return std::move(*consumer);
  }

  // Offsets of the next `count` messages; fewer if they do not come.
  static std::vector<std::int64_t> Offsets(Consumer& consumer, std::size_t count, std::size_t batch = 100) {
    std::vector<std::int64_t> offsets;
    for (int i = 0; i < kPatience && offsets.size() < count; ++i) {
      const auto messages = consumer.Consume(std::min(batch, count - offsets.size()), 50);
      if (!messages) continue;
      for (const Message& message : messages->messages()) offsets.push_back(message.offset);
    }
    return offsets;
  }

  // The first error that Consume gives, or OK if none comes.
  static Status FirstError(Consumer& consumer) {
    for (int i = 0; i < kPatience; ++i) {
      if (const auto messages = consumer.Consume(100, 50); !messages) return messages.error();
    }
    return OkStatus();
  }

  const std::string topic_ = "events";
  std::unique_ptr<MockCluster> cluster_;
};

}  // namespace fuseline::kafka
