// Events into a file: whole lines, counted once they are safe; a full disk, a device that takes nothing and a FIFO
// without a reader hold up nobody. Method: real files, a small disk and a limit on the file's size, /dev/full, FIFOs.
#include <csignal>
#include <cstdint>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "click_event.h"
#include "fuseline/core/file.h"
#include "fuseline/proto/event_codec.h"
#include "fuseline/serving_bridge/event_log.h"
#include "fuseline/test_support/eventually.h"
#include "fuseline/test_support/kafka_process.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/small_disk.h"
#include "fuseline/test_support/temp_dir.h"

namespace fuseline {
namespace {

using test::Click;

// The numbers of the events in `text`, one a line; -1: a line that is none.
std::vector<int> NumbersIn(const std::string& text) {
  std::vector<int> numbers;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    v1::Event event;
    numbers.push_back(DecodeEvent(line, EventLimits(), &event).ok() ? std::stoi(event.event_id()) : -1);
  }
  return numbers;
}

std::vector<int> UpTo(int count) {
  std::vector<int> numbers;
  for (int i = 0; i < count; ++i) numbers.push_back(i);
  return numbers;
}

class FileSinkTest : public testing::Test {
 protected:
  std::unique_ptr<EventLog> Open(const std::string& path, std::size_t queue_events = 65'536) {
    auto sink = OpenFileSink(path, log_);
    EXPECT_THAT(sink, IsOk());
    return std::make_unique<EventLog>(EventLogOptions{.queue_events = queue_events}, *std::move(sink), log_, metrics_);
  }
  std::string Fifo() {
    const std::string path = dir_ / "fifo";
    EXPECT_EQ(::mkfifo(path.c_str(), 0600), 0);
    return path;
  }
  // Whether nothing is pending, so that all that was offered is written or dropped.
  static bool IsSettled(const EventLog& log) { return log.figures().pending() == 0; }

  const test::TempDir dir_;
  Log log_{Severity::kError};
  Metrics metrics_;
};

TEST_F(FileSinkTest, EveryLineDecodesToTheEventThatWasWritten) {
  // given
  const std::string path = dir_ / "events.jsonl";

  // when: the file is opened twice, and appended to
  for (int half = 0; half < 2; ++half) {
    const auto events = Open(path);
    for (int i = 0; i < 50; ++i) ASSERT_THAT(events->Append(Click(half * 50 + i)), IsOk());
    ASSERT_THAT(events->Close(), IsOk());
    EXPECT_EQ(events->figures().written, 50U);
  }

  // then
  ASSERT_OK_AND_ASSIGN(const std::string text, ReadFile(path));
  EXPECT_EQ(NumbersIn(text), UpTo(100));
  v1::Event event;
  ASSERT_THAT(DecodeEvent(text.substr(0, text.find('\n')), EventLimits(), &event), IsOk());
  EXPECT_EQ(event.SerializeAsString(), Click(0).SerializeAsString());
}

TEST_F(FileSinkTest, WhatIsInTheFileIsWrittenOnceItWasSyncedWithoutAnyMoreEvents) {
  const auto events = Open(dir_ / "events.jsonl");
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(events->TryPush(Click(i)));
    EXPECT_TRUE(Eventually([&] { return events->figures().written == static_cast<std::uint64_t>(i + 1); }));
  }
}

