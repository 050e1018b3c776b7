// Proven: when a silent partition is ticked, and to which time. Method: a script of looks; one log of three partitions whose ticks
// are read back.
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/sessionizer/idle_clock.h"

namespace fuseline {
namespace {

constexpr std::int64_t kTimeoutMs = 60'000;

class IdleClockTest : public testing::Test {
 protected:
  // What is due at this second, as "partition:predecessor>time", in seconds. What is said here is on its way, not in the log.
  std::string Look(double second) {
    std::string printed;
    said_ = clock_.Look(owned_, static_cast<std::int64_t>(second * 1e6));
    for (const DueTick& tick : said_) {
      printed += (printed.empty() ? "" : " ") + std::to_string(tick.partition) + ':' + std::to_string(tick.predecessor_offset) + '>' +
                 std::to_string(tick.time_ms / 1'000);
    }
    return printed;
  }

  void Event(std::int32_t partition, std::int64_t second) {
    PartitionPulse& pulse = owned_[partition];
    ++pulse.previous_offset;
    ++pulse.events;
    pulse.stream_time_ms = std::max(pulse.stream_time_ms, second * 1'000);
  }
  void Garbage(std::int32_t partition) { ++owned_[partition].previous_offset; }
  // The ticks of the last look are in the log and were read.
  void ReadBack() {
    for (const DueTick& tick : said_) {
      PartitionPulse& pulse = owned_[tick.partition];
      if (pulse.previous_offset++ == tick.predecessor_offset) pulse.stream_time_ms = std::max(pulse.stream_time_ms, tick.time_ms);
    }
    said_.clear();
  }
  void Own(std::int32_t partition) { owned_[partition].caught_up = true; }

  std::map<std::int32_t, PartitionPulse> owned_;
  IdleClock clock_{kTimeoutMs};
  std::vector<DueTick> said_;
};

TEST_F(IdleClockTest, ATickIsDueAfterTheTimeoutAndOnce) {
  Own(0);
  Event(0, 1'000);
  EXPECT_EQ(Look(5), "");
  EXPECT_EQ(Look(64.9), "");
  EXPECT_EQ(Look(65), "0:0>1060");
  EXPECT_EQ(Look(65.1), "");
}

TEST_F(IdleClockTest, AnyEventBeginsTheSilenceAnewALateOneToo) {
  Own(0);
  Event(0, 1'000);
  EXPECT_EQ(Look(0), "");
  Event(0, 10);
  EXPECT_EQ(Look(59), "");
  EXPECT_EQ(Look(118), "");
  EXPECT_EQ(Look(119), "0:1>1060");
}

TEST_F(IdleClockTest, GarbageDoesNotHideASilence) {
  Own(0);
  Event(0, 1'000);
  for (int second = 0; second < 60; ++second) {
    EXPECT_EQ(Look(second), "");
    Garbage(0);
  }
  EXPECT_EQ(Look(60), "0:60>1060");
}

TEST_F(IdleClockTest, ATickThatHadNoEffectIsDueAgainAfterAnotherTimeout) {
  Own(0);
  Event(0, 1'000);
  Look(0);
  EXPECT_EQ(Look(60), "0:0>1060");
  Garbage(0);  // It came first.
  ReadBack();
  EXPECT_EQ(Look(119), "");
  EXPECT_EQ(Look(120), "0:2>1060");
  ReadBack();
  EXPECT_EQ(Look(120.1), "0:3>1120") << "the silence of the void tick is made up for";
}

TEST_F(IdleClockTest, StreamTimeKeepsPaceHoweverLateTheLooksAre) {
  Own(0);
  Event(0, 1'000);
  Look(0);
  std::int64_t ticks = 0;
  for (double second = 0; second < 86'400; second += 0.7) {
    if (!Look(second).empty()) ++ticks;
    ReadBack();
  }
  EXPECT_EQ(ticks, 1'439);
  EXPECT_EQ(owned_[0].stream_time_ms, (1'000 + 1'439 * 60) * 1'000);
}

TEST_F(IdleClockTest, AProcessThatStoodStillMakesUpForOneTimeoutAtMost) {
  Own(0);
  Event(0, 1'000);
  Look(0);
  EXPECT_EQ(Look(3'600), "0:0>1060");
  ReadBack();
  EXPECT_EQ(Look(3'601), "0:1>1120");
  ReadBack();
  EXPECT_EQ(Look(3'602), "");
  EXPECT_EQ(Look(3'659), "");
  EXPECT_EQ(Look(3'661), "0:2>1180");
}

TEST_F(IdleClockTest, AnothersTickBeginsTheSilenceAnew) {
  Own(0);
  Event(0, 1'000);
  Look(0);
  owned_[0].previous_offset = 1;
  owned_[0].stream_time_ms = 1'030'000;
  EXPECT_EQ(Look(59), "");
  EXPECT_EQ(Look(118), "");
  EXPECT_EQ(Look(119), "0:1>1090");
}

TEST_F(IdleClockTest, WhatIsNotCaughtUpIsNotSilent) {
  Own(0);
  Event(0, 1'000);
  owned_[0].caught_up = false;
  EXPECT_EQ(Look(0), "");
  EXPECT_EQ(Look(600), "");
  Event(0, 1'001);
  owned_[0].caught_up = true;
  EXPECT_EQ(Look(601), "");
  EXPECT_EQ(Look(661), "0:1>1061");
}

TEST_F(IdleClockTest, APartitionWithoutATimeBeginsWithTheSmallestOfTheOthers) {
  Own(0), Own(1), Own(2), Own(3);
  Event(0, 5'000), Event(1, 4'000);
  Garbage(3);
  Look(0);
  Event(0, 5'059), Event(1, 4'059);
  EXPECT_EQ(Look(59), "");
  EXPECT_EQ(Look(60), "2:-1>4059 3:0>4059");
  ReadBack();
  Event(0, 5'119), Event(1, 4'119);
  EXPECT_EQ(Look(119), "");
  EXPECT_EQ(Look(120), "2:0>4119 3:1>4119");
}

TEST_F(IdleClockTest, WithoutAnyTimeThereIsNothingToSay) {
  Own(0), Own(1);
  EXPECT_EQ(Look(0), "");
  EXPECT_EQ(Look(600), "");
}

TEST_F(IdleClockTest, APartitionThatWasAwayIsSilentFromItsReturn) {
  Own(0);
  Event(0, 1'000);
  Look(0);
  const auto away = owned_.extract(0);
  EXPECT_EQ(Look(59), "");
  owned_[0] = away.mapped();
  EXPECT_EQ(Look(60), "");
  EXPECT_EQ(Look(119), "");
  EXPECT_EQ(Look(120), "0:0>1060");
}

}  // namespace
}  // namespace fuseline
