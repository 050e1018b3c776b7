#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "fuseline/core/status.h"
#include "fuseline/kafka/connection.h"

namespace fuseline::kafka {

// A Kafka cluster inside this process (librdkafka's mock): the embedded default, and the way to inject errors in tests.
//
// What it does not do: it keeps only the last 5 MiB or 100,000 batches of a partition, silently, so a producer must be held
// back by the consumer's lag; offsets by timestamp always answer the end; topics are made here, not through Admin;
// transactions are no-ops; a group forms after 3 s and needs session timeouts of 3 s or more.
// Thread-safe.
class MockCluster {
 public:
  // `brokers`: 1 or more.
  static Result<std::unique_ptr<MockCluster>> Start(int brokers);
  ~MockCluster();

  Connection connection() const;
  Status CreateTopic(const std::string& topic, std::int32_t partitions);

  // Requests of the wire protocol, by their Kafka API key.
  enum class Request : std::int16_t { kProduce = 0, kFetch = 1, kListOffsets = 2, kMetadata = 3, kOffsetCommit = 8, kOffsetFetch = 9 };
  // The next requests of this kind are answered by these Kafka error codes, one each (7: request timed out …).
  void FailNext(Request request, std::span<const int> kafka_errors);

  Status SetBrokerDown(int broker);  // From 1.
  Status SetBrokerUp(int broker);

 private:
  struct State;
  explicit MockCluster(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace fuseline::kafka
