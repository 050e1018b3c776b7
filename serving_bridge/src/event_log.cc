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

using SteadyClock = std::chrono::steady_clock;

constexpr std::int64_t kIdleWaitLongestMs = 8;  // Between two looks into an empty ring: nobody who pushes wakes the thread.
constexpr std::int64_t kFullWaitMs = 1;       // Between two tries of Append.
constexpr std::int64_t kHoldBackWaitMs = 2;   // Between two questions to hold_back.
constexpr std::int64_t kRetryFirstMs = 10;
constexpr std::int64_t kRetryLongestMs = 1'000;

// A figure that is a metric too.
class Tally {
 public:
  explicit Tally(Counter total) : total_(total) {}
  void Add(std::uint64_t events) {
    if (events == 0) return;
    events_ += events;
    total_.Increment(static_cast<double>(events));
  }
  std::uint64_t events() const { return events_.load(); }

 private:
  std::atomic<std::uint64_t> events_ = 0;
  const Counter total_;
};

Counter Dropped(Metrics& metrics, const char* reason) {
  return metrics.GetCounter("fuseline_serving_bridge_events_dropped_total", "events that the log lost, by reason",
                            {{"reason", reason}});
}

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
        offered(metrics.GetCounter("fuseline_serving_bridge_events_offered_total", "events handed to the event log")),
        taken(metrics.GetCounter("fuseline_serving_bridge_events_taken_total", "events that its sink took")),
        written(metrics.GetCounter("fuseline_serving_bridge_events_written_total",
                                   "events that are safe, as its sink says")),
        full(Dropped(metrics, "full")),
        closed(Dropped(metrics, "closed")),
        refused(Dropped(metrics, "refused")),
        unwritten(Dropped(metrics, "unwritten")),
        unacknowledged(Dropped(metrics, "unacknowledged")),
        queue_events(metrics.GetGauge("fuseline_serving_bridge_event_log_queue", "events waiting to be logged")) {}

  Figures figures() const;
  Status Run(std::stop_token stop);
  void WriteBatch(std::stop_token stop, std::vector<v1::Event>& batch, Backoff& backoff);
  void SettleUp();
  Status End(std::uint64_t left);

  const EventLogOptions options;
  const std::unique_ptr<EventLogSink> sink;  // The thread's alone, after it has begun.
  Log& log;
  EventRing<v1::Event> ring;
  Tally offered, taken, written, full, closed, refused, unwritten, unacknowledged;
  const Gauge queue_events;
  std::atomic<bool> close_called = false;
  std::atomic<SteadyClock::time_point> deadline = SteadyClock::time_point();  // Of the end; set before it begins.
  EventLogSink::Settled settled;  // As the sink said last. The thread's, and
  std::string waits_why;          // this: why the sink takes nothing, as it was said; empty: it does.
  std::optional<Stage> thread;    // Last: it uses the members above.
};

EventLog::EventLog(EventLogOptions options, std::unique_ptr<EventLogSink> sink, Log& log, Metrics& metrics)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(sink), log, metrics)) {
  impl_->thread.emplace("event_log", [impl = impl_.get()](std::stop_token stop) { return impl->Run(stop); });
}

EventLog::~EventLog() { (void)Close(); }  // End has said and counted what was lost.

bool EventLog::TryPush(v1::Event&& event) {
  impl_->offered.Add(1);
  if (impl_->ring.TryPush(event)) return true;
  (impl_->ring.closed() ? impl_->closed : impl_->full).Add(1);
  return false;
}

Status EventLog::Append(v1::Event&& event) {
  impl_->offered.Add(1);
  while (!impl_->ring.TryPush(event)) {
    if (impl_->ring.closed()) {
      impl_->closed.Add(1);
      return ErrorStatus(Code::kUnavailable, "event log is closed");
    }
    SleepFor(std::stop_token(), kFullWaitMs);
  }
  return OkStatus();
}

Status EventLog::Close(std::int64_t patience_ms) {
  Impl& impl = *impl_;
  if (impl.close_called.exchange(true)) return OkStatus();
  const auto deadline = SteadyClock::now() + std::chrono::milliseconds(patience_ms);
  impl.deadline = deadline;
  impl.ring.Close();
  while (!impl.thread->finished() && SteadyClock::now() < deadline) {
    SleepFor(std::stop_token(), 1);
  }
  impl.thread->RequestStop();
  return impl.thread->Join();
}

EventLog::Figures EventLog::figures() const { return impl_->figures(); }

// Offered comes last: whatever has been settled by then is in it.
EventLog::Figures EventLog::Impl::figures() const {
  Figures figures;
  figures.written = written.events();
  figures.full = full.events();
  figures.closed = closed.events();
  figures.refused = refused.events();
  figures.unwritten = unwritten.events();
  figures.unacknowledged = unacknowledged.events();
  figures.taken = taken.events();
  figures.offered = offered.events();
  return figures;
}

// Ends once the queue is closed and empty; a stop ends it earlier, and what is left is dropped.
Status EventLog::Impl::Run(std::stop_token stop) {
  Backoff backoff(kRetryFirstMs, kRetryLongestMs, reinterpret_cast<std::uintptr_t>(this));
  std::vector<v1::Event> batch;
  std::int64_t idle_wait_ms = 1;
  v1::Event event;
  for (; !stop.stop_requested() && !ring.exhausted(); SettleUp()) {
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
  return End(left);
}

// Leaves in `batch` what is not written, which is nothing unless a stop came in between.
void EventLog::Impl::WriteBatch(std::stop_token stop, std::vector<v1::Event>& batch, Backoff& backoff) {
  std::span<const v1::Event> rest(batch);
  while (!rest.empty()) {
    const auto accepted = sink->Write(rest);
    if (accepted) {
      taken.Add(*accepted);
      rest = rest.subspan(*accepted);
      backoff.Reset();
      waits_why.clear();
    } else if (accepted.error().code == Code::kUnavailable) {
      if (waits_why.empty()) log.Warn("serving_bridge.event_log_waiting", "why", accepted.error().message);
      waits_why = accepted.error().message;
      SettleUp();
      if (!SleepFor(stop, backoff.NextMs())) break;
    } else {
      log.Error("serving_bridge.event_refused", "event_id", rest.front().event_id(), "why", accepted.error().message);
      refused.Add(1);
      rest = rest.subspan(1);
    }
  }
  batch.erase(batch.begin(), batch.end() - static_cast<std::ptrdiff_t>(rest.size()));
}

void EventLog::Impl::SettleUp() {
  const EventLogSink::Settled now = sink->Settle();
  written.Add(now.written - settled.written);
  refused.Add(now.refused - settled.refused);
  settled = now;
}

// Nothing is pending after it. `left`: events that the sink has not taken.
Status EventLog::Impl::End(std::uint64_t left) {
  const auto patience = std::chrono::duration_cast<std::chrono::milliseconds>(deadline.load() - SteadyClock::now());
  const Status flushed = sink->Flush(std::max<std::int64_t>(0, patience.count()));
  SettleUp();
  const std::uint64_t unsaid = taken.events() - settled.written - settled.refused;
  unwritten.Add(left);
  unacknowledged.Add(unsaid);
  queue_events.Set(0);
  if (left == 0 && unsaid == 0 && flushed.ok()) return OkStatus();
  const std::string& why = flushed.ok() ? waits_why : flushed.message;
  log.Error("serving_bridge.events_lost", "unwritten", left, "unacknowledged", unsaid, "why", why);
  return ErrorStatus(Code::kUnavailable, "event log was closed with events unwritten and unacknowledged:", left,
                     unsaid, why);
}

}  // namespace fuseline
