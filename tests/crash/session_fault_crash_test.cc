// Proven of `fuseline sessionize` with a real broker, by making the fault and not an imitation of it: a disk that is full, a state
// folder with flipped bytes, a broker that is gone while events keep coming. The topic of trajectories then holds, repeats
// dropped, what an undisturbed member writes.
// Method: as group_crash_test. The long outage at full input is outage_crash_test's.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/core/stage.h"
#include "fuseline/kafka/admin.h"
#include "fuseline/kafka/producer.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/small_disk.h"
#include "fuseline/test_support/temp_dir.h"
#include "trajectories_harness.h"

namespace fuseline::test {
namespace {

namespace fs = std::filesystem;
using std::chrono::steady_clock;

constexpr std::chrono::seconds kOutage(4);
constexpr std::size_t kEvents = 22'000;
constexpr int kPartitions = 2;
constexpr std::int64_t kPatienceMs = 120'000;

class SessionFaultCrashTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto kafka = SharedKafka();
    if (!kafka) return;
    auto events = SimulatedEvents(/*seed=*/12, kEvents);
    ASSERT_THAT(events, IsOk());
    events_ = new std::vector<v1::Event>(std::move(*events));
    ASSERT_THAT(MakeEventsTopic(**kafka, "fault.events", kPartitions, *events_), IsOk());
    Member member(**kafka, "fault.events", "fault.expected", "undisturbed");
    ASSERT_THAT(member.Start(), IsOk());
    ASSERT_TRUE(HasReadAll(**kafka, member, "fault.events", "undisturbed"));
    ASSERT_EQ(member.Interrupt(), 130) << member.log();
    expected_ = new TakenTrajectories(Taken(**kafka, "fault.expected"));
  }

  static TakenTrajectories Taken(const KafkaProcess& kafka, const std::string& topic) {
    const auto stored = ReadTopic(kafka, topic);
    EXPECT_THAT(stored, IsOk());
    TakenTrajectories taken = TakeAll(stored.value_or(StoredTopic()));
    EXPECT_THAT(taken.faults, testing::IsEmpty());
    EXPECT_FALSE(taken.bytes.empty());
    return taken;
  }

  static void ExpectUndisturbed(const KafkaProcess& kafka, const std::string& topic) {
    const TakenTrajectories taken = Taken(kafka, topic);
    std::cout << topic << ": " << taken.repeats << " repeats\n";
    EXPECT_TRUE(taken.bytes == expected_->bytes);
  }

  static Status Produce(const KafkaProcess& kafka, const std::string& topic, std::size_t begin, std::size_t end,
                        std::stop_token stop = {}, std::atomic<std::size_t>* paced = nullptr, std::atomic<bool>* hurries = nullptr) {
    FUSELINE_ASSIGN_OR_RETURN(const auto producer, kafka::Producer::Open(ConnectionTo(kafka), {}, nullptr));
    for (std::size_t i = begin; i < end && !stop.stop_requested(); ++i) {
      const v1::Event& event = (*events_)[i];
      const std::string bytes = event.SerializeAsString();
      kafka::OutgoingMessage message;
      message.topic = topic;
      message.key = event.user_id();
      message.value = bytes;
      message.timestamp_ms = event.event_time_ms();
      FUSELINE_RETURN_IF_ERROR(producer->ProduceOrWait(message, kPatienceMs));
      if (paced == nullptr) continue;
      *paced = i + 1;
      if (i % 20 != 19 || *hurries) continue;
      producer->Poll(0);
      SleepFor(stop, 40);  // 500 events/s.
    }
    return producer->Flush(kPatienceMs);
  }

  static std::vector<v1::Event>* events_;
  static TakenTrajectories* expected_;
};
std::vector<v1::Event>* SessionFaultCrashTest::events_ = nullptr;
TakenTrajectories* SessionFaultCrashTest::expected_ = nullptr;

