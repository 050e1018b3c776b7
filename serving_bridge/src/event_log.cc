#include "fuseline/serving_bridge/event_log.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <optional>
#include <utility>
#include <vector>

#include "fuseline/core/backoff.h"
#include "fuseline/core/stage.h"

#include "event_ring.h"

namespace fuseline {
namespace {

constexpr std::int64_t kIdleWaitLongestMs = 8;  // Between two looks into an empty ring: nobody who pushes wakes the thread.
constexpr std::int64_t kFullWaitMs = 1;       // Between two tries of Append.
constexpr std::int64_t kHoldBackWaitMs = 2;   // Between two questions to hold_back.
constexpr std::int64_t kRetryFirstMs = 10;
constexpr std::int64_t kRetryLongestMs = 1'000;

}  // namespace

v1::Event MakeFeedbackEvent(const FeedbackReport& report) {
  v1::Event event;
  event.set_event_id(std::string(report.event_id));
  event.set_user_id(std::string(report.user_id));
  event.set_event_time_ms(report.event_time_ms);
  v1::Feedback& feedback = *event.mutable_feedback();
  feedback.set_request_id(std::string(report.request_id));
  feedback.set_item_id(std::string(report.item_id));
  feedback.set_kind(report.kind);
  feedback.set_watch_ms(report.watch_ms);
  feedback.set_item_duration_ms(report.item_duration_ms);
  return event;
}

struct EventLog::Impl {
  Impl(EventLogOptions its_options, std::unique_ptr<EventLogSink> its_sink, Log& its_log, Metrics& metrics)
      : options(std::move(its_options)),
        sink(std::move(its_sink)),
        log(its_log),
        ring(std::max<std::size_t>(options.queue_events, 2)),
        written_total(metrics.GetCounter("fuseline_serving_bridge_events_written_total", "events taken by the event log's sink")),
        dropped_total(metrics.GetCounter("fuseline_serving_bridge_events_dropped_total",
                                         "events that found the event log full, or were left at its end")),
        failed_total(metrics.GetCounter("fuseline_serving_bridge_events_failed_total", "events that the sink refused for good")),
        queue_events(metrics.GetGauge("fuseline_serving_bridge_event_log_queue", "events waiting to be logged")) {}

  void Drop(std::uint64_t events) {
    dropped += events;
    dropped_total.Increment(static_cast<double>(events));
  }

  Status Run(std::stop_token stop);
  void WriteBatch(std::stop_token stop, std::vector<v1::Event>& batch, Backoff& backoff);

  const EventLogOptions options;
  const std::unique_ptr<EventLogSink> sink;  // The thread's alone, after it has begun.
  Log& log;
  EventRing<v1::Event> ring;
  const Counter written_total, dropped_total, failed_total;
  const Gauge queue_events;
  std::atomic<std::uint64_t> pushed = 0, written = 0, dropped = 0, failed = 0;
  std::atomic<bool> close_called = false;
  bool waiting = false;  // For the sink, and said so. The thread's.
  std::optional<Stage> thread;  // Last: it uses the members above.
};

EventLog::EventLog(EventLogOptions options, std::unique_ptr<EventLogSink> sink, Log& log, Metrics& metrics)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(sink), log, metrics)) {
  impl_->thread.emplace("event_log", [impl = impl_.get()](std::stop_token stop) { return impl->Run(stop); });
}

EventLog::~EventLog() { (void)Close(); }

bool EventLog::TryPush(v1::Event&& event) {
  if (!impl_->ring.TryPush(event)) {
    impl_->Drop(1);
    return false;
  }
  ++impl_->pushed;
  return true;
}

Status EventLog::Append(v1::Event&& event) {
  while (!impl_->ring.TryPush(event)) {
    if (impl_->ring.closed()) {
      impl_->Drop(1);
      return ErrorStatus(Code::kUnavailable, "event log is closed");
    }
    SleepFor(std::stop_token(), kFullWaitMs);
  }
  ++impl_->pushed;
  return OkStatus();
}

Status EventLog::Close(std::int64_t patience_ms) {
  Impl& impl = *impl_;
  if (impl.close_called.exchange(true)) return OkStatus();
  impl.ring.Close();
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(patience_ms);
  while (!impl.thread->finished() && std::chrono::steady_clock::now() < deadline) {
    SleepFor(std::stop_token(), 1);
  }
  impl.thread->RequestStop();
  return impl.thread->Join();
}

EventLog::Figures EventLog::figures() const {
  return {impl_->pushed.load(), impl_->written.load(), impl_->dropped.load(), impl_->failed.load()};
}

// Ends once the queue is closed and empty; a stop ends it earlier, and what is left is dropped.
Status EventLog::Impl::Run(std::stop_token stop) {
  Backoff backoff(kRetryFirstMs, kRetryLongestMs, reinterpret_cast<std::uintptr_t>(this));
  std::vector<v1::Event> batch;
  std::int64_t idle_wait_ms = 1;
  v1::Event event;
  while (!stop.stop_requested() && !ring.exhausted()) {
    // A closed log is on its way out: nobody can be held back any more.
    if (options.hold_back && !ring.closed() && options.hold_back()) {
      SleepFor(stop, kHoldBackWaitMs);
      continue;
    }
    while (batch.size() < options.batch_events && ring.TryPop(event)) batch.push_back(std::move(event));
    queue_events.Set(static_cast<double>(ring.size()));
    if (batch.empty()) {
      SleepFor(stop, idle_wait_ms);
      idle_wait_ms = std::min(2 * idle_wait_ms, kIdleWaitLongestMs);
      continue;
    }
    idle_wait_ms = 1;
    WriteBatch(stop, batch, backoff);
  }
  std::uint64_t left = batch.size();
  while (!ring.exhausted()) left += ring.TryPop(event) ? 1 : 0;  // Whoever was inside TryPush when it was closed is awaited.
  Drop(left);
  const Status flushed = sink->Flush();
  if (left > 0) return ErrorStatus(Code::kUnavailable, "event log was closed with events unwritten:", left);
  return flushed;
}

// Leaves in `batch` what is not written, which is nothing unless a stop came in between.
void EventLog::Impl::WriteBatch(std::stop_token stop, std::vector<v1::Event>& batch, Backoff& backoff) {
  std::span<const v1::Event> rest(batch);
  while (!rest.empty()) {
    const auto taken = sink->Write(rest);
    if (taken) {
      written += *taken;
      written_total.Increment(static_cast<double>(*taken));
      rest = rest.subspan(*taken);
      backoff.Reset();
      waiting = false;
    } else if (taken.error().code == Code::kUnavailable) {
      if (!waiting) log.Warn("serving_bridge.event_log_waiting", "why", taken.error().message);
      waiting = true;
      if (!SleepFor(stop, backoff.NextMs())) break;
    } else {
      log.Error("serving_bridge.event_refused", "event_id", rest.front().event_id(), "why", taken.error().message);
      ++failed;
      failed_total.Increment();
      rest = rest.subspan(1);
    }
  }
  batch.erase(batch.begin(), batch.end() - static_cast<std::ptrdiff_t>(rest.size()));
}

}  // namespace fuseline
