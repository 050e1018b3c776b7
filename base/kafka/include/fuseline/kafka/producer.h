#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "fuseline/core/status.h"
#include "fuseline/kafka/connection.h"

namespace fuseline::kafka {

struct ProducerOptions {
  std::int64_t queue_messages = 100'000;  // Undelivered messages; more are refused.
  std::int64_t queue_bytes = 256 << 20;
  std::int64_t message_bytes = 1'000'000;  // Largest message; topics have a limit of their own (max.message.bytes).
  std::int64_t linger_ms = 5;              // How long a message may wait for company.
  std::string compression = "none";        // none, lz4, zstd, snappy, gzip
  // A message that fails for good fails every later one too, and this producer with them: what is in a partition is a prefix of
  // what was produced to it, never a row with a hole. Open another one and begin behind the last that was delivered.
  bool without_holes = false;
};

// One message to be produced; its bytes are copied.
struct OutgoingMessage {
  std::string_view topic;
  std::string_view key;          // Without data (a default view): no key.
  std::string_view value;        // Without data: a tombstone.
  std::int32_t partition = -1;   // -1: by murmur2 of the key, as Java's client does; at random without a key.
  std::int64_t timestamp_ms = 0;  // Creation time; 0: now.
  std::uint64_t id = 0;          // Comes back in the delivery report.
};

// The end of one message: durable on all in-sync replicas, or refused for good.
struct DeliveryReport {
  std::uint64_t id = 0;
  std::int32_t partition = -1;
  std::int64_t offset = -1;
  Status status;
};

// Writes to any topic, idempotently (a retry never duplicates or reorders), with acks=all and no time-out: an accepted
// message is delivered however long the brokers are away, as long as this object lives.
//
// Produce is thread-safe; Poll, Flush and destruction belong to one owner thread, on which the reports come.
class Producer {
 public:
  using Delivered = std::function<void(const DeliveryReport&)>;

  // `delivered` may be empty. Errors: kInvalidInput for settings.
  static Result<std::unique_ptr<Producer>> Open(const Connection& connection, const ProducerOptions& options,
                                                Delivered delivered);
  ~Producer();  // Drops what is undelivered: Flush first.

  // Hands over a copy and returns at once. Errors: kUnavailable if the queue is full (Poll, then try again), kInvalidInput
  // for a message or topic that can never be produced, kConflict if a newer producer fenced this one.
  Status Produce(const OutgoingMessage& message);
  // The same, but polls up to `timeout_ms` for room in a full queue.
  Status ProduceOrWait(const OutgoingMessage& message, std::int64_t timeout_ms);

  // Runs `delivered` for every report that is there, waiting up to `timeout_ms` for the first. Returns their number.
  std::size_t Poll(std::int64_t timeout_ms);

  // Waits until every accepted message has its report. Errors: kUnavailable if the deadline passed; the messages stay.
  Status Flush(std::int64_t deadline_ms);

  std::size_t undelivered() const;

 private:
  struct State;
  explicit Producer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace fuseline::kafka
