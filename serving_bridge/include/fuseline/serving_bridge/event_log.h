#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "fuseline/core/log.h"
#include "fuseline/core/metrics.h"
#include "fuseline/core/status.h"
#include "fuseline/v1/event.pb.h"

namespace fuseline {

// What a user did with an item that was shown. Borrowed for the call.
struct FeedbackReport {
  std::string_view event_id;  // Chosen by the producer; a resend carries the same.
  std::string_view user_id;
  std::int64_t event_time_ms = 0;
  std::string_view request_id;  // Of the exposure.
  std::string_view item_id;
  v1::Feedback::Kind kind = v1::Feedback::UNSPECIFIED;
  std::int64_t watch_ms = 0;
  std::int64_t item_duration_ms = 0;  // 0: unknown.
};
v1::Event MakeFeedbackEvent(const FeedbackReport& report);

// Where an event log ends: Kafka (event_log_kafka.h) or a file. Called by the log's thread alone.
class EventLogSink {
 public:
  virtual ~EventLogSink() = default;
  // Takes events from the front, in order, and returns how many, at least one. REQUIRES: not empty.
  // Errors: kUnavailable: none was taken, try again; any other: the first can never be written.
  virtual Result<std::size_t> Write(std::span<const v1::Event> events) = 0;
  // Returns once all that was taken is safe. Errors: kUnavailable.
  virtual Status Flush() = 0;
};

// One Event a line, as JSON, appended to `path`. Errors: kUnavailable if it cannot be opened.
Result<std::unique_ptr<EventLogSink>> OpenFileSink(const std::filesystem::path& path);

struct EventLogOptions {
  std::size_t queue_events = 65'536;  // ranker.event_log_queue
  std::size_t batch_events = 512;     // Largest number handed to the sink at once.
  // Asked by the log's thread before each batch; while it says true nothing is written, so that the queue fills and
  // Append waits. For producers that must not outrun a consumer. May be empty.
  std::function<bool()> hold_back;
};

// The way of events out of a ranker: a bounded ring, and one thread that hands them to a sink. TryPush costs the
// request's thread a move into the ring, without lock or system call; serialisation and network are the other thread's.
// Thread-safe; events of one caller keep their order.
class EventLog {
 public:
  EventLog(EventLogOptions options, std::unique_ptr<EventLogSink> sink, Log& log, Metrics& metrics);
  ~EventLog();  // Close.

  // Never waits. Returns false, and counts the event as dropped, when the queue is full or the log closed.
  bool TryPush(v1::Event&& event);

  // Waits while the queue is full: for producers that may not lose an event, such as a simulation.
  // Errors: kUnavailable once the log is closed.
  Status Append(v1::Event&& event);

  // Writes what is queued, up to `patience_ms`, and ends the thread. What is left is counted as dropped. The second call
  // does nothing. Errors: kUnavailable if something was left, or the sink could not be flushed.
  Status Close(std::int64_t patience_ms = 10'000);

  struct Figures {
    std::uint64_t pushed = 0;   // Taken into the queue.
    std::uint64_t written = 0;  // Of these: taken by the sink.
    std::uint64_t dropped = 0;  // Full queue, or left at Close.
    std::uint64_t failed = 0;   // Refused by the sink for good.
  };
  Figures figures() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fuseline
