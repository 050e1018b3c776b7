// What the person on call types, on a real broker: dead letters of a running process are found in their topic and go
// back to the log, where they are read as events; the open sessions of a user are seen beside the process; a closed
// one is explained from the topic of trajectories and, without one, built again from the log under the same name; a
// second specification learns what the first one did, unless it asks for something else.

#include <fstream>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fuseline/core/file.h"
#include "fuseline/kafka/producer.h"
#include "fuseline/proto/event_codec.h"
#include "fuseline/proto/trajectory_name.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/v1/policy.pb.h"
#include "loop_harness.h"

namespace fuseline::test {
namespace {

using nlohmann::json;
using testing::HasSubstr;

constexpr std::uint64_t kEvents = 6'000;
constexpr std::int64_t kPatienceMs = 60'000;

// Appends values to one partition; waits until they are there.
Status Append(const KafkaProcess& kafka, const std::string& topic, std::int32_t partition,
              const std::vector<std::string>& values) {
  Status delivered;
  kafka::Connection connection;
  connection.bootstrap_servers = kafka.bootstrap_servers();
  FUSELINE_ASSIGN_OR_RETURN(const auto producer,
                            kafka::Producer::Open(connection, {}, [&](const kafka::DeliveryReport& report) {
                              if (!report.status.ok()) delivered = report.status;
                            }));
  for (const std::string& value : values) {
    kafka::OutgoingMessage message;
    message.topic = topic;
    message.value = value;
    message.partition = partition;
    FUSELINE_RETURN_IF_ERROR(producer->Produce(message));
  }
  FUSELINE_RETURN_IF_ERROR(producer->Flush(kPatienceMs));
  return delivered;
}

std::string Click(const std::string& id, std::int64_t time_ms) {
  return R"({"event_id":")" + id + R"(","user_id":"latecomer","event_time_ms":)" + std::to_string(time_ms) +
         R"(,"feedback":{"request_id":"r","item_id":"i","kind":"CLICK"}})";
}

class OnCallTest : public testing::Test {
 protected:
  // Exit status, and standard output.
  std::pair<int, std::string> Run(const KafkaProcess& kafka, std::vector<std::string> arguments) {
    for (const std::string& setting :
         {"kafka.brokers=" + kafka.bootstrap_servers(), "kafka.events_topic=" + topic_,
          "kafka.dead_letters_topic=" + letters_, "kafka.trajectories_topic=" + trajectories_}) {
      arguments.insert(arguments.end(), {"--set", setting});
    }
    std::string output;
    const int code = RunFuseline(arguments, &output);
    return {code, output};
  }
  static json LastLine(const std::string& output) {
    const std::size_t end = output.find_last_not_of('\n');
    return json::parse(output.substr(output.find_last_of('\n', end) + 1), nullptr, /*allow_exceptions=*/false);
  }

  TempDir dir_;
  const std::string topic_ =
      "on_call." + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()).substr(0, 40);
  const std::string letters_ = topic_ + ".letters";
  const std::string trajectories_ = topic_ + ".trajectories";
};

TEST_F(OnCallTest, WhatCouldNotBeUsedGoesBackToTheLogOnceAndIsReadAsAnEvent) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  ASSERT_OK_AND_ASSIGN(const auto redis, RedisProcess::Start());
  ASSERT_THAT(kafka->CreateTopic(topic_, 2, {{"retention.ms", "-1"}, {"message.timestamp.type", "CreateTime"}}),
              IsOk());
  const std::string long_id(40, 'x');
  ASSERT_THAT(Append(*kafka, topic_, 1, {"not an event", Click(long_id, 2'000), Click("good", 1'000)}), IsOk());
  // A producer with long ids, and limits that are too narrow for them.
  LoopProcess narrow(*kafka, *redis, topic_, {"ingest.max_string_bytes=16", "kafka.dead_letters_topic=" + letters_});
  ASSERT_THAT(narrow.Start(), IsOk());
  ASSERT_THAT(
      narrow.WaitUntil([](const json& status) { return status["accounting"]["malformed"] == 2; }, kPatienceMs),
      IsOk());
  EXPECT_EQ(narrow.Interrupt(), 130) << narrow.log();