TEST_F(FileSinkTest, BehindHalfALineANewOneBegins) {
  const std::string path = dir_ / "events.jsonl";
  ASSERT_THAT(WriteFileAtomically(path, R"({"event_id":"ha)"), IsOk());
  const auto events = Open(path);
  ASSERT_TRUE(events->TryPush(Click(0)));
  ASSERT_THAT(events->Close(), IsOk());
  EXPECT_THAT(NumbersIn(ReadFile(path).value()), testing::ElementsAre(-1, 0));
}

TEST_F(FileSinkTest, AFolderThatIsNotThereIsAnError) {
  EXPECT_THAT(OpenFileSink("/nonexistent-folder/events.jsonl", log_), HasCode(Code::kUnavailable));
}

TEST_F(FileSinkTest, ADeviceThatIsFullTakesNothingAndNothingIsCountedAsWritten) {
  const auto events = Open("/dev/full", /*queue_events=*/100);
  for (int i = 0; i < 1'000; ++i) (void)events->TryPush(Click(i));
  EXPECT_THAT(events->Close(/*patience_ms=*/1'000),
              testing::AllOf(HasCode(Code::kUnavailable), MessageNames("No space left")));
  const auto figures = events->figures();
  EXPECT_EQ(figures.written, 0U);
  EXPECT_EQ(figures.taken, 0U);
  EXPECT_EQ(figures.full + figures.unwritten, 1'000U);
  EXPECT_TRUE(IsSettled(*events));
}

// The file may grow no further than into the middle of a line.
TEST_F(FileSinkTest, ALineThatDidNotFitIsLostOnlyIfItIsStillHalfAtTheEnd) {
  const std::string path = dir_ / "events.jsonl";
  rlimit unlimited{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &unlimited), 0);
  const auto limit = [&](rlim_t bytes) {
    const rlimit limited{bytes, unlimited.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limited), 0);
  };
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_NO_FATAL_FAILURE(limit(1'000));

  // given: more events than there is room for, then room, and then too little again
  auto events = Open(path);
  for (int i = 0; i < 50; ++i) EXPECT_TRUE(events->TryPush(Click(i)));
  EXPECT_TRUE(Eventually([&] { return ReadFile(path).value().size() == 1'000; }));
  ASSERT_NO_FATAL_FAILURE(limit(unlimited.rlim_cur));
  EXPECT_TRUE(Eventually([&] { return events->figures().written == 50; })) << "the line went on where it stood";
  const std::size_t whole = ReadFile(path).value().size();
  ASSERT_NO_FATAL_FAILURE(limit(whole + 10));
  for (int i = 50; i < 53; ++i) EXPECT_TRUE(events->TryPush(Click(i)));
  EXPECT_TRUE(Eventually([&] { return ReadFile(path).value().size() == whole + 10; }));

  // when
  EXPECT_THAT(events->Close(/*patience_ms=*/50), HasCode(Code::kUnavailable));
  ASSERT_NO_FATAL_FAILURE(limit(unlimited.rlim_cur));
  std::signal(SIGXFSZ, old_handler);

  // then: the one that is half in the file, and the two that are not at all, are lost by name, and the next life
  // begins a new line
  const auto figures = events->figures();
  EXPECT_EQ(figures.written, 50U);
  EXPECT_EQ(figures.unacknowledged, 1U);
  EXPECT_EQ(figures.unwritten, 2U);
  EXPECT_TRUE(IsSettled(*events));
  events = Open(path);
  EXPECT_TRUE(events->TryPush(Click(99)));
  EXPECT_THAT(events->Close(), IsOk());
  std::vector<int> expected = UpTo(50);
  expected.insert(expected.end(), {-1, 99});
  EXPECT_EQ(NumbersIn(ReadFile(path).value()), expected);
}

TEST_F(FileSinkTest, AFullDiskHoldsEventsUpAndTheOnesThatDidNotFitTheQueueAreCounted) {
  test::SmallDisk disk(dir_ / "disk");
  if (!disk.mounted()) {
    ASSERT_FALSE(test::ComponentsAreRequired());
    GTEST_SKIP() << "not proven here: no right to mount a tmpfs";
  }
  const std::string path = dir_ / "disk/events.jsonl";
  auto events = Open(path, /*queue_events=*/1'000);
  disk.Fill();
  for (int i = 0; i < 5'000; ++i) (void)events->TryPush(Click(i));
  const auto full = events->figures();
  EXPECT_GT(full.full, 0U);
  EXPECT_GT(full.pending(), 0U);
  EXPECT_EQ(full.written, 0U);

  disk.MakeRoom();
  EXPECT_THAT(events->Close(), IsOk());
  const auto figures = events->figures();
  EXPECT_EQ(figures.written + figures.full, 5'000U);
  EXPECT_EQ(NumbersIn(ReadFile(path).value()).size(), figures.written);
}

TEST_F(FileSinkTest, AFifoWithoutAReaderHoldsUpNeitherTheRankerNorTheEnd) {
  const auto events = Open(Fifo(), /*queue_events=*/100);
  for (int i = 0; i < 5'000; ++i) (void)events->TryPush(Click(i));
  EXPECT_THAT(events->Close(/*patience_ms=*/50), HasCode(Code::kUnavailable));
  const auto figures = events->figures();
  EXPECT_EQ(figures.written, 0U) << "nobody has read any";
  EXPECT_GT(figures.full + figures.unwritten + figures.unacknowledged, 0U);
  EXPECT_EQ(figures.dropped(), 5'000U);
  EXPECT_TRUE(IsSettled(*events));
}

TEST_F(FileSinkTest, AFifosReadersMayComeLateAndGoAndLoseNothing) {
  // given: more than a pipe holds
  constexpr int kEvents = 1'500;
  const std::string path = Fifo();
  const auto events = Open(path);
  for (int i = 0; i < kEvents; ++i) ASSERT_TRUE(events->TryPush(Click(i)));

  // when: a reader reads somewhat and goes, in the middle of a line, and others after it
  std::string text;
  const auto read = [&](std::size_t bytes) {
    const int reader = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    ASSERT_GE(reader, 0);
    std::string block(bytes, '\0');
    const ssize_t size = ::read(reader, block.data(), block.size());
    if (size > 0) text.append(block, 0, static_cast<std::size_t>(size));
    ::close(reader);
  };
  EXPECT_TRUE(Eventually([&] {
    read(3'001);
    return events->figures().written == kEvents;
  }));

  // then
  EXPECT_EQ(NumbersIn(text), UpTo(kEvents));
  EXPECT_THAT(events->Close(), IsOk());
}

}  // namespace
}  // namespace fuseline
