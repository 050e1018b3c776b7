// The ring between requests and the event log: nothing lost, doubled or reordered with many producers; full and closed
// are refusals. Run under tsan and asan too.
#include "event_ring.h"

#include <atomic>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace fuseline {
namespace {

using Ring = EventRing<std::unique_ptr<int>>;

bool Push(Ring& ring, int number) {
  auto value = std::make_unique<int>(number);
  return ring.TryPush(value);
}

TEST(EventRingTest, ItTakesAsManyAsItHasPlacesAndThenRefuses) {
  Ring ring(3);
  for (int lap = 0; lap < 5; ++lap) {
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(Push(ring, i));
    auto refused = std::make_unique<int>(3);
    EXPECT_FALSE(ring.TryPush(refused));
    EXPECT_NE(refused, nullptr) << "what is refused stays the caller's";
    EXPECT_EQ(ring.size(), 3U);
    std::unique_ptr<int> value;
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(ring.TryPop(value));
      EXPECT_EQ(*value, i);
    }
    EXPECT_FALSE(ring.TryPop(value));
  }
}

TEST(EventRingTest, AClosedOneRefusesAndHandsOutWhatIsInside) {
  Ring ring(4);
  EXPECT_TRUE(Push(ring, 1));
  ring.Close();
  EXPECT_FALSE(Push(ring, 2));
  EXPECT_FALSE(ring.exhausted());
  std::unique_ptr<int> value;
  EXPECT_TRUE(ring.TryPop(value));
  EXPECT_TRUE(ring.exhausted());
}

TEST(EventRingTest, WhatManyProducersPushComesOutOnceAndInEachOnesOrder) {
  // given
  constexpr int kProducers = 4, kEach = 20'000;
  Ring ring(7);
  std::atomic<int> running = kProducers;
  std::vector<int> next(kProducers, 0);
  int received = 0, wrong = 0;
  {
    std::vector<std::jthread> producers;
    for (int p = 0; p < kProducers; ++p) {
      producers.emplace_back([&, p] {
        for (int i = 0; i < kEach; ++i) {
          while (!Push(ring, p * kEach + i)) std::this_thread::yield();
        }
        if (--running == 0) ring.Close();
      });
    }

    // when
    for (std::unique_ptr<int> value; !ring.exhausted();) {
      if (!ring.TryPop(value)) {
        std::this_thread::yield();
        continue;
      }
      ++received;
      wrong += *value % kEach == next[static_cast<std::size_t>(*value / kEach)]++ ? 0 : 1;
    }
  }

  // then
  EXPECT_EQ(received, kProducers * kEach);
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace fuseline
