// `fuseline train-scorer` on a log of events, with the real program: a file, and the same events in a topic, make the same scorer; it is
// judged beside constant rates on what came later, by outcomes of the past alone; what cannot be is refused with exit 2.

#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fuseline/core/file.h"
#include "fuseline/proto/event_codec.h"
#include "fuseline/test_support/matchers.h"
#include "trajectories_harness.h"

namespace fuseline::test {
namespace {

using nlohmann::json;
using testing::HasSubstr;

constexpr std::uint64_t kEvents = 50'000;

struct Answer {
  int code = 0;
  std::string output;
};

// Small, on sessions that close within the minutes that the events last.
Answer Train(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "train-scorer");
  for (const char* setting : {"sessionizer.gap_ms=120000", "sessionizer.lateness_ms=60000", "scorer.tasks=click,valid", "scorer.epochs=8",
                              "scorer.batch=64", "scorer.embedding_width=4", "scorer.bottom=8", "scorer.tower=5", "scorer.experts=2",
                              "scorer.rate=0.003", "scorer.user_buckets=512", "scorer.item_buckets=512"})
    arguments.insert(arguments.end(), {"--set", setting});
  Answer answer;
  testing::internal::CaptureStderr();
  answer.code = RunFuseline(arguments, &answer.output);
  answer.output += testing::internal::GetCapturedStderr();
  return answer;
}

json ResultsIn(const std::string& folder) { return json::parse(ReadFile(folder + "/results.json").value_or("null")); }

TEST(TrainScorerLogTest, AFileAndATopicOfTheSameEventsMakeTheSameScorer) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  const TempDir dir;
  ASSERT_OK_AND_ASSIGN(const auto events, SimulatedEvents(/*seed=*/23, kEvents));
  {
    std::ofstream file(dir / "log.jsonl");
    for (const v1::Event& event : events) file << EncodeEventJson(event) << '\n';
  }
  ASSERT_THAT(MakeEventsTopic(*kafka, "batch.events", /*partitions=*/1, events), IsOk());

  const Answer of_file = Train({"--events", dir / "log.jsonl", "--out", dir / "file", "--weights", "none,linear"});
  const std::vector<std::string> topic{"--topic", "--set", "kafka.brokers=" + kafka->bootstrap_servers(), "--set", "kafka.events_topic=batch.events"};
  auto whole = topic, half = topic;
  whole.insert(whole.end(), {"--out", dir / "topic", "--weights", "none"});
  const Answer of_topic = Train(whole);
  half.insert(half.end(), {"--out", dir / "half", "--dry-run", "--to", std::to_string(events[kEvents / 2].event_time_ms())});
  const Answer of_half = Train(half);

  ASSERT_EQ(of_file.code, 0) << of_file.output;
  ASSERT_EQ(of_topic.code, 0) << of_topic.output;
  EXPECT_EQ(of_half.code, 0) << of_half.output;
  EXPECT_THAT(of_file.output, HasSubstr("AUC beside constant rates"));
  EXPECT_THAT(of_file.output, HasSubstr("whose outcome came too late"));
  const json file = ResultsIn(dir / "file"), same = ResultsIn(dir / "topic");
  ASSERT_EQ(file.at("runs").size(), 2U);
  EXPECT_EQ(same.at("runs")[0].at("weights_sha256"), file.at("runs")[0].at("weights_sha256"));
  EXPECT_EQ(same.at("constant_rates"), file.at("constant_rates"));
  EXPECT_GT(file.at("runs")[0].at("progressive").at("click").at("auc").get<double>(), 0.55);
  EXPECT_LT(file.at("runs")[0].at("progressive").at("click").at("log_loss").get<double>(),
            file.at("constant_rates").at("progressive").at("click").at("log loss").get<double>());
  EXPECT_NE(of_half.output.substr(0, 80), of_file.output.substr(0, 80)) << "half of the impressions are left";
}

TEST(TrainScorerLogTest, ALogOfMoreImpressionsThanMemoryIsGivenForIsAnError) {
  const TempDir dir;
  ASSERT_OK_AND_ASSIGN(const auto events, SimulatedEvents(/*seed=*/23, /*events=*/10'000));
  {
    std::ofstream file(dir / "log.jsonl");
    for (const v1::Event& event : events) file << EncodeEventJson(event) << '\n';
  }
  const std::vector<std::string> arguments{"--events", dir / "log.jsonl", "--out", dir / "s", "--dry-run", "--impressions-max"};
  auto few = arguments, enough = arguments;
  few.push_back("1000");
  enough.push_back("20000");

  const Answer refused = Train(few), read = Train(enough);

  EXPECT_EQ(refused.code, 4);
  EXPECT_THAT(refused.output, HasSubstr("--impressions-max, which are all held in memory: 1000"));
  EXPECT_EQ(read.code, 0) << read.output;
}

TEST(TrainScorerLogTest, WhatCannotBeIsRefusedBeforeAnythingIsRead) {
  const TempDir dir;
  EXPECT_EQ(Train({"--out", dir / "s"}).code, 2);
  EXPECT_EQ(Train({"--events", dir / "nothing.jsonl", "--out", dir / "s"}).code, 2);
  EXPECT_EQ(Train({"--events", dir / "nothing.jsonl", "--topic", "--out", dir / "s"}).code, 2);
  EXPECT_EQ(Train({"--topic", "--from", "yesterday", "--out", dir / "s"}).code, 2);
  const Answer unknown = Train({"--topic", "--out", dir / "s", "--set", "scorer.outcomes=click=clack"});
  EXPECT_EQ(unknown.code, 2);
  EXPECT_THAT(unknown.output, HasSubstr("long_view"));
}

}  // namespace
}  // namespace fuseline::test
