// Proven: a log that nobody here wrote goes through the whole loop. `fuseline import kuairand` turns it into events, a real
// Kafka topic holds them, `fuseline replay --topic --publish` makes sessions, a policy and its versions of them, and Redis has
// the versions in the end. Every record is accounted for, and exact duplicate rows are found as duplicate events.
// Method: the programs as a user calls them, on a synthetic file of the log's columns, and on the real log where
// FUSELINE_DATA_DIR names its folder.

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/proto/event_codec.h"
#include "fuseline/test_support/matchers.h"
#include "loop_harness.h"

namespace fuseline::test {
namespace {

struct Log {
  std::string log, users, videos;
};

std::vector<v1::Event> ReadEvents(const std::string& path) {
  std::ifstream file(path);
  std::vector<v1::Event> events;
  for (std::string line; std::getline(file, line);) {
    if (!DecodeEvent(line, EventLimits(), &events.emplace_back()).ok()) return {};
  }
  return events;
}

// Import, topic, replay; returns the replay's last line.
nlohmann::json ThroughTheLoop(const Log& log, KafkaProcess& kafka, const RedisProcess& redis, const std::string& topic,
                              const std::vector<std::string>& settings, nlohmann::json* imported) {
  TempDir dir;
  std::string output;
  EXPECT_EQ(RunFuseline({"import", "kuairand", "--log", log.log, "--users", log.users, "--videos", log.videos, "--out",
                         dir / "events.jsonl", "--config-out", dir / "kuairand.yaml", "--json"},
                        &output),
            0);
  *imported = nlohmann::json::parse(output);
  const std::vector<v1::Event> events = ReadEvents(dir / "events.jsonl");
  EXPECT_FALSE(events.empty());
  EXPECT_THAT(MakeEventsTopic(kafka, topic, /*partitions=*/2, events), IsOk());

  std::vector<std::string> replay = {"replay", "--topic", "--publish", "--json", "--config", dir / "kuairand.yaml", "--state", dir / "state"};
  for (const std::string& setting : settings) replay.insert(replay.end(), {"--set", setting});
  for (const std::string& setting :
       {std::string("fuseline.log_level=warn"), "kafka.brokers=" + kafka.bootstrap_servers(), "kafka.events_topic=" + topic, "redis.address=unix:" + redis.socket_path(),
        "kafka.claims_topic=" + topic + ".claims"}) {
    replay.insert(replay.end(), {"--set", setting});
  }
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(RunFuseline(replay, &output), 0);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::cout << "import: " << *imported << "\nreplay: " << output << "replay took " << took.count() << " s\n";
  nlohmann::json result = nlohmann::json::parse(output);
  result["events"] = events.size();
  return result;
}

void ExpectAccountedFor(const nlohmann::json& result) {
  const auto& account = result["accounting"];
  std::uint64_t sum = 0;
  for (const char* fate : {"used", "pending", "duplicate", "late", "orphan", "malformed", "quarantined", "control"}) {
    sum += account[fate].get<std::uint64_t>();
  }
  EXPECT_EQ(account["read"], result["events"]);
  EXPECT_EQ(account["read"], sum) << account;
  EXPECT_EQ(account["pending"], 0) << account;
  EXPECT_EQ(account["malformed"], 0) << account;
}

std::string LivePolicies(RedisProcess& redis, const std::string& policy) {
  return redis.Command({"ZCARD", "fuseline:{" + policy + "}:versions"}).value_or("no answer");
}

TEST(KuaiRandLoopTest, ASyntheticLogOfTheSameColumnsEndsInPublishedVersions) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  ASSERT_OK_AND_ASSIGN(const auto redis, RedisProcess::Start());
  const std::string data = std::string(std::getenv("FUSELINE_SOURCE_DIR")) + "/tests/datasets/data/kuairand_";

  nlohmann::json imported;
  const nlohmann::json result = ThroughTheLoop(
      {data + "log.csv", data + "users.csv", data + "videos.csv"}, *kafka, *redis, "kuairand.synthetic",
      {"learner.warmup_transitions=4", "learner.version_every_steps=50", "learner.steps_per_transition=1", "learner.holdout_share=0"},
      &imported);

  ExpectAccountedFor(result);
  EXPECT_GT(result["accounting"]["duplicate"], 0);
  EXPECT_GT(result["versions"], 0);
  EXPECT_NE(LivePolicies(*redis, "kuairand"), "0");
}

TEST(KuaiRandLoopTest, TheWeekEndsInPublishedVersionsAndItsDuplicatesAreFound) {
  const char* folder = std::getenv("FUSELINE_DATA_DIR");
  if (folder == nullptr) GTEST_SKIP() << "not proven here: FUSELINE_DATA_DIR names no folder with the real log";
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  ASSERT_OK_AND_ASSIGN(const auto redis, RedisProcess::Start());
  const std::string data = std::string(folder) + "/kuairand/";

  nlohmann::json imported;
  const nlohmann::json result =
      ThroughTheLoop({data + "log_w1.csv.gz", data + "user_features_pure.csv.gz", data + "video_features_basic_pure.csv.gz"},
                     *kafka, *redis, "kuairand.week", {"learner.steps_per_transition=0.02", "learner.version_every_steps=200"}, &imported);

  ExpectAccountedFor(result);
  // 94,784 rows, of which 2,750 repeat another one exactly: every event of such a row is a duplicate.
  EXPECT_EQ(imported["rows"], 94'784) << imported;
  EXPECT_EQ(imported["duplicate_rows"], 2'750) << imported;
  EXPECT_EQ(result["accounting"]["duplicate"], imported["duplicate_events"]) << imported;
  EXPECT_GT(result["versions"], 0);
  EXPECT_NE(LivePolicies(*redis, "kuairand"), "0");
}

}  // namespace
}  // namespace fuseline::test
