// Proven of `fuseline sessionize` as members of a real group on a real broker, while events flow: whatever comes, goes, is killed or is
// stalled, the topic of trajectories holds what one undisturbed member would have written: every name once after repeats are dropped,
// repeats byte for byte the same, an unbroken row of predecessors in each partition. And: what cannot be gone on with is refused aloud.
// Method: the real program. The same events in another topic with as many partitions have the same offsets, so names and bytes of one
// undisturbed member are the measure for all others.

#include <algorithm>
#include <csignal>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/core/stage.h"
#include "fuseline/kafka/admin.h"
#include "fuseline/kafka/consumer.h"
#include "fuseline/kafka/producer.h"
#include "fuseline/proto/event_codec.h"
#include "fuseline/proto/offset_metadata.h"
#include "fuseline/test_support/matchers.h"
#include "trajectories_harness.h"

namespace fuseline::test {
namespace {

constexpr std::uint64_t kEvents = 30'000;
constexpr int kPartitions = 6;
constexpr std::int64_t kPatienceMs = 60'000;

// An event, and the partition in which the undisturbed member finds it.
struct PlacedEvent {
  v1::Event event;
  std::int32_t partition = 0;
};

// Writes events as they would come, until all are written. To the partitions that they have elsewhere: a client that hears of a new topic
// before all of its partitions are known would choose others for the first of them.
class Flow {
 public:
  Flow(KafkaProcess& kafka, std::string topic, const std::vector<PlacedEvent>& events)
      : stage_("flow", [this, &kafka, topic = std::move(topic), &events](std::stop_token stop) { return Write(kafka, topic, events, stop); }) {}

  Status WaitUntilAll() {
    hurries_ = true;
    return stage_.Join();
  }

 private:
  Status Write(const KafkaProcess& kafka, const std::string& topic, const std::vector<PlacedEvent>& events, std::stop_token stop) {
    FUSELINE_ASSIGN_OR_RETURN(const auto producer, kafka::Producer::Open(ConnectionTo(kafka), {}, nullptr));
    for (std::size_t i = 0; i < events.size() && !stop.stop_requested(); ++i) {
      const v1::Event& event = events[i].event;
      const std::string bytes = event.SerializeAsString();
      kafka::OutgoingMessage message;
      message.topic = topic;
      message.key = event.user_id();
      message.value = bytes;
      message.partition = events[i].partition;
      message.timestamp_ms = event.event_time_ms();
      FUSELINE_RETURN_IF_ERROR(producer->ProduceOrWait(message, kPatienceMs));
      if (i % 20 != 19 || hurries_) continue;
      producer->Poll(0);
      SleepFor(stop, 10);
    }
    return producer->Flush(kPatienceMs);
  }

  std::atomic<bool> hurries_ = false;
  Stage stage_;
};

class GroupCrashTest : public testing::Test {
 protected:
  // What one member that nobody disturbs makes of the events.
  static void SetUpTestSuite() {
    auto kafka = SharedKafka();
    if (!kafka) return;
    auto events = SimulatedEvents(/*seed=*/11, kEvents);
    ASSERT_THAT(events, IsOk());
    ASSERT_THAT(MakeEventsTopic(**kafka, "group.events", kPartitions, *events), IsOk());
    ASSERT_NO_FATAL_FAILURE(Place(**kafka, *std::move(events)));
    Member member(**kafka, "group.events", "group.expected", "undisturbed");
    ASSERT_THAT(member.Start(), IsOk());
    ASSERT_NO_FATAL_FAILURE(WaitUntilCommitted(**kafka, member, "group.events", "undisturbed"));
    ASSERT_EQ(member.Interrupt(), 130) << member.log();
    ASSERT_OK_AND_ASSIGN(const StoredTopic topic, ReadTopic(**kafka, "group.expected"));
    expected_ = new TakenTrajectories(TakeAll(topic));
    EXPECT_THAT(expected_->faults, testing::IsEmpty());
    EXPECT_EQ(expected_->repeats, 0u);
    std::size_t trajectories = 0;
    for (const auto& [partition, bytes] : expected_->bytes) trajectories += bytes.size();
    std::cout << trajectories << " trajectories expected\n";
    ASSERT_GT(trajectories, 300u);
  }

