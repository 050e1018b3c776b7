// Proven: time is in the log. A partition that falls silent, or never had an event, no longer stalls learning; ticks that are stale, or
// come from a second owner, change nothing; a process whose wall clock is an hour off makes the same sessions of the same log; rules that change in mid-stream take effect at their record, whatever the files say; an event from
// the future moves no clock; one record may close more sessions than any queue holds.
// Method: the real program against a real broker and a real Redis. Two states are the same when accounts, stream times, names taken and
// the weights' digest are.

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "fuseline/core/file.h"
#include "fuseline/core/http.h"
#include "fuseline/kafka/consumer.h"
#include "fuseline/kafka/producer.h"
#include "fuseline/test_support/matchers.h"
#include "loop_harness.h"

namespace fuseline::test {
namespace {

using testing::HasSubstr;

constexpr std::int64_t kPatienceMs = 120'000;

// Sessions of half a second, so that a silence of some seconds closes them.
std::vector<std::string> ShortSessions(std::int64_t idle_timeout_ms) {
  return {"sessionizer.gap_ms=500",     "sessionizer.lateness_ms=0",       "ingest.max_future_ms=0",      "fuseline.log_level=warn",
          "sessionizer.cut_every_ms=0", "sessionizer.commit_interval_ms=10", "sessionizer.idle_timeout_ms=" + std::to_string(idle_timeout_ms)};
}

class LogTimeTest : public testing::Test {
 protected:
  void SetUp() override {
    FUSELINE_KAFKA_OR_SKIP(kafka_, SharedKafka());
    topic_ = std::string("time.") + testing::UnitTest::GetInstance()->current_test_info()->name();
    connection_.bootstrap_servers = kafka_->bootstrap_servers();
    ASSERT_OK_AND_ASSIGN(producer_, kafka::Producer::Open(connection_, {}, nullptr));
    ASSERT_OK_AND_ASSIGN(redis_, RedisProcess::Start());
  }

  void MakeTopic(const std::string& timestamps = "CreateTime") {
    ASSERT_THAT(kafka_->CreateTopic(topic_, 2, {{"retention.ms", "-1"}, {"message.timestamp.type", timestamps}}), IsOk());
  }