TEST_F(SessionFaultCrashTest, AFullDiskStopsReadingUntilThereIsRoom) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  const TempDir dir;
  SmallDisk disk(dir / "disk");
  if (!disk.mounted()) {
    ASSERT_FALSE(ComponentsAreRequired());
    GTEST_SKIP() << "not proven here: no right to mount a tmpfs";
  }
  ASSERT_THAT(MakeEventsTopic(*kafka, "full.events", kPartitions, {}), IsOk());
  Member member(*kafka, "full.events", "full.trajectories", "full", {"fuseline.min_free_disk_bytes=0"});
  fs::create_directories(dir / "disk/state");
  fs::create_directory_symlink(dir / "disk/state", member.state());
  ASSERT_THAT(member.Start(), IsOk());
  ASSERT_THAT(Produce(*kafka, "full.events", 0, kEvents / 4), IsOk());
  ASSERT_TRUE(HasReadAll(*kafka, member, "full.events", "full")) << member.log();

  disk.Fill();
  const auto ingested = [&] { return Ingested(member); };
  const auto failures = [&] { return CountOf(member.log(), "sessionizer.commit_postponed"); };
  // A little at a time, until a commit does not find room any more.
  std::size_t produced = kEvents / 4;
  for (; produced < kEvents * 3 / 4 && failures() == 0; produced += 100) {
    ASSERT_THAT(Produce(*kafka, "full.events", produced, produced + 100), IsOk());
  }
  ASSERT_TRUE(Eventually([&] { return failures() > 0; })) << member.log();
  const std::uint64_t at_failure = ingested();
  ASSERT_THAT(Produce(*kafka, "full.events", produced, kEvents), IsOk());
  const std::size_t failures_before = failures();
  ASSERT_TRUE(Eventually([&] { return failures() > failures_before + 3; })) << member.log();
  // It asks the source, which is paused, and the disk. So reading ends with the first commit that fails, and there is one each
  // sessionizer.commit_interval_ms.
  EXPECT_EQ(ingested(), at_failure);
  EXPECT_LT(at_failure, kEvents);
  std::cout << "read " << at_failure << " of " << kEvents << " events, " << failures() << " commits failed\n";

  disk.MakeRoom();
  ASSERT_TRUE(HasReadAll(*kafka, member, "full.events", "full")) << member.log();
  ASSERT_EQ(member.Interrupt(), 130) << member.log();
  ExpectUndisturbed(*kafka, "full.trajectories");
}

TEST_F(SessionFaultCrashTest, StateWithFlippedBytesIsSetAsideAndRebuiltByTheSameProcess) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  ASSERT_THAT(MakeEventsTopic(*kafka, "flipped.events", kPartitions, {}), IsOk());
  Member member(*kafka, "flipped.events", "flipped.trajectories", "flipped");
  const auto flip = [&](const std::string& in_name) {
    int files = 0;
    for (const auto& entry : fs::directory_iterator(member.state() + "/sessions")) {
      if (entry.path().filename().string().find(in_name) == std::string::npos || entry.file_size() == 0) continue;
      const auto place = static_cast<std::streamoff>(std::min<std::uintmax_t>(60, entry.file_size() / 2));
      std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
      file.seekg(place);
      const auto byte = static_cast<char>(file.get());
      file.seekp(place);
      file.put(static_cast<char>(byte ^ 0x20));
      files += file.good() ? 1 : 0;
    }
    return files;
  };
  std::size_t produced = 0;
  const auto go_on = [&](std::size_t until) {
    ASSERT_THAT(Produce(*kafka, "flipped.events", produced, until), IsOk());
    produced = until;
    ASSERT_TRUE(HasReadAll(*kafka, member, "flipped.events", "flipped")) << member.log();
  };
  const auto set_aside = [&] { return CountOf(member.log(), "sessionizer.state_set_aside"); };

  // In the write-ahead log: found when the store is opened.
  ASSERT_THAT(member.Start(), IsOk());
  ASSERT_NO_FATAL_FAILURE(go_on(kEvents / 4));
  member.Kill();
  ASSERT_GT(flip(".log"), 0);
  ASSERT_THAT(member.Start(), IsOk());
  ASSERT_NO_FATAL_FAILURE(go_on(kEvents / 2));
  EXPECT_EQ(set_aside(), 1u) << member.log();

  // In a table, where a start has put what was in the log: found when a partition is taken over.
  member.Kill();
  ASSERT_THAT(member.Start(), IsOk());
  ASSERT_NO_FATAL_FAILURE(go_on(kEvents / 2 + 100));
  member.Kill();
  ASSERT_GT(flip(".sst"), 0);
  ASSERT_THAT(member.Start(), IsOk());
  ASSERT_NO_FATAL_FAILURE(go_on(kEvents * 3 / 4));
  EXPECT_EQ(set_aside(), 2u) << member.log();

  // In the manifest: found when the store is opened.
  member.Kill();
  ASSERT_GT(flip("MANIFEST-"), 0);
  ASSERT_THAT(member.Start(), IsOk());
  ASSERT_NO_FATAL_FAILURE(go_on(kEvents));
  EXPECT_EQ(set_aside(), 3u) << member.log();
  for (const char* number : {"1", "2", "3"}) {
    EXPECT_TRUE(fs::exists(member.state() + "/sessions.corrupt-" + number + "/CURRENT")) << number;
  }

  ASSERT_EQ(member.Interrupt(), 130) << member.log();
  ExpectUndisturbed(*kafka, "flipped.trajectories");
}