  static void Place(const KafkaProcess& kafka, std::vector<v1::Event> events) {
    ASSERT_OK_AND_ASSIGN(const StoredTopic topic, ReadTopic(kafka, "group.events"));
    std::map<std::string, std::int32_t> partition_of;  // By user.
    for (const auto& [partition, records] : topic) {
      for (const StoredRecord& record : records) partition_of[record.key] = partition;
    }
    events_ = new std::vector<PlacedEvent>();
    for (v1::Event& event : events) {
      const std::int32_t partition = partition_of.at(event.user_id());
      events_->push_back({std::move(event), partition});
    }
  }

  static void WaitUntilCommitted(const KafkaProcess& kafka, ServedProcess& process, const std::string& topic, const std::string& group) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(kPatienceMs);
    for (;;) {
      const auto all = HasCommittedEverything(kafka, topic, group);
      ASSERT_THAT(all, IsOk());
      if (*all) return;
      ASSERT_TRUE(process.running()) << process.log();
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << process.log();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }

  // Names are offsets: a flow that was written in another order could not have the same ones.
  static void ExpectSameEvents(const KafkaProcess& kafka, const std::string& topic) {
    ASSERT_OK_AND_ASSIGN(const StoredTopic flow, ReadTopic(kafka, topic));
    ASSERT_OK_AND_ASSIGN(const StoredTopic measure, ReadTopic(kafka, "group.events"));
    for (const auto& [partition, expected] : measure) {
      const auto& actual = flow.at(partition);
      ASSERT_EQ(actual.size(), expected.size()) << "partition " << partition;
      for (std::size_t i = 0; i < expected.size(); ++i) {
        v1::Event said, wanted;
        ASSERT_TRUE(said.ParseFromString(actual[i].value) && wanted.ParseFromString(expected[i].value));
        ASSERT_EQ(said.event_id(), wanted.event_id()) << "partition " << partition << ", offset " << i;
      }
    }
  }

  static void ExpectUndisturbed(const KafkaProcess& kafka, const std::string& topic) {
    ASSERT_OK_AND_ASSIGN(const StoredTopic stored, ReadTopic(kafka, topic));
    const TakenTrajectories taken = TakeAll(stored);
    std::cout << topic << ": " << taken.repeats << " repeats\n";
    EXPECT_THAT(taken.faults, testing::IsEmpty());
    for (const auto& [partition, expected] : expected_->bytes) {
      const std::vector<std::string>& actual = taken.bytes.at(partition);
      EXPECT_EQ(actual.size(), expected.size()) << "partition " << partition;
      const auto [a, e] = std::ranges::mismatch(actual, expected);
      if (a == actual.end() || e == expected.end()) continue;
      v1::TrajectoryRecord said, wanted;
      ASSERT_TRUE(said.ParseFromString(*a) && wanted.ParseFromString(*e));
      ADD_FAILURE() << "partition " << partition << ", said:\n" << Outline(said) << "wanted:\n" << Outline(wanted);
    }
  }

  // Without the steps' bodies.
  static std::string Outline(v1::TrajectoryRecord record) {
    std::string times;
    for (const auto& step : record.trajectory().steps()) times += std::to_string(step.event_time_ms()) + ' ';
    record.mutable_trajectory()->clear_steps();
    record.mutable_trajectory()->clear_next_step();
    return record.ShortDebugString() + " steps at " + times + '\n';
  }

  static std::vector<v1::Event> Events() {
    std::vector<v1::Event> events;
    for (const PlacedEvent& placed : *events_) events.push_back(placed.event);
    return events;
  }

  static std::vector<PlacedEvent>* events_;
  static TakenTrajectories* expected_;
};
std::vector<PlacedEvent>* GroupCrashTest::events_ = nullptr;
TakenTrajectories* GroupCrashTest::expected_ = nullptr;

TEST_F(GroupCrashTest, MembersThatComeGoAndAreKilledChangeNothing) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  ASSERT_THAT(MakeEventsTopic(*kafka, "moving.events", kPartitions, {}), IsOk());
  const auto member = [&] { return Member(*kafka, "moving.events", "moving.trajectories", "moving"); };
  Member first = member(), second = member(), third = member();
  Flow flow(*kafka, "moving.events", *events_);