  const auto [listed, list] = Run(*kafka, {"deadletters", "list", "--json", "--since", "2020-01-01"});
  EXPECT_EQ(listed, 0);
  EXPECT_EQ(LastLine(list)["letters"], 2) << list;
  EXPECT_EQ(LastLine(Run(*kafka, {"deadletters", "list", "--json", "--until", "2020-01-01"}).second)["letters"], 0);
  EXPECT_EQ(LastLine(Run(*kafka, {"deadletters", "list", "--json", "--since", "2999-01-01"}).second)["letters"], 0);
  const auto [dry_code, dry] = Run(*kafka, {"deadletters", "requeue", "--all"});
  EXPECT_EQ(dry_code, 0);
  EXPECT_THAT(dry, HasSubstr("1:0  refused: would be malformed again"));
  EXPECT_THAT(dry, HasSubstr("1:1  would be appended: to partition 1, key latecomer"));
  const auto [requeued, report] = Run(*kafka, {"deadletters", "requeue", "--all", "--execute"});
  EXPECT_EQ(requeued, 0);
  EXPECT_THAT(report, HasSubstr("1:1  appended: as 1:3\n")) << "the dry run appended nothing";
  EXPECT_THAT(report, HasSubstr("appended 1 letters"));

  // Of a group of its own: what the other has committed is true of its limits alone.
  LoopProcess wide(*kafka, *redis, topic_, {"kafka.dead_letters_topic=" + letters_, "kafka.group_id=" + topic_ + ".wide"});
  ASSERT_THAT(wide.Start(), IsOk());
  // "not an event" is malformed still; the requeued one is the record at offset 1 again, and that is read well now.
  EXPECT_THAT(wide.WaitUntil(
                  [](const json& status) {
                    const json& account = status["accounting"];
                    return account["read"] == 4 && account["malformed"] == 1 && account["duplicate"] == 1;
                  },
                  kPatienceMs),
              IsOk());

  // Beside the running process, and after it.
  const auto show = [&] { return Run(*kafka, {"sessions", "show", "latecomer", "--state", wide.state(), "--json"}); };
  const auto [shown, sessions] = show();
  EXPECT_EQ(shown, 0) << sessions;
  const json open = LastLine(sessions);
  ASSERT_EQ(open["sessions"].size(), 1U) << open;
  EXPECT_EQ(open["sessions"][0]["partition"], 1);
  EXPECT_EQ(open["sessions"][0]["events"].size(), 2U);
  EXPECT_EQ(open["sessions"][0]["events"][0]["event_id"], "good");
  EXPECT_EQ(open["sessions"][0]["events"][1]["text"], "CLICK of i in request r");
  EXPECT_EQ(open["sessions"][0]["closes_after_ms"], 2'000 + 1'800'000 + 120'000);
  EXPECT_EQ(
      LastLine(Run(*kafka, {"sessions", "show", "nobody", "--state", wide.state(), "--json"}).second)["sessions"]
          .size(),
      0U);
  EXPECT_EQ(wide.Interrupt(), 130);
  EXPECT_EQ(show(), std::pair(0, sessions));
}

TEST_F(OnCallTest, WhatCannotGoBackIsRefusedWithTheReason) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  ASSERT_THAT(kafka->CreateTopic(topic_, 3), IsOk());
  // "CgA=" is two bytes of what were five, "e30=" is {}.
  std::ofstream(dir_ / "letters")
      << R"({"source":")" << topic_
      << R"(","partition":0,"offset":1,"fate":"malformed","reason":"x","size_bytes":5,"bytes":"CgA="})"
         "\n"
      << R"({"source":"a.jsonl","partition":0,"offset":2,"line":3,"fate":"malformed","reason":"y","size_bytes":2,"bytes":"e30="})"
         "\n"
      << R"({"source":")" << topic_
      << R"(","partition":7,"offset":3,"fate":"malformed","reason":"z","size_bytes":2,"bytes":"e30="})"
         "\n";

  const auto [code, report] =
      Run(*kafka, {"deadletters", "requeue", "--all", "--refused-too", "--file", dir_ / "letters"});

  EXPECT_EQ(code, 0);
  EXPECT_THAT(report, HasSubstr("0:1  refused: its bytes were cut to 2 of 5"));
  EXPECT_THAT(report, HasSubstr("0:2  refused: is from a.jsonl, not from the events topic, and says no user"));
  EXPECT_THAT(report, HasSubstr("7:3  refused: the topic has no partition 7 any more"));
}

