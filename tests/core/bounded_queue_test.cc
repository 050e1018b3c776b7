// The only place where threads meet. Single-threaded rules first, then real threads (also under tsan): nothing is lost, nothing
// doubled, each producer's order kept.

#include "fuseline/core/bounded_queue.h"

#include <map>
#include <memory>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace fuseline {
namespace {

TEST(BoundedQueueTest, IsFirstInFirstOutAndFullIsFull) {
  BoundedQueue<int> queue(2);
  int third = 3;
  EXPECT_TRUE(queue.Push(1));
  EXPECT_TRUE(queue.Push(2));
  EXPECT_FALSE(queue.TryPush(third));
  EXPECT_EQ(queue.size(), 2U);

  EXPECT_EQ(queue.Pop(0), 1);
  EXPECT_TRUE(queue.TryPush(third));
  EXPECT_EQ(queue.Pop(0), 2);
  EXPECT_EQ(queue.Pop(0), 3);
  EXPECT_EQ(queue.Pop(0), std::nullopt);
}

TEST(BoundedQueueTest, ARefusedTryPushLeavesTheValue) {
  BoundedQueue<std::unique_ptr<int>> queue(1);
  auto first = std::make_unique<int>(1);
  auto second = std::make_unique<int>(2);
  ASSERT_TRUE(queue.TryPush(first));
  ASSERT_FALSE(queue.TryPush(second));
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(*second, 2);
}

TEST(BoundedQueueTest, ClosedTakesNothingMoreAndHandsOutWhatIsInside) {
  BoundedQueue<int> queue(2);
  ASSERT_TRUE(queue.Push(1));
  queue.Close();
  EXPECT_FALSE(queue.Push(2));
  EXPECT_TRUE(queue.closed());
  EXPECT_FALSE(queue.exhausted());
  EXPECT_EQ(queue.Pop(60'000), 1);
  EXPECT_TRUE(queue.exhausted());
  EXPECT_EQ(queue.Pop(60'000), std::nullopt) << "returns at once, not after its timeout";
}

TEST(BoundedQueueTest, ClosingWakesAProducerThatWaitsAndAConsumerThatWaits) {
  BoundedQueue<int> full(1);
  BoundedQueue<int> empty(1);
  ASSERT_TRUE(full.Push(1));
  bool was_pushed = true;
  std::optional<int> popped = 1;
  {
    std::jthread producer([&] { was_pushed = full.Push(2); });
    std::jthread consumer([&] { popped = empty.Pop(600'000); });
    full.Close();
    empty.Close();
  }
  EXPECT_FALSE(was_pushed);
  EXPECT_EQ(popped, std::nullopt);
}

TEST(BoundedQueueTest, ManyThreadsLoseAndDoubleNothingAndKeepEachProducersOrder) {
  constexpr int kProducers = 4, kConsumers = 3, kValues = 5'000;
  BoundedQueue<std::pair<int, int>> queue(7);
  std::vector<std::vector<std::pair<int, int>>> taken(kConsumers);
  {
    std::vector<std::jthread> consumers;
    for (auto& mine : taken) {
      consumers.emplace_back([&] {
        while (!queue.exhausted()) {
          if (auto value = queue.Pop(1'000)) mine.push_back(*value);
        }
      });
    }
    {
      std::vector<std::jthread> producers;
      for (int p = 0; p < kProducers; ++p) {
        producers.emplace_back([&queue, p] {
          for (int v = 0; v < kValues; ++v) ASSERT_TRUE(queue.Push({p, v}));
        });
      }
    }
    queue.Close();
  }

  std::map<std::pair<int, int>, int> times;
  for (const auto& mine : taken) {
    std::map<int, int> last;
    for (const auto& value : mine) {
      ++times[value];
      const auto [entry, is_new] = last.emplace(value.first, value.second);
      ASSERT_TRUE(is_new || entry->second < value.second) << "producer " << value.first;
      entry->second = value.second;
    }
  }
  EXPECT_EQ(times.size(), static_cast<std::size_t>(kProducers * kValues));
  for (const auto& [value, count] : times) ASSERT_EQ(count, 1);
}

}  // namespace
}  // namespace fuseline
