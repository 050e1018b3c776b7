#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/kafka/connection.h"

namespace fuseline::kafka {

// One record as it lies in the client's memory.
struct Message {
  std::int32_t partition = 0;
  std::int64_t offset = 0;
  std::int64_t timestamp_ms = -1;  // As the topic sets it: creation or log append; -1: none.
  std::string_view key;
  std::string_view value;          // Empty for a tombstone.
};

// What one Consume gave. Owns the memory that the messages' views point into. Move-only.
class MessageBatch {
 public:
  MessageBatch();
  MessageBatch(MessageBatch&&) noexcept;
  MessageBatch& operator=(MessageBatch&&) noexcept;
  ~MessageBatch();

  std::span<const Message> messages() const;
  // Partitions whose end was reached, with the offset of that end: nothing lies between the last message and it.
  const std::map<std::int32_t, std::int64_t>& ends() const;

 private:
  friend class Consumer;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct ConsumerOptions {
  std::string topic;
  std::string group_id;                   // Empty: commits and Subscribe are not available.
  std::int64_t session_timeout_ms = 45'000;
  std::int64_t fetch_wait_max_ms = 10;    // How long a broker may hold an empty fetch.
  std::int64_t request_timeout_ms = 10'000;  // Of commits, watermarks, committed offsets, offsets by time.
};

// What the owner of a group member is asked and told. Called inside Consume and Close, on their thread.
struct GroupCallbacks {
  // Where to begin in a partition that this member now owns. An error leaves it unread and comes out of Consume; after
  // kUnavailable a later Consume asks again, with growing pauses, for as long as the partition is this member's.
  std::function<Result<StartPosition>(std::int32_t partition)> assigned;
  // These partitions are about to belong to somebody else: the last moment to commit them. `lost`: they do already.
  std::function<void(std::span<const std::int32_t> partitions, bool lost)> revoked;
};

// Reads one topic, either partitions of the caller's choice (Assign) or those that its group gives it (Subscribe,
// cooperative-sticky). Offsets are never committed or reset behind the caller's back, checksums are checked.
//
// Where: under ingest. Thread-compatible: one owner thread. Consume costs the calling thread about 0.15 us a message.
// Errors of all: kUnavailable for broker trouble and time-outs, kInvalidInput for settings, kNotFound for an unknown
// topic or partition, kConflict when the group fenced this member, kCorrupt for damaged or missing log.
class Consumer {
 public:
  static Result<std::unique_ptr<Consumer>> Open(const Connection& connection, const ConsumerOptions& options);
  ~Consumer();  // Close with 5 s, its verdict dropped.

  // Replaces what is read. Timestamps are looked up here; past the end they mean Latest.
  Status Assign(const std::map<std::int32_t, StartPosition>& starts);
  Status Subscribe(GroupCallbacks callbacks);

  // Up to `max_messages`: waits up to `timeout_ms` for the first, then takes what has arrived without waiting. Must be
  // called at least once in 5 minutes (max.poll.interval.ms) even when everything is paused. Messages are in order within a
  // partition. An error spoils nothing: messages before it came out with an earlier call, later calls go on.
  // Errors: kCorrupt if a position is outside the log (retention passed it) or a checksum fails; kUnavailable once for
  //         each time that all brokers became unreachable.
  Result<MessageBatch> Consume(std::size_t max_messages, std::int64_t timeout_ms);

  // A paused partition gives nothing; the member stays in its group. Messages of the batch in hand stay valid, and
  // after Resume the next message is the one after them.
  Status Pause(std::span<const std::int32_t> partitions);
  Status Resume(std::span<const std::int32_t> partitions);

  // Makes these the group's word about their partitions, in one request. Waits for the broker's answer.
  // REQUIRES: a group id. Errors: kConflict if the group has given a partition to somebody else.
  Status Commit(const std::map<std::int32_t, CommittedOffset>& offsets);
  Result<std::map<std::int32_t, CommittedOffset>> Committed(std::span<const std::int32_t> partitions);  // Absent: none.

  Result<Watermarks> QueryWatermarks(std::int32_t partition);          // Asks the broker.
  std::optional<Watermarks> LastWatermarks(std::int32_t partition) const;  // From the last fetch; costs nothing.
  Result<std::int32_t> PartitionCount();
  std::vector<std::int32_t> assignment() const;  // Sorted.

  // Leaves the group. After `deadline_ms` the client's handle is abandoned, threads and all: librdkafka can wait for ever
  // on a close after a broker restart (its issue #4486). Idempotent; only destruction may follow.
  // Errors: kUnavailable if the deadline passed.
  Status Close(std::int64_t deadline_ms);

 private:
  struct State;
  explicit Consumer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace fuseline::kafka