  void Produce(std::int32_t partition, const v1::Event& event) {
    const std::string bytes = event.SerializeAsString();
    kafka::OutgoingMessage message;
    message.topic = topic_;
    message.partition = partition;
    message.value = bytes;
    message.timestamp_ms = event.event_time_ms();
    ASSERT_THAT(producer_->ProduceOrWait(message, 20'000), IsOk());
  }
  void Append(std::int32_t partition, const v1::Event& event) {
    Produce(partition, event);
    ASSERT_THAT(producer_->Flush(20'000), IsOk());
  }
  static v1::Event Exposure(const std::string& user, std::int64_t time_ms) {
    v1::Event event;
    event.set_event_id(user + '-' + std::to_string(time_ms));
    event.set_user_id(user);
    event.set_event_time_ms(time_ms);
    event.mutable_exposure()->set_request_id(event.event_id());
    event.mutable_exposure()->add_items()->set_item_id("i");
    return event;
  }
  void Show(std::int32_t partition, const std::string& user, std::int64_t time_ms) { Append(partition, Exposure(user, time_ms)); }
  void Tick(std::int32_t partition, std::int64_t predecessor, std::int64_t time_ms) {
    v1::Event event;
    event.set_event_id("tick");
    event.set_event_time_ms(time_ms);
    event.mutable_control()->mutable_tick()->set_predecessor_offset(predecessor);
    Append(partition, event);
  }

  std::uint64_t RecordsInTheLog() {
    std::uint64_t records = 0;
    auto consumer = kafka::Consumer::Open(connection_, {.topic = topic_});
    for (const std::int32_t partition : {0, 1}) {
      const auto marks = (*consumer)->QueryWatermarks(partition);
      EXPECT_THAT(marks, IsOk());
      records += static_cast<std::uint64_t>(marks->high);
    }
    return records;
  }

  // A program of its own: state folder, group and policy.
  std::unique_ptr<LoopProcess> Program(std::vector<std::string> settings) {
    const std::string policy = "p" + std::to_string(++programs_);
    settings.push_back("policy.name=" + policy);
    settings.push_back("kafka.claims_topic=" + topic_ + '.' + policy);
    settings.push_back("kafka.group_id=" + topic_ + '.' + policy);
    return std::make_unique<LoopProcess>(*kafka_, *redis_, topic_, settings);
  }

  // What a program with these settings makes of the whole log, ticking nothing.
  nlohmann::json StateOf(LoopProcess& program) {
    EXPECT_THAT(program.Start(), IsOk());
    EXPECT_THAT(program.WaitUntilLearned(RecordsInTheLog(), kPatienceMs), IsOk());
    EXPECT_EQ(program.Interrupt(), 130) << program.log();
    const auto status = program.StoredStatus();
    EXPECT_THAT(status, IsOk());
    return status ? nlohmann::json{{"partitions", (*status)["partitions"]}, {"learner", (*status)["learner"]}} : nlohmann::json();
  }

  KafkaProcess* kafka_ = nullptr;
  kafka::Connection connection_;
  std::unique_ptr<kafka::Producer> producer_;
  std::unique_ptr<RedisProcess> redis_;
  std::string topic_;
  int programs_ = 0;
};

std::uint64_t Learned(const nlohmann::json& status) { return status["learner"]["trajectories"].get<std::uint64_t>(); }

// Four sessions in partition 0, one in partition 1, which then falls silent.
class SilentPartitionTest : public LogTimeTest {
 protected:
  void AppendSessions() {
    Show(1, "b", 1'000);
    for (const std::int64_t time_ms : {1'000, 3'000, 5'000, 7'000}) Show(0, "a", time_ms);
  }
};

TEST_F(SilentPartitionTest, HoldsTheClockBackAndIsNamedWhereNobodyTicks) {
  MakeTopic();
  AppendSessions();
  const auto program = Program(ShortSessions(/*idle_timeout_ms=*/0));
  ASSERT_THAT(program->Start(), IsOk());

  const auto held_back = [](const auto& status) {
    return status["trajectories"] == 3 && status["waits_for_partition"] == 1 && status["partitions"][1]["stream_time_lag_ms"] == 6'000;
  };
  ASSERT_THAT(program->WaitUntil(held_back, kPatienceMs), IsOk());

  const auto status = program->Ask();
  ASSERT_TRUE(status);
  EXPECT_EQ(Learned(*status), 0u);
  std::string text;
  EXPECT_EQ(RunFuseline({"status", "--state", program->state()}, &text), 0);
  EXPECT_THAT(text, HasSubstr("waits_for        partition 1"));
  const auto metrics = HttpGet(*ReadFile(program->state() + "/http_address"), "/metrics", 2'000);
  ASSERT_THAT(metrics, IsOk());
  EXPECT_THAT(*metrics, HasSubstr("fuseline_learner_waits_for_partition 1"));
  EXPECT_THAT(*metrics, HasSubstr("fuseline_sessionizer_stream_time_lag_ms{partition=\"1\"} 6000"));
  program->Kill();
}

TEST_F(SilentPartitionTest, NoLongerStallsLearning) {
  MakeTopic();
  AppendSessions();
  const auto program = Program(ShortSessions(/*idle_timeout_ms=*/400));
  ASSERT_THAT(program->Start(), IsOk());

  EXPECT_THAT(program->WaitUntil([](const auto& status) { return Learned(status) == 5; }, kPatienceMs), IsOk());

  EXPECT_EQ(program->Interrupt(), 130) << program->log();
  // Whoever reads the log later finds the same time in it.
  EXPECT_EQ(StateOf(*Program(ShortSessions(0)))["learner"]["trajectories"], 5);
}

TEST_F(SilentPartitionTest, ThatNeverHadAnEventDoesNotEither) {
  MakeTopic();
  for (const std::int64_t time_ms : {1'000, 3'000, 5'000, 7'000}) Show(0, "a", time_ms);
  const auto program = Program(ShortSessions(/*idle_timeout_ms=*/400));
  ASSERT_THAT(program->Start(), IsOk());

  EXPECT_THAT(program->WaitUntil([](const auto& status) { return Learned(status) == 4; }, kPatienceMs), IsOk());

  EXPECT_EQ(program->Interrupt(), 130) << program->log();
}

TEST_F(SilentPartitionTest, TickedByTwoOwnersAndAZombieMovesAsTheLogSays) {
  MakeTopic();
  AppendSessions();
  const auto first = Program(ShortSessions(/*idle_timeout_ms=*/400));
  const auto second = Program(ShortSessions(/*idle_timeout_ms=*/400));
  ASSERT_THAT(first->Start(), IsOk());
  ASSERT_THAT(second->Start(), IsOk());
  for (std::uint64_t learned = 1; learned <= 5; ++learned) {
    // A zombie goes by what it read long ago.
    Tick(0, /*predecessor=*/0, /*time_ms=*/100'000'000);
    Tick(1, /*predecessor=*/-1, /*time_ms=*/100'000'000);
    EXPECT_THAT(first->WaitUntil([&](const auto& status) { return Learned(status) >= learned; }, kPatienceMs), IsOk());
  }
  EXPECT_THAT(second->WaitUntil([](const auto& status) { return Learned(status) == 5; }, kPatienceMs), IsOk());
  EXPECT_EQ(first->Interrupt(), 130) << first->log();
  EXPECT_EQ(second->Interrupt(), 130) << second->log();

  const nlohmann::json of_the_log = StateOf(*Program(ShortSessions(0)));

  EXPECT_EQ(of_the_log["learner"]["trajectories"], 5);
  for (const auto& partition : of_the_log["partitions"]) EXPECT_LT(partition["stream_time_ms"], 100'000'000) << partition;
}

// The program's wall clock, and no other, is off.
std::vector<std::string> WallClockOffBy(const std::string& seconds) {
  return {"/usr/bin/env", "LD_PRELOAD=" FUSELINE_WALL_CLOCK_SHIFT, "FUSELINE_WALL_CLOCK_SHIFT_S=" + seconds};
}

TEST_F(LogTimeTest, AWallClockThatIsAnHourOffChangesNothing) {
  constexpr std::uint64_t kEvents = 20'000;
  ASSERT_OK_AND_ASSIGN(const auto events, SimulatedEvents(/*seed=*/11, kEvents));
  ASSERT_THAT(MakeEventsTopic(*kafka_, topic_, /*partitions=*/2, events), IsOk());
  const std::vector<std::string> settings = {"learner.warmup_transitions=200", "learner.version_every_steps=50", "fuseline.log_level=warn"};
  const nlohmann::json expected = StateOf(*Program(settings));
  ASSERT_GT(expected["learner"]["versions"], 0) << expected;

  // Brokers refuse records that are more than an hour ahead, so the fast clock is a little less.
  for (const char* seconds : {"3500", "-3600"}) {
    const auto program = Program(settings);
    program->RunUnder(WallClockOffBy(seconds));
    EXPECT_EQ(StateOf(*program), expected) << seconds;
  }
}

TEST_F(SilentPartitionTest, IsTickedByTheStreamsTimeWhateverTheWallClockSays) {
  MakeTopic();
  AppendSessions();
  const auto program = Program(ShortSessions(/*idle_timeout_ms=*/400));
  program->RunUnder(WallClockOffBy("-3600"));
  ASSERT_THAT(program->Start(), IsOk());

  EXPECT_THAT(program->WaitUntil([](const auto& status) { return Learned(status) == 5; }, kPatienceMs), IsOk());

  EXPECT_EQ(program->Interrupt(), 130) << program->log();
  for (const auto& partition : StateOf(*Program(ShortSessions(0)))["partitions"]) {
    EXPECT_LT(partition["stream_time_ms"], 1'000 + kPatienceMs) << partition;
  }
}

// Rules are applied, events appended, and so again: every program sees the same records, each has another file.
TEST_F(LogTimeTest, RulesThatChangeInMidStreamHoldForEveryFile) {
  MakeTopic();
  const auto apply = [&](const std::string& gap_ms) {
    std::string output;
    ASSERT_EQ(RunFuseline({"config", "apply", "--execute", "--set", "kafka.brokers=" + kafka_->bootstrap_servers(), "--set",
                           "kafka.events_topic=" + topic_, "--set", "ingest.max_future_ms=0", "--set", "sessionizer.lateness_ms=0", "--set",
                           "sessionizer.cut_every_ms=0", "--set", "sessionizer.gap_ms=" + gap_ms},
                          &output),
              0);
    EXPECT_THAT(output, HasSubstr("partition 1  version"));
  };
  const auto show_pairs = [&](std::int64_t from_ms) {
    for (const std::int32_t partition : {0, 1}) {
      const std::string user = "u" + std::to_string(partition);
      for (const std::int64_t step_ms : {0, 600, 5'000}) Show(partition, user, from_ms + step_ms);
    }
  };
  apply("500");
  show_pairs(10'000);  // Two sessions, and one that stays open.
  apply("700");
  show_pairs(20'000);  // One, for 600 ms are no silence any more; the open one is closed first, one more stays open.

  const nlohmann::json short_gap = StateOf(*Program(ShortSessions(0)));
  std::vector<std::string> other = ShortSessions(0);
  other[0] = "sessionizer.gap_ms=90000";
  const nlohmann::json long_gap = StateOf(*Program(other));

  EXPECT_EQ(long_gap, short_gap);
  for (const auto& partition : short_gap["partitions"]) {
    EXPECT_EQ(partition["accounting"]["control"], 2) << partition;
    EXPECT_EQ(partition["accounting"]["pending"], 1) << partition;
    EXPECT_EQ(partition["accounting"]["used"], 5) << partition;
  }
  EXPECT_EQ(short_gap["learner"]["trajectories"], 7) << "of four in each, the last waits for a later time in the other partition";
}

// One record closes far more sessions than an outbox, a queue or a page of offers holds.
TEST_F(LogTimeTest, OneRecordMayCloseMoreThanAnyQueueHolds) {
  MakeTopic();
  constexpr int kUsers = 3'000;
  for (int user = 0; user < kUsers; ++user) Produce(0, Exposure("u" + std::to_string(user), 1'000));
  Show(0, "last", 100'000);
  Show(1, "other", 200'000);
  std::vector<std::string> settings = ShortSessions(0);
  for (const char* setting : {"sessionizer.max_outbox=10", "learner.queue_trajectories=16", "sessionizer.commit_records=1000"}) {
    settings.push_back(setting);
  }

  const nlohmann::json state = StateOf(*Program(settings));

  EXPECT_EQ(state["learner"]["trajectories"], kUsers);
  EXPECT_EQ(state["learner"]["learned_through"]["0"], "0-3000-2999") << "all under the offset of the one record that closed them";
}

TEST_F(LogTimeTest, AnEventFromTheFutureMovesNoClock) {
  MakeTopic("LogAppendTime");
  const std::int64_t now_ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  for (const std::int32_t partition : {0, 1}) {
    Show(partition, "a", now_ms);
    Show(partition, "fast", now_ms + 3'600'000);
    Tick(partition, /*predecessor=*/1, now_ms + 3'600'000);
    Show(partition, "b", now_ms + 1);
  }

  const nlohmann::json state = StateOf(*Program({"fuseline.log_level=warn"}));

  for (const auto& partition : state["partitions"]) {
    EXPECT_EQ(partition["stream_time_ms"], now_ms + 1);
    EXPECT_EQ(partition["accounting"]["quarantined"], 1);
    EXPECT_EQ(partition["accounting"]["control"], 1);
    EXPECT_EQ(partition["accounting"]["pending"], 2);
  }
}

}  // namespace
}  // namespace fuseline::test
