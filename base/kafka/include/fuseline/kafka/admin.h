#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "fuseline/core/status.h"
#include "fuseline/kafka/connection.h"

namespace fuseline::kafka {

// Questions about a cluster and its topics, and the few changes that this project makes. Thread-compatible. Every call
// is a round trip of milliseconds and waits at most the timeout given to Open.
// Errors of all: kUnavailable if the brokers do not answer in time, kNotFound for an unknown topic, kInvalidInput for
// what a broker refuses.
class Admin {
 public:
  static Result<std::unique_ptr<Admin>> Open(const Connection& connection, std::int64_t timeout_ms);
  ~Admin();

  Status CheckReachable();
  Result<std::string> ClusterId();

  // Waits until the topic can be used. Errors: kConflict if it exists. `configs`: as in Kafka, "retention.ms" …
  Status CreateTopic(const std::string& topic, std::int32_t partitions, std::int32_t replication = 1,
                     const std::map<std::string, std::string>& configs = {});
  Status DeleteTopic(const std::string& topic);
  // Removes every record before `offset`, as retention does.
  Status DeleteRecords(const std::string& topic, std::int32_t partition, std::int64_t offset);

  Result<std::int32_t> PartitionCount(const std::string& topic);
  Result<std::map<std::string, std::string>> TopicConfigs(const std::string& topic);  // In force, defaults included.

 private:
  struct State;
  explicit Admin(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace fuseline::kafka