TEST_F(OnCallTest, ASessionIsExplainedFromTheTopicOfTrajectories) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  ASSERT_THAT(kafka->CreateTopic(topic_, 2), IsOk());
  ASSERT_THAT(kafka->CreateTopic(trajectories_, 2), IsOk());
  ASSERT_THAT(Append(*kafka, topic_, 1, {Click("a", 1'000), Click("b", 2'000), Click("c", 9'000'000)}), IsOk());
  std::vector<std::string> records;
  for (const char* name : {"1-0-0", "1-1-0", "1-2-0", "1-2-1"}) {
    v1::TrajectoryRecord record;
    *record.mutable_trajectory()->mutable_name() = ParseName(name).value();
    record.mutable_trajectory()->set_user_id("latecomer");
    record.mutable_trajectory()->set_first_ms(1'000);
    record.mutable_trajectory()->set_last_ms(2'000);
    record.mutable_trajectory()->set_events(2);
    records.push_back(record.SerializeAsString());
    record.mutable_progress()->set_partition(1);
    records.push_back(record.SerializeAsString());
  }
  ASSERT_THAT(Append(*kafka, trajectories_, 1, records), IsOk());

  const auto [code, page] = Run(*kafka, {"explain", "1-2-0", "--state", dir_ / "none"});

  EXPECT_EQ(code, 0);
  EXPECT_THAT(page, HasSubstr("trajectory    1-2-0, topic " + trajectories_ + ", offset 4\n"));
  EXPECT_THAT(page, HasSubstr("offset 1  b  CLICK of i in request r"));
  EXPECT_THAT(page, testing::Not(HasSubstr("offset 2  c")));
  EXPECT_EQ(Run(*kafka, {"explain", "1-2-7", "--state", dir_ / "none"}).first, 4);
}

TEST_F(OnCallTest, ASessionHasOneNameInTheOutboxAndInTheLog) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  ASSERT_OK_AND_ASSIGN(const auto redis, RedisProcess::Start());
  ASSERT_OK_AND_ASSIGN(const auto events, SimulatedEvents(/*seed=*/11, kEvents));
  ASSERT_THAT(MakeEventsTopic(*kafka, topic_, /*partitions=*/2, events), IsOk());
  LoopProcess run(*kafka, *redis, topic_,
                  {"sessionizer.gap_ms=120000", "learner.warmup_transitions=20", "learner.version_every_steps=2",
                   "learner.checkpoint_every_trajectories=20"});
  ASSERT_THAT(run.Start(), IsOk());
  ASSERT_THAT(run.WaitUntilLearned(kEvents, kPatienceMs), IsOk());
  EXPECT_EQ(run.Interrupt(), 130);
  ASSERT_OK_AND_ASSIGN(const json status, run.StoredStatus());
  ASSERT_GT(status["learner"]["versions"], 0) << status;
  // Of another process, in a group of its own, nothing was durable in the learner when it died.
  LoopProcess killed(*kafka, *redis, topic_,
                     {"sessionizer.gap_ms=120000", "kafka.group_id=" + topic_ + ".killed", "learner.checkpoint_every_trajectories=1000000",
                      "learner.version_every_steps=1000000"});
  ASSERT_THAT(killed.Start(), IsOk());
  ASSERT_THAT(killed.WaitUntilLearned(kEvents, kPatienceMs), IsOk());
  killed.Kill();

  for (const auto& [partition, name] : status["learner"]["learned_through"].items()) {
    const auto [code, output] = Run(*kafka, {"explain", name, "--state", run.state(), "--json"});
    ASSERT_EQ(code, 0) << output;
    const json line = LastLine(output);
    EXPECT_THAT(line["found"].get<std::string>(), HasSubstr("built again from offsets 0 to "));
    EXPECT_EQ(line["end"], "terminated");
    std::set<std::string> ids;
    for (const json& event : line["events"]) ids.insert(event["event_id"].get<std::string>());
    EXPECT_EQ(ids.size(), line["events_accepted"].get<std::size_t>()) << line;
    EXPECT_FALSE(line["steps"].empty());

    const auto [outbox_code, outbox_output] = Run(*kafka, {"explain", name, "--state", killed.state(), "--json"});
    ASSERT_EQ(outbox_code, 0) << outbox_output;
    json of_outbox = LastLine(outbox_output);
    EXPECT_EQ(of_outbox["found"], "outbox of " + killed.state());
    for (const char* key :
         {"user_id", "first_ms", "last_ms", "predecessor", "stream_time_ms", "session_reward", "steps", "events"}) {
      EXPECT_EQ(of_outbox[key], line[key]) << key;
    }
  }
  // What the first version's lineage names last, that version learned.
  ASSERT_OK_AND_ASSIGN(const std::string manifest_bytes,
                       ReadFile(run.state() + "/policy/versions/00000001/manifest.pb"));
  v1::PolicyManifest manifest;
  ASSERT_TRUE(manifest.ParseFromString(manifest_bytes));
  ASSERT_GT(manifest.lineage().names_taken_size(), 0);
  for (const v1::TrajectoryName& taken : manifest.lineage().names_taken()) {
    const auto [code, output] = Run(*kafka, {"explain", NameText(taken), "--state", run.state(), "--json"});
    ASSERT_EQ(code, 0) << output;
    EXPECT_EQ(LastLine(output)["learned_by"], 1) << output;
    EXPECT_EQ(LastLine(output)["learned_under_rewards_sha256"], LastLine(output)["rewards_sha256"]);
  }
}