  // 1 → 3
  ASSERT_THAT(first.Start(), IsOk());
  ASSERT_THAT(first.WaitUntilOwns(6), IsOk());
  ASSERT_THAT(second.Start(), IsOk());
  ASSERT_THAT(third.Start(), IsOk());
  ASSERT_THAT(first.WaitUntilOwns(2), IsOk());
  ASSERT_THAT(second.WaitUntilOwns(2), IsOk());
  ASSERT_THAT(third.WaitUntilOwns(2), IsOk());
  // → 2, by SIGKILL
  third.Kill();
  ASSERT_THAT(first.WaitUntilOwns(3), IsOk());
  ASSERT_THAT(second.WaitUntilOwns(3), IsOk());
  // → 1, cleanly
  ASSERT_EQ(second.Interrupt(), 130) << second.log();
  ASSERT_THAT(first.WaitUntilOwns(6), IsOk());
  // → 2, by one whose own state is older than the group's word
  ASSERT_THAT(third.Start(), IsOk());
  ASSERT_THAT(third.WaitUntilOwns(3), IsOk());
  ASSERT_THAT(flow.WaitUntilAll(), IsOk());
  ASSERT_NO_FATAL_FAILURE(WaitUntilCommitted(*kafka, first, "moving.events", "moving"));
  EXPECT_EQ(third.Interrupt(), 130) << third.log();
  EXPECT_EQ(first.Interrupt(), 130) << first.log();

  ExpectSameEvents(*kafka, "moving.events");
  ExpectUndisturbed(*kafka, "moving.trajectories");
}

TEST_F(GroupCrashTest, APartitionMovesToAMemberThatHasNothing) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  ASSERT_THAT(MakeEventsTopic(*kafka, "empty.events", kPartitions, {}), IsOk());
  Flow flow(*kafka, "empty.events", *events_);
  Member killed(*kafka, "empty.events", "empty.trajectories", "empty");
  ASSERT_THAT(killed.Start(), IsOk());
  ASSERT_THAT(killed.WaitUntil([](const nlohmann::json& status) { return status["trajectories"] > 50; }, kPatienceMs), IsOk());
  killed.Kill();

  Member heir(*kafka, "empty.events", "empty.trajectories", "empty");
  ASSERT_THAT(heir.Start(), IsOk());
  ASSERT_THAT(flow.WaitUntilAll(), IsOk());
  ASSERT_NO_FATAL_FAILURE(WaitUntilCommitted(*kafka, heir, "empty.events", "empty"));
  ASSERT_OK_AND_ASSIGN(const nlohmann::json status, [&]() -> Result<nlohmann::json> {
    auto answer = heir.Ask();
    return answer ? Result<nlohmann::json>(*answer) : Error(Code::kUnavailable, "no answer");
  }());
  EXPECT_EQ(heir.Interrupt(), 130) << heir.log();

  ExpectUndisturbed(*kafka, "empty.trajectories");
  EXPECT_EQ(status["accounting"]["read"], kEvents);
  EXPECT_EQ(status["accounting_balanced"], true) << status;
}

TEST_F(GroupCrashTest, AStalledOwnerCanOnlyRepeatWhatWasSaid) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  ASSERT_THAT(MakeEventsTopic(*kafka, "stalled.events", kPartitions, {}), IsOk());
  Flow flow(*kafka, "stalled.events", *events_);
  Member stalled(*kafka, "stalled.events", "stalled.trajectories", "stalled");
  Member other(*kafka, "stalled.events", "stalled.trajectories", "stalled");
  ASSERT_THAT(stalled.Start(), IsOk());
  ASSERT_THAT(stalled.WaitUntilOwns(6), IsOk());
  ASSERT_THAT(other.Start(), IsOk());
  ASSERT_THAT(other.WaitUntilOwns(3), IsOk());
  ASSERT_THAT(stalled.WaitUntil([](const nlohmann::json& status) { return status["trajectories"] > 20; }, kPatienceMs), IsOk());

  stalled.Signal(SIGSTOP);
  ASSERT_THAT(other.WaitUntilOwns(6), IsOk());
  const auto has_written_on = [](const nlohmann::json& status) { return status["trajectories"] > 100; };
  ASSERT_THAT(other.WaitUntil(has_written_on, kPatienceMs), IsOk());
  stalled.Signal(SIGCONT);

  // It finds out that it was thrown out, and joins again.
  ASSERT_THAT(other.WaitUntilOwns(3), IsOk());
  ASSERT_THAT(stalled.WaitUntilOwns(3), IsOk());
  ASSERT_THAT(flow.WaitUntilAll(), IsOk());
  ASSERT_NO_FATAL_FAILURE(WaitUntilCommitted(*kafka, other, "stalled.events", "stalled"));
  EXPECT_EQ(stalled.Interrupt(), 130) << stalled.log();
  EXPECT_EQ(other.Interrupt(), 130) << other.log();

  ExpectUndisturbed(*kafka, "stalled.trajectories");
}

