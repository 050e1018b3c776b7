// The event log: every event is counted once, as written, dropped for a reason or pending; none is reordered, and
// nobody waits unless he asks to. Method: a sink that does what the test says; real files, full disks and FIFOs are
// in file_sink_test.
#include "fuseline/serving_bridge/event_log.h"

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "click_event.h"
#include "fuseline/core/guarded.h"
#include "fuseline/test_support/eventually.h"
#include "fuseline/test_support/matchers.h"

namespace fuseline {
namespace {

using test::Click;

// What the sink does next is decided by the test.
struct SinkState {
  Guarded<std::vector<std::string>> ids;
  std::atomic<std::size_t> take_at_most = 1'000;  // 0: unavailable.
  std::atomic<std::size_t> vouch_for_at_most = 1'000'000;  // Of all that it took.
  std::atomic<std::uint64_t> lose = 0;  // Of these, the last that it vouched for.
  std::atomic<int> flushes = 0;
  std::atomic<int> unavailable = 0;
};

class FakeSink final : public EventLogSink {
 public:
  explicit FakeSink(SinkState& state) : state_(state) {}
  Result<std::size_t> Write(std::span<const v1::Event> events) override {
    if (state_.take_at_most == 0) {
      ++state_.unavailable;
      return Error(Code::kUnavailable, "away");
    }
    if (events.front().event_id() == "bad") return Error(Code::kInvalidInput, "cannot be written");
    std::size_t taken = 0;
    while (taken < std::min<std::size_t>(events.size(), state_.take_at_most) && events[taken].event_id() != "bad") {
      state_.ids.With([&](auto& ids) { ids.push_back(events[taken].event_id()); });
      ++taken;
    }
    return taken;
  }
  Settled Settle() override {
    const std::size_t known = std::min<std::size_t>(Taken(), state_.vouch_for_at_most);
    const std::uint64_t lost = std::min<std::uint64_t>(known, state_.lose);
    return {known - lost, lost};
  }
  Status Flush(std::int64_t) override {
    ++state_.flushes;
    return Taken() <= state_.vouch_for_at_most ? OkStatus() : ErrorStatus(Code::kUnavailable, "no answer");
  }

 private:
  std::size_t Taken() {
    return state_.ids.With([](const auto& ids) { return ids.size(); });
  }

  SinkState& state_;
};

class EventLogTest : public testing::Test {
 protected:
  std::unique_ptr<EventLog> Open(EventLogOptions options) {
    return std::make_unique<EventLog>(std::move(options), std::make_unique<FakeSink>(sink_), log_, metrics_);
  }
  static std::vector<std::string> Numbers(int count) {
    std::vector<std::string> ids;
    for (int i = 0; i < count; ++i) ids.push_back(std::to_string(i));
    return ids;
  }

  double Dropped(const std::string& reason) {
    return metrics_.GetCounter("fuseline_serving_bridge_events_dropped_total", "", {{"reason", reason}}).value();
  }

