// The event log: nothing lost or reordered without a count, never waiting unless asked to.
#include "fuseline/serving_bridge/event_log.h"

#include <algorithm>
#include <atomic>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/core/file.h"
#include "fuseline/core/guarded.h"
#include "fuseline/proto/event_codec.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"

namespace fuseline {
namespace {

v1::Event Click(int number) {
  const std::string id = std::to_string(number);
  return MakeFeedbackEvent({.event_id = id, .user_id = "u1", .event_time_ms = number, .request_id = "r", .item_id = "i",
                            .kind = v1::Feedback::CLICK});
}

// What the sink does next is decided by the test.
struct SinkState {
  Guarded<std::vector<std::string>> ids;
  std::atomic<std::size_t> take_at_most = 1'000;  // 0: unavailable.
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
  Status Flush() override {
    ++state_.flushes;
    return OkStatus();
  }

 private:
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

  Log log_{Severity::kError};
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
  EXPECT_EQ(figures.pushed, 500U);
  EXPECT_EQ(figures.written, 500U);
  EXPECT_EQ(figures.dropped, 0U);
}

TEST_F(EventLogTest, AFullQueueDropsAndCountsInsteadOfWaiting) {
  // given: nothing leaves the queue
  const auto log = Open({.queue_events = 10, .hold_back = [] { return true; }});

  // when
  int accepted = 0;
  for (int i = 0; i < 25; ++i) accepted += log->TryPush(Click(i)) ? 1 : 0;

  // then
  EXPECT_EQ(accepted, 10);
  EXPECT_EQ(log->figures().dropped, 15U);
  ASSERT_THAT(log->Close(), IsOk());
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
  EXPECT_EQ(log->figures().dropped, 20U);
  EXPECT_EQ(log->figures().written, 0U);
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
  EXPECT_EQ(log->figures().failed, 1U);
}

TEST_F(EventLogTest, AClosedLogTakesNothing) {
  const auto log = Open({});
  ASSERT_THAT(log->Close(), IsOk());
  EXPECT_FALSE(log->TryPush(Click(1)));
  EXPECT_THAT(log->Append(Click(1)), HasCode(Code::kUnavailable));
  EXPECT_EQ(log->figures().dropped, 2U);
}

TEST(FileSinkTest, EveryLineDecodesToTheEventThatWasWritten) {
  // given
  const test::TempDir dir;
  const std::string path = dir / "events.jsonl";
  Log log(Severity::kError);
  Metrics metrics;

  // when: the file is opened twice, and appended to
  for (int half = 0; half < 2; ++half) {
    ASSERT_OK_AND_ASSIGN(auto sink, OpenFileSink(path));
    EventLog events({}, std::move(sink), log, metrics);
    for (int i = 0; i < 50; ++i) ASSERT_THAT(events.Append(Click(half * 50 + i)), IsOk());
    ASSERT_THAT(events.Close(), IsOk());
  }

  // then
  ASSERT_OK_AND_ASSIGN(const std::string text, ReadFile(path));
  std::istringstream lines(text);
  std::string line;
  int number = 0;
  for (; std::getline(lines, line); ++number) {
    v1::Event event;
    ASSERT_THAT(DecodeEvent(line, EventLimits(), &event), IsOk()) << line;
    EXPECT_EQ(event.SerializeAsString(), Click(number).SerializeAsString());
  }
  EXPECT_EQ(number, 100);
}

TEST(FileSinkTest, AFolderThatIsNotThereIsAnError) {
  EXPECT_THAT(OpenFileSink("/nonexistent-folder/events.jsonl"), HasCode(Code::kUnavailable));
}

}  // namespace
}  // namespace fuseline