TEST_F(GroupCrashTest, AnOffsetWithoutReadableMetadataIsRefusedUntilAColdStart) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  kafka::ConsumerOptions options;
  options.topic = "group.events";
  options.group_id = "wordless";
  ASSERT_OK_AND_ASSIGN(const auto consumer, kafka::Consumer::Open(ConnectionTo(*kafka), options));
  ASSERT_THAT(consumer->Commit({{0, {100, ""}}, {1, {100, "somebody else's"}}}), IsOk());

  Member member(*kafka, "group.events", "wordless.trajectories", "wordless");
  ASSERT_THAT(member.Start(), IsOk());
  EXPECT_EQ(member.Wait(), 4);
  EXPECT_THAT(member.log(), testing::HasSubstr("--cold-start"));
  ASSERT_THAT(member.Start({"--cold-start"}), IsOk());
  ASSERT_NO_FATAL_FAILURE(WaitUntilCommitted(*kafka, member, "group.events", "wordless"));
  EXPECT_EQ(member.Interrupt(), 130) << member.log();
  ExpectUndisturbed(*kafka, "wordless.trajectories");
}

TEST_F(GroupCrashTest, ALogThatNoLongerHoldsTheLowWaterIsRefused) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  ASSERT_THAT(MakeEventsTopic(*kafka, "cut.events", kPartitions, Events()), IsOk());
  Member before(*kafka, "cut.events", "cut.trajectories", "cut");
  ASSERT_THAT(before.Start(), IsOk());
  ASSERT_NO_FATAL_FAILURE(WaitUntilCommitted(*kafka, before, "cut.events", "cut"));
  ASSERT_EQ(before.Interrupt(), 130) << before.log();
  kafka::ConsumerOptions options;
  options.topic = "cut.events";
  options.group_id = "cut";
  ASSERT_OK_AND_ASSIGN(const auto consumer, kafka::Consumer::Open(ConnectionTo(*kafka), options));
  const std::int32_t one[] = {2};
  ASSERT_OK_AND_ASSIGN(const auto committed, consumer->Committed(one));
  ASSERT_OK_AND_ASSIGN(const v1::OffsetMetadata metadata, DecodeOffsetMetadata(committed.at(2).metadata));
  ASSERT_LT(metadata.low_water_offset(), committed.at(2).offset);
  ASSERT_OK_AND_ASSIGN(const auto admin, kafka::Admin::Open(ConnectionTo(*kafka), 10'000));

  // A log that still holds all of it is enough, …
  ASSERT_THAT(admin->DeleteRecords("cut.events", 2, metadata.low_water_offset()), IsOk());
  Member heir(*kafka, "cut.events", "cut.trajectories", "cut");
  ASSERT_THAT(heir.Start(), IsOk());
  ASSERT_THAT(heir.WaitUntilOwns(6), IsOk());
  ASSERT_EQ(heir.Interrupt(), 130) << heir.log();
  // … one record less is not, …
  ASSERT_THAT(admin->DeleteRecords("cut.events", 2, metadata.low_water_offset() + 1), IsOk());
  Member too_late(*kafka, "cut.events", "cut.trajectories", "cut");
  ASSERT_THAT(too_late.Start(), IsOk());
  EXPECT_EQ(too_late.Wait(), 4);
  EXPECT_THAT(too_late.log(), testing::HasSubstr("--cold-start"));
  // … unless somebody has the state.
  ASSERT_THAT(before.Start(), IsOk());
  ASSERT_THAT(before.WaitUntilOwns(6), IsOk());
  EXPECT_EQ(before.Interrupt(), 130) << before.log();
}

TEST_F(GroupCrashTest, ATopicOfTrajectoriesWithOtherPartitionsIsRefused) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  ASSERT_THAT(kafka->CreateTopic("narrow.trajectories", kPartitions - 1), IsOk());
  Member member(*kafka, "group.events", "narrow.trajectories", "narrow");
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{}, {"--dry-run"}}) {
    ASSERT_THAT(member.Start(arguments), IsOk());
    EXPECT_EQ(member.Wait(), 4);
  }
  EXPECT_THAT(member.log(), testing::HasSubstr("narrow.trajectories"));
  Member good(*kafka, "group.events", "group.expected", "narrow");
  ASSERT_THAT(good.Start({"--dry-run"}), IsOk());
  EXPECT_EQ(good.Wait(), 0) << good.log();
}

}  // namespace
}  // namespace fuseline::test