TEST_F(OnCallTest, ASecondSpecificationLearnsTheSameFromTheSameAndOtherwiseFromOther) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  ASSERT_OK_AND_ASSIGN(const auto events, SimulatedEvents(/*seed=*/12, kEvents));
  ASSERT_THAT(MakeEventsTopic(*kafka, topic_, /*partitions=*/3, events), IsOk());
  const auto compare = [&](const std::string& specification) {
    EXPECT_THAT(WriteFileAtomically(dir_ / "spec.yaml", specification), IsOk());
    const auto [code, output] =
        Run(*kafka,
            {"replay", "--topic", "--json", "--rewards", dir_ / "spec.yaml", "--set", "learner.warmup_transitions=50",
             "--set", "learner.version_every_steps=10", "--set", "learner.actor_delay_steps=0"});
    EXPECT_EQ(code, 0);
    return LastLine(output)["rewards"];
  };

  const json same = compare("rewards:\n  like: 2\n");  // The default.
  ASSERT_GT(same["sessions"], 0);
  EXPECT_EQ(same["sessions_changed"], 0);
  EXPECT_GT(same["in_force"]["version"], 0);
  EXPECT_EQ(same["in_force"], same["proposed"]) << "to the bit";

  const json other = compare("rewards:\n  like: 20\n  watch_second: 0\n");
  EXPECT_EQ(other["in_force"], same["in_force"]);
  EXPECT_EQ(other["sessions"], same["sessions"]);
  EXPECT_GT(other["sessions_changed"], 0);
  EXPECT_EQ(other["proposed"]["mean_session_reward"]["watch"], 0);
  EXPECT_NE(other["proposed"]["weights_sha256"], same["proposed"]["weights_sha256"]);
  EXPECT_NE(other["proposed"]["mean_action"], same["proposed"]["mean_action"]);
}

}  // namespace
}  // namespace fuseline::test
