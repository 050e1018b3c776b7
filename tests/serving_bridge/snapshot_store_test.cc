// What is pinned is never freed, what is not is; with readers in many threads. Run under tsan and asan too.
#include "snapshot_store.h"

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace fuseline {
namespace {

// Knows whether it is alive, and holds two halves that must agree.
struct Snapshot {
  Snapshot(std::uint64_t its_number, std::atomic<int>& its_alive) : number(its_number), copies(64, its_number), alive(its_alive) { ++alive; }
  ~Snapshot() {
    number = 0;
    --alive;
  }
  std::uint64_t number;
  std::vector<std::uint64_t> copies;
  std::atomic<int>& alive;
};

using Store = SnapshotStore<Snapshot>;

TEST(SnapshotStoreTest, BeforeTheFirstOneThereIsNothing) {
  Store store;
  Store::Reader reader(store);
  EXPECT_EQ(reader.PinCurrent().get(), nullptr);
}

TEST(SnapshotStoreTest, ASnapshotIsFreedOnlyOnceNobodyPinsIt) {
  // given
  std::atomic<int> alive = 0;
  Store store;
  store.Publish(std::make_unique<const Snapshot>(1, alive));
  Store::Reader first(store);
  Store::Reader second(store);

  {
    // when: two readers hold the first one, then one of them
    const auto held = first.PinCurrent();
    {
      const auto also_held = second.PinCurrent();
      store.Publish(std::make_unique<const Snapshot>(2, alive));
      EXPECT_EQ(also_held.get()->number, 1U);
      EXPECT_EQ(alive, 2);
    }
    EXPECT_EQ(store.Reclaim(), 1U);
    EXPECT_EQ(held.get()->number, 1U);

    // then: who comes now gets the second
    EXPECT_EQ(second.PinCurrent().get()->number, 2U);
  }
  EXPECT_EQ(store.Reclaim(), 0U);
  EXPECT_EQ(alive, 1);
}

TEST(SnapshotStoreTest, AReaderThatPinsLaterDoesNotKeepWhatItNeverSaw) {
  std::atomic<int> alive = 0;
  Store store;
  Store::Reader reader(store);
  store.Publish(std::make_unique<const Snapshot>(1, alive));
  store.Publish(std::make_unique<const Snapshot>(2, alive));
  const auto pin = reader.PinCurrent();
  store.Publish(std::make_unique<const Snapshot>(3, alive));
  store.Publish(std::make_unique<const Snapshot>(4, alive));
  EXPECT_EQ(pin.get()->number, 2U);
  EXPECT_EQ(alive, 2);
}

TEST(SnapshotStoreTest, AllAreFreedInTheEnd) {
  std::atomic<int> alive = 0;
  {
    Store store;
    for (std::uint64_t i = 1; i <= 5; ++i) store.Publish(std::make_unique<const Snapshot>(i, alive));
  }
  EXPECT_EQ(alive, 0);
}

TEST(SnapshotStoreTest, SlotsOfReadersThatAreGoneAreUsedAgain) {
  std::atomic<int> alive = 0;
  Store store;
  store.Publish(std::make_unique<const Snapshot>(1, alive));
  for (int i = 0; i < 1'000; ++i) {
    Store::Reader reader(store);
    EXPECT_EQ(reader.PinCurrent().get()->number, 1U);
  }
  store.Publish(std::make_unique<const Snapshot>(2, alive));
  EXPECT_EQ(alive, 1);
}

TEST(SnapshotStoreTest, ReadersInManyThreadsSeeWholeSnapshotsThatNeverGoBack) {
  // given
  constexpr int kReaders = 3;
  constexpr int kReads = 50'000;
  std::atomic<int> alive = 0;
  std::atomic<int> done = 0;
  std::atomic<int> wrong = 0;
  {
    Store store;
    store.Publish(std::make_unique<const Snapshot>(1, alive));

    // when
    std::vector<std::jthread> readers;
    for (int r = 0; r < kReaders; ++r) {
      readers.emplace_back([&] {
        std::uint64_t last = 0;
        for (int i = 0; i < kReads;) {
          Store::Reader reader(store);  // Slots come and go as well.
          for (int j = 0; j < 100; ++j, ++i) {
            const auto pin = reader.PinCurrent();
            const std::uint64_t number = pin.get()->number;
            if (number < last) ++wrong;
            last = number;
            for (const std::uint64_t copy : pin.get()->copies) wrong += copy == number ? 0 : 1;
          }
        }
        ++done;
      });
    }
    std::uint64_t published = 1;
    while (done < kReaders) store.Publish(std::make_unique<const Snapshot>(++published, alive));

    // then: at most what the readers could hold, and the current one, are left
    EXPECT_LE(alive, kReaders + 1);
    EXPECT_GT(published, 1U);
  }
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(alive, 0);
}

}  // namespace
}  // namespace fuseline
