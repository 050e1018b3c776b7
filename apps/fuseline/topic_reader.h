#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>

#include "fuseline/core/status.h"
#include "fuseline/kafka/connection.h"
#include "fuseline/kafka/consumer.h"
#include "fuseline/v1/config.pb.h"

namespace fuseline {

// Records of a topic up to the end that it has now.
struct TopicRange {
  std::string topic;
  std::optional<std::int32_t> partition;  // Absent: all of them.
  kafka::StartPosition from;
};

// Shows the records of `range` to `see`, in the order of each partition, until it answers false or an error, the
// range ends, or a stop is asked for (which is no error). Commits nothing. Progress with rate and ETA goes to
// standard error. Errors: kNotFound for an unknown topic or partition, kUnavailable, and those of `see`.
Status ReadTopic(const v1::Kafka& settings, const TopicRange& range, const std::stop_token& stop,
                 const std::function<Result<bool>(const kafka::Message& message)>& see);

}  // namespace fuseline
