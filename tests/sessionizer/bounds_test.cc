// Memory has a bound that neither one hot user nor very many open sessions move, and what is said does not depend on it: with little
// memory and with plenty, the same trajectories. FUSELINE_OPEN_SESSIONS=10000000 asks for that many, in memory that is little
// for them.

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fuseline/test_support/temp_dir.h"
#include "stage_course.h"

namespace fuseline::test {
namespace {

constexpr std::int64_t kMiB = 1 << 20;

std::int64_t ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  std::int64_t all = 0, resident = 0;
  statm >> all >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

// A commit is synced: in memory, where there is such a folder, that costs nothing. It is no memory of this process.
class BoundsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (std::getenv("TMPDIR") == nullptr && std::filesystem::is_directory("/dev/shm")) setenv("TMPDIR", "/dev/shm", 1);
  }
};

struct Seen {
  std::string said;
  std::size_t memory_bytes = 0;    // Largest at any commit.
  std::int64_t resident_bytes = 0;  // Largest at any commit, above what the process had before.
};

Seen ReadAll(StageCourse::Plan plan, std::int64_t records, std::int64_t max_memory_bytes) {
  const TempDir dir;
  plan.records_per_batch = 1'000;
  plan.settings.set_max_memory_bytes(max_memory_bytes);
  plan.settings.set_max_trajectory_bytes(4 * kMiB);
  plan.settings.set_commit_records(100'000);
  plan.settings.set_commit_interval_ms(1'000);
  plan.settings.set_max_outbox(10'000'000);
  StageCourse course(std::move(plan));
  malloc_trim(0);
  const std::int64_t resident_before = ResidentBytes();
  const auto begun = std::chrono::steady_clock::now();
  Seen seen;
  course.ReadUntil(dir / "sessions", records, /*finishes=*/true, [&](const Sessionizer& stage) {
    seen.memory_bytes = std::max(seen.memory_bytes, stage.memory_bytes());
    seen.resident_bytes = std::max(seen.resident_bytes, ResidentBytes() - resident_before);
  });
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
  seen.said = course.reader().said();
  std::cout << records << " events, max_memory " << max_memory_bytes / kMiB << " MiB: sessions " << seen.memory_bytes / kMiB
            << " MiB, resident +" << seen.resident_bytes / kMiB << " MiB at most, " << took.count() << " s; " << seen.said << '\n';
  return seen;
}

TEST_F(BoundsTest, AHotUserWithAMillionEventsStaysWithinTheBound) {
  constexpr std::int64_t kEvents = 1'000'000, kBound = 256 * kMiB;
  StageCourse::Plan plan{.event_at = [](std::int64_t offset) {
    return ExposureEvent("hot", offset, "event-0123456789-" + std::to_string(offset), "request-0123456789-" + std::to_string(offset));
  }};
  plan.settings.set_gap_ms(60'000);
  plan.settings.set_lateness_ms(1'000);
  plan.settings.set_max_events(2'000);

  const Seen little = ReadAll(plan, kEvents, kBound);

  EXPECT_LT(little.memory_bytes, static_cast<std::size_t>(kBound));
  EXPECT_LT(little.resident_bytes, 2 * kBound);
  EXPECT_EQ(little.said, ReadAll(plan, kEvents, 16 * kBound).said);
}

TEST_F(BoundsTest, MoreOpenSessionsThanMemoryHoldsLiveOnDisk) {
  const char* const asked = std::getenv("FUSELINE_OPEN_SESSIONS");
  const std::int64_t users = asked == nullptr ? 100'000 : std::atoll(asked);
  const std::int64_t bound = std::max<std::int64_t>(16 * kMiB, users * 112);  // A fifth of what they need.
  // All users once, in a row; then half as many events of users anywhere; then time goes on, and all sessions close.
  StageCourse::Plan plan{.event_at = [users](std::int64_t offset) {
    Random random(3, "bounds", static_cast<std::uint64_t>(offset));
    const std::int64_t user = offset < users ? offset : static_cast<std::int64_t>(random.NextBelow(static_cast<std::uint64_t>(users)));
    const std::int64_t time_ms = offset + (offset < users + users / 2 ? 0 : 10 * users);
    return ExposureEvent("user-" + std::to_string(user), time_ms, "event-0123456789-" + std::to_string(offset), "r" + std::to_string(offset),
                         {"item-0123456789", "item-9876543210"});
  }};
  plan.settings.set_gap_ms(3 * users);
  plan.settings.set_lateness_ms(1'000);
  plan.settings.set_max_events(2'000);

  const Seen little = ReadAll(plan, users + users / 2 + 1'000, bound);

  EXPECT_LT(little.memory_bytes, static_cast<std::size_t>(bound));
  EXPECT_LT(little.resident_bytes, 2 * bound + 64 * kMiB);
  if (users > 1'000'000) return;  // Plenty would be all that the machine has.
  EXPECT_EQ(little.said, ReadAll(plan, users + users / 2 + 1'000, 64 * bound).said);
}

}  // namespace
}  // namespace fuseline::test