TEST_F(SessionFaultCrashTest, AStateOfATopicWithAnotherNumberOfPartitionsIsRefused) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  ASSERT_THAT(MakeEventsTopic(*kafka, "recut.events", kPartitions, {}), IsOk());
  Member member(*kafka, "recut.events", "recut.trajectories", "recut");
  ASSERT_THAT(member.Start(), IsOk());
  ASSERT_THAT(Produce(*kafka, "recut.events", 0, 100), IsOk());
  ASSERT_TRUE(HasReadAll(*kafka, member, "recut.events", "recut")) << member.log();
  ASSERT_EQ(member.Interrupt(), 130) << member.log();

  ASSERT_OK_AND_ASSIGN(const auto admin, kafka::Admin::Open(ConnectionTo(*kafka), kPatienceMs));
  for (const char* topic : {"recut.events", "recut.trajectories"}) {
    ASSERT_THAT(admin->DeleteTopic(topic), IsOk());
    ASSERT_TRUE(Eventually([&] { return !admin->PartitionCount(topic).has_value(); })) << topic;
  }
  ASSERT_THAT(MakeEventsTopic(*kafka, "recut.events", kPartitions + 1, {}), IsOk());

  ASSERT_THAT(member.Start(), IsOk());
  EXPECT_EQ(member.Wait(), 4);
  EXPECT_THAT(member.log(), testing::HasSubstr("was made from"));
  EXPECT_THAT(member.log(), testing::HasSubstr("fuseline.state_dir"));
}

TEST_F(SessionFaultCrashTest, AnAbsentBrokerCostsNoMemoryAndIsCaughtUpWithWhileEventsKeepComing) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  ASSERT_THAT(MakeEventsTopic(*kafka, "away.events", kPartitions, {}), IsOk());
  Member member(*kafka, "away.events", "away.trajectories", "away");
  ASSERT_THAT(member.Start(), IsOk());
  ASSERT_THAT(Produce(*kafka, "away.events", 0, 5'000), IsOk());
  ASSERT_TRUE(HasReadAll(*kafka, member, "away.events", "away")) << member.log();
  const std::int64_t resident_before = ResidentKiB(member.pid());
  ASSERT_GT(resident_before, 0);

  // Producers go on, and keep for themselves what the broker does not take.
  constexpr std::size_t kFirst = 5'000;
  std::atomic<std::size_t> produced = kFirst;
  std::atomic<bool> hurries = false;
  Stage flow("flow", [&](std::stop_token stop) { return Produce(*kafka, "away.events", kFirst, kEvents, stop, &produced, &hurries); });
  kafka->Kill();
  std::int64_t resident_most = 0;
  for (const auto end = steady_clock::now() + kOutage; steady_clock::now() < end;) {
    resident_most = std::max(resident_most, ResidentKiB(member.pid()));
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  ASSERT_TRUE(member.running()) << member.log();
  ASSERT_THAT(kafka->Restart(), IsOk());
  // What had gathered until now is read, and all that came since but for the last moment's, while more keeps coming.
  const auto back = steady_clock::now();
  const std::size_t gathered = produced;
  std::size_t at_once = 0;
  ASSERT_TRUE(Eventually([&] {
    at_once = produced;
    return Ingested(member) + 200 > at_once;
  })) << member.log();
  std::cout << "away " << kOutage.count() << " s: resident " << resident_before / 1024 << " MiB before, " << resident_most / 1024
            << " at most; " << gathered - kFirst << " events behind and " << at_once - gathered << " more were read in "
            << std::chrono::duration<double>(steady_clock::now() - back).count() << " s\n";
  EXPECT_LT(at_once, kEvents) << "nothing was coming any more";
  EXPECT_LT(resident_most, resident_before + 32 * 1024);

  hurries = true;
  ASSERT_THAT(flow.Join(), IsOk());
  ASSERT_TRUE(HasReadAll(*kafka, member, "away.events", "away")) << member.log();
  ASSERT_EQ(member.Interrupt(), 130) << member.log();
  ExpectUndisturbed(*kafka, "away.trajectories");
}

}  // namespace
}  // namespace fuseline::test
