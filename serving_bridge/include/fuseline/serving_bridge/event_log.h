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

// Where an event log ends: Kafka (event_log_kafka.h) or a file. Called by one thread at a time.
//
// A sink takes events, and says later what became of them: an event that was taken is written, refused, or on its way.
class EventLogSink {
 public:
  // Of all events that were taken so far.
  struct Settled {
    std::uint64_t written = 0;  // Safe: a repeat is not needed whatever happens next.
    std::uint64_t refused = 0;  // Lost for good; said in the log.
  };

  virtual ~EventLogSink() = default;
  // Takes events from the front, in order, and returns how many, at least one. REQUIRES: not empty.
  // Errors: kUnavailable: none was taken, try again; any other: the first can never be written.
  virtual Result<std::size_t> Write(std::span<const v1::Event> events) = 0;
  // Goes on with what was taken as far as that needs no waiting, and tells how far it came; figures only grow.
  virtual Settled Settle() = 0;
  // Waits up to `patience_ms` until all that was taken is settled. Errors: kUnavailable if something is not, or was
  // lost in it.
  virtual Status Flush(std::int64_t patience_ms) = 0;
};

// One Event a line, as JSON, appended to `path`; behind half a line, which a full disk may have left, a new one
// begins. Never waits for the file: a FIFO need have no reader yet. Written is what was synced to disk (once a
// second), or, of a FIFO, what was read from it. A FIFO is opened for reading as well, so that its reader may come
// and go: whoever else reads it takes events away. Errors: kUnavailable if it cannot be opened.
Result<std::unique_ptr<EventLogSink>> OpenFileSink(const std::filesystem::path& path, Log& log);

struct EventLogOptions {
  std::size_t queue_events = 65'536;  // ranker.event_log_queue
  std::size_t batch_events = 512;     // Largest number handed to the sink at once.
  // Asked by the log's thread before each batch; while it says true nothing is written, so that the queue fills and
  // Append waits. For producers that must not outrun a consumer. May be empty.
  std::function<bool()> hold_back;
};

// The way of events out of a ranker: a bounded ring, and one thread that hands them to a sink. TryPush costs the
// request's thread a move into the ring, without lock or system call; serialisation and network are the other thread's.
// Every event that is offered is counted once: as written, as dropped for one reason, or, until then, as pending.
// Thread-safe; events of one caller keep their order.
class EventLog {
 public:
  EventLog(EventLogOptions options, std::unique_ptr<EventLogSink> sink, Log& log, Metrics& metrics);
  ~EventLog();  // Close. What is lost then is counted and logged.

  // Never waits. Returns false, and counts the event as dropped, when the queue is full or the log closed.
  bool TryPush(v1::Event&& event);

  // Waits while the queue is full: for producers that may not lose an event, such as a simulation.
  // Errors: kUnavailable once the log is closed.
  Status Append(v1::Event&& event);

  // Writes what is queued and waits until the sink has settled it, both within `patience_ms`, and ends the thread.
  // What is not written then is dropped; nothing is pending afterwards. The second call does nothing. Errors:
  // kUnavailable if something was lost by it.
  Status Close(std::int64_t patience_ms = 10'000);

  // offered = written + dropped() + pending(), at every moment.
  struct Figures {
    std::uint64_t offered = 0;  // To TryPush and Append.
    std::uint64_t taken = 0;    // Of these: by the sink, whatever became of them.
    std::uint64_t written = 0;  // Safe, by the sink's word.
    // Dropped, by reason, as metrics name it.
    std::uint64_t full = 0;            // The queue was.
    std::uint64_t closed = 0;          // The log was.
    std::uint64_t refused = 0;         // By the sink, for good.
    std::uint64_t unwritten = 0;       // At Close: the sink had not taken it.
    std::uint64_t unacknowledged = 0;  // At Close: the sink had it, and could not say it was safe. It may have arrived.

    std::uint64_t dropped() const { return full + closed + refused + unwritten + unacknowledged; }
    std::uint64_t pending() const { return offered - written - dropped(); }  // In the queue, or on its way.
  };
  Figures figures() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fuseline
