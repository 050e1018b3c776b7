// Memory has a bound that neither one hot user nor very many open sessions move, and what is said does not depend on it: with little
// memory and with plenty, the same trajectories. What counts is resident memory: each reading is a process of its own with the allocator of
// our programs, and the most that it ever held, as the system saw it, is compared with what it had when it began.
// FUSELINE_OPEN_SESSIONS=10000000 asks for that many, in memory that is little for them.

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
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

// A line of /proc/self/status that is counted in KiB, such as VmRSS.
std::int64_t StatusBytes(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(name + ":")) return std::atoll(line.c_str() + name.size() + 1) * 1024;
  }
  return -1;
}

// A commit is synced: in memory, where there is such a folder, that costs nothing. It is no memory of this process.
class BoundsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (std::getenv("TMPDIR") == nullptr && std::filesystem::is_directory("/dev/shm")) setenv("TMPDIR", "/dev/shm", 1);
  }
};

struct Seen {
  std::array<char, 64> said{};
  std::size_t memory_bytes = 0;     // Largest at any commit.
  std::int64_t resident_bytes = 0;  // Largest at any instant, above what the process had before.
};

Seen ReadHere(StageCourse::Plan plan, std::int64_t records, const std::string& folder) {
  plan.records_per_batch = 1'000;
  plan.settings.set_max_trajectory_bytes(4 * kMiB);
  plan.settings.set_commit_records(100'000);
  plan.settings.set_commit_interval_ms(1'000);
  plan.settings.set_max_outbox(10'000'000);
  // What the code itself takes, once it has run, is not what grows with sessions.
  StageCourse(plan).ReadUntil(folder + ".warm", 1'000, /*finishes=*/true);
  StageCourse course(std::move(plan));
  const std::int64_t resident_before = StatusBytes("VmRSS");
  Seen seen;
  course.ReadUntil(folder, records, /*finishes=*/true,
                   [&](const Sessionizer& stage) { seen.memory_bytes = std::max(seen.memory_bytes, stage.memory_bytes()); });
  seen.resident_bytes = StatusBytes("VmHWM") - resident_before;
  course.reader().said().copy(seen.said.data(), seen.said.size() - 1);
  return seen;
}

// In a process of its own.
Seen ReadAll(StageCourse::Plan plan, std::int64_t records, std::int64_t max_memory_bytes) {
  const TempDir dir;
  plan.settings.set_max_memory_bytes(max_memory_bytes);
  const auto begun = std::chrono::steady_clock::now();
  std::array<int, 2> ends{};
  EXPECT_EQ(::pipe(ends.data()), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const Seen seen = ReadHere(std::move(plan), records, dir / "sessions");
    const bool told = ::write(ends[1], &seen, sizeof(seen)) == sizeof(seen);
    ::_exit(told && !::testing::Test::HasFailure() ? 0 : 1);
  }
  ::close(ends[1]);
  Seen seen;
  EXPECT_EQ(::read(ends[0], &seen, sizeof(seen)), static_cast<ssize_t>(sizeof(seen)));
  ::close(ends[0]);
  int status = -1;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
  std::cout << records << " events, max_memory " << max_memory_bytes / kMiB << " MiB: sessions " << seen.memory_bytes / kMiB
            << " MiB, resident +" << seen.resident_bytes / kMiB << " MiB at most, " << took.count() << " s; " << seen.said.data() << '\n';
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
  EXPECT_LE(little.resident_bytes, kBound);
  EXPECT_EQ(little.said, ReadAll(plan, kEvents, 16 * kBound).said);
}

TEST_F(BoundsTest, MoreOpenSessionsThanMemoryHoldsLiveOnDisk) {
  const char* const asked = std::getenv("FUSELINE_OPEN_SESSIONS");
  const std::int64_t users = asked == nullptr ? 300'000 : std::atoll(asked);
  const std::int64_t bound = std::max<std::int64_t>(16 * kMiB, users * 448);
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
  EXPECT_LE(little.resident_bytes, bound);
  if (users > 1'000'000) return;  // Plenty would be all that the machine has.
  EXPECT_EQ(little.said, ReadAll(plan, users + users / 2 + 1'000, 64 * bound).said);
}

}  // namespace
}  // namespace fuseline::test
