#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace fuseline::kafka {

// How to reach a cluster. A value; consumer, producer and admin each open connections of their own from it.
struct Connection {
  std::string bootstrap_servers;                // "host:port,host:port"
  std::string client_id = "fuseline";
  std::map<std::string, std::string> settings;  // Further librdkafka properties: security.protocol, sasl.*, ssl.* …
};

// Where to begin in a partition.
struct StartPosition {
  enum class Kind { kEarliest, kLatest, kOffset, kTimestamp };
  Kind kind = Kind::kEarliest;
  std::int64_t value = 0;  // The offset, or milliseconds since the epoch: the first record at or after it.

  static StartPosition Earliest() { return {Kind::kEarliest, 0}; }
  static StartPosition Latest() { return {Kind::kLatest, 0}; }
  static StartPosition Offset(std::int64_t offset) { return {Kind::kOffset, offset}; }
  static StartPosition Timestamp(std::int64_t time_ms) { return {Kind::kTimestamp, time_ms}; }
};

// The oldest offset that a partition still holds, and the one that its next record will get.
struct Watermarks {
  std::int64_t low = 0;
  std::int64_t high = 0;
};

// A group's durable word about a partition.
struct CommittedOffset {
  std::int64_t offset = 0;
  std::string metadata;
};

}  // namespace fuseline::kafka