  Log log_{Severity::kError};  // What is provoked is said in the log.
  Metrics metrics_;
  SinkState sink_;
};

TEST_F(EventLogTest, WhatIsAppendedIsWrittenInOrderByTheTimeItIsClosed) {
  sink_.take_at_most = 3;  // Prefixes of batches.
  const auto log = Open({.queue_events = 16, .batch_events = 7});
  for (int i = 0; i < 500; ++i) ASSERT_THAT(log->Append(Click(i)), IsOk());
  ASSERT_THAT(log->Close(), IsOk());

  EXPECT_EQ(sink_.ids.Copy(), Numbers(500));
  EXPECT_EQ(sink_.flushes, 1);
  const auto figures = log->figures();
  EXPECT_EQ(figures.offered, 500U);
  EXPECT_EQ(figures.taken, 500U);
  EXPECT_EQ(figures.written, 500U);
  EXPECT_EQ(figures.dropped(), 0U);
  EXPECT_EQ(figures.pending(), 0U);
}

TEST_F(EventLogTest, AFullQueueDropsAndCountsInsteadOfWaiting) {
  // given: nothing leaves the queue
  const auto log = Open({.queue_events = 10, .hold_back = [] { return true; }});

  // when
  int accepted = 0;
  for (int i = 0; i < 25; ++i) accepted += log->TryPush(Click(i)) ? 1 : 0;

  // then
  EXPECT_EQ(accepted, 10);
  EXPECT_EQ(log->figures().full, 15U);
  EXPECT_EQ(log->figures().pending(), 10U);
  EXPECT_EQ(Dropped("full"), 15);
  ASSERT_THAT(log->Close(), IsOk());
  EXPECT_EQ(log->figures().written, 10U);
  EXPECT_EQ(sink_.ids.Copy(), Numbers(10));
}

TEST_F(EventLogTest, AppendWaitsWhileItIsHeldBack) {
  std::atomic<bool> hold = true;
  const auto log = Open({.queue_events = 4, .hold_back = [&] { return hold.load(); }});
  std::atomic<int> appended = 0;
  {
    std::jthread producer([&] {
      for (int i = 0; i < 100; ++i) {
        EXPECT_THAT(log->Append(Click(i)), IsOk());
        ++appended;
      }
    });
    while (appended < 4) std::this_thread::yield();
    EXPECT_EQ(log->figures().written, 0U);
    EXPECT_LE(appended, 4);
    hold = false;
  }
  ASSERT_THAT(log->Close(), IsOk());
  EXPECT_EQ(sink_.ids.Copy(), Numbers(100));
}

TEST_F(EventLogTest, ASinkThatIsAwayIsTriedAgain) {
  sink_.take_at_most = 0;
  const auto log = Open({});
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(log->TryPush(Click(i)));
  while (sink_.unavailable < 2) std::this_thread::yield();
  sink_.take_at_most = 5;
  ASSERT_THAT(log->Close(), IsOk());
  EXPECT_EQ(sink_.ids.Copy(), Numbers(20));
}

TEST_F(EventLogTest, ASinkThatStaysAwayEndsInACountNotInAHang) {
  sink_.take_at_most = 0;
  const auto log = Open({});
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(log->TryPush(Click(i)));
  EXPECT_THAT(log->Close(/*patience_ms=*/20), HasCode(Code::kUnavailable));
  EXPECT_EQ(log->figures().unwritten, 20U);
  EXPECT_EQ(Dropped("unwritten"), 20);
  EXPECT_EQ(log->figures().written, 0U);
  EXPECT_EQ(log->figures().pending(), 0U);
}

TEST_F(EventLogTest, AnEventIsPendingUntilItsSinkVouchesForIt) {
  sink_.vouch_for_at_most = 7;
  const auto log = Open({});
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(log->TryPush(Click(i)));
  ASSERT_TRUE(Eventually([&] { return log->figures().taken == 20 && log->figures().written == 7; }));
  EXPECT_EQ(log->figures().pending(), 13U);
  sink_.vouch_for_at_most = 20;  // Nothing else is pushed: the log asks again by itself.
  EXPECT_TRUE(Eventually([&] { return log->figures().written == 20; }));
  EXPECT_EQ(log->figures().pending(), 0U);
  EXPECT_THAT(log->Close(), IsOk());
}

TEST_F(EventLogTest, WhatTheSinkTookAndDoesNotVouchForAtTheEndIsLostAndNotWritten) {
  sink_.vouch_for_at_most = 7;
  const auto log = Open({});
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(log->TryPush(Click(i)));
  ASSERT_TRUE(Eventually([&] { return log->figures().taken == 20; }));
  EXPECT_THAT(log->Close(/*patience_ms=*/20), testing::AllOf(HasCode(Code::kUnavailable), MessageNames("no answer")));
  const auto figures = log->figures();
  EXPECT_EQ(figures.written, 7U);
  EXPECT_EQ(figures.unacknowledged, 13U);
  EXPECT_EQ(figures.pending(), 0U);
  EXPECT_EQ(Dropped("unacknowledged"), 13);
}

TEST_F(EventLogTest, WhatTheSinkLosesAfterItTookItIsRefused) {
  const auto log = Open({});
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(log->TryPush(Click(i)));
  sink_.lose = 3;
  ASSERT_THAT(log->Close(), IsOk());
  const auto figures = log->figures();
  EXPECT_EQ(figures.written + figures.refused, 20U);
  EXPECT_EQ(figures.pending(), 0U);
}

// Producers that never look, a sink that comes and goes: at every look the figures add up, and at the end nothing is
// left over.
TEST_F(EventLogTest, EveryEventOfManyProducersIsCountedOnce) {
  constexpr int kProducers = 3, kEach = 2'000;
  const auto log = Open({.queue_events = 64, .batch_events = 16});
  std::atomic<int> running = kProducers;
  {
    std::vector<std::jthread> producers;
    for (int p = 0; p < kProducers; ++p) {
      producers.emplace_back([&] {
        for (int i = 0; i < kEach; ++i) {
          if (!log->TryPush(Click(i))) std::this_thread::yield();
        }
        --running;
      });
    }
    for (int turn = 0; running > 0; ++turn) {
      sink_.take_at_most = static_cast<std::size_t>(turn % 3);  // A third of the time away.
      const auto figures = log->figures();
      EXPECT_LE(figures.written + figures.dropped(), figures.offered);
      std::this_thread::yield();
    }
  }
  EXPECT_EQ(log->figures().offered, static_cast<std::uint64_t>(kProducers * kEach));
  sink_.take_at_most = 100;
  ASSERT_THAT(log->Close(), IsOk());
  const auto figures = log->figures();
  EXPECT_EQ(figures.pending(), 0U);
  EXPECT_EQ(figures.written, sink_.ids.Copy().size());
  EXPECT_EQ(figures.written + figures.full, static_cast<std::uint64_t>(kProducers * kEach));
}

TEST_F(EventLogTest, AnEventThatCannotBeWrittenIsCountedAndTheOthersAre) {
  const auto log = Open({.hold_back = {}});
  for (int i = 0; i < 3; ++i) ASSERT_THAT(log->Append(Click(i)), IsOk());
  v1::Event bad = Click(0);
  bad.set_event_id("bad");
  ASSERT_THAT(log->Append(std::move(bad)), IsOk());
  for (int i = 3; i < 6; ++i) ASSERT_THAT(log->Append(Click(i)), IsOk());
  ASSERT_THAT(log->Close(), IsOk());
  EXPECT_EQ(sink_.ids.Copy(), Numbers(6));
  EXPECT_EQ(log->figures().refused, 1U);
  EXPECT_EQ(Dropped("refused"), 1);
  EXPECT_EQ(log->figures().pending(), 0U);
}

TEST_F(EventLogTest, AClosedLogTakesNothing) {
  const auto log = Open({});
  ASSERT_THAT(log->Close(), IsOk());
  EXPECT_FALSE(log->TryPush(Click(1)));
  EXPECT_THAT(log->Append(Click(1)), HasCode(Code::kUnavailable));
  EXPECT_EQ(log->figures().closed, 2U);
  EXPECT_EQ(log->figures().pending(), 0U);
}

}  // namespace
}  // namespace fuseline
