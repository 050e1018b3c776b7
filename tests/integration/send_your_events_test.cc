// The examples of docs/send_your_events.md work as printed: each is cut out of the page, run
// against a real broker, and what arrives is decoded as ingest decodes it. All of a user's events
// land in the one partition that Java's client chooses.

#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <librdkafka/rdkafka.h>

#include "fuseline/core/child_process.h"
#include "fuseline/proto/event_codec.h"
#include "fuseline/test_support/kafka_process.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/server.h"
#include "fuseline/test_support/temp_dir.h"

namespace fuseline {
namespace {

using test::KafkaProcess;
using test::TempDir;

constexpr int kPartitions = 7;
constexpr int kPartitionOfU42 =
    5;  // (murmur2("u42") & 0x7fffffff) % 7, as sent by the page's Java example.

// The first code block of `language` on the page; empty if there is none.
std::string CodeBlock(const std::string& language) {
  std::ifstream page(std::string(std::getenv("FUSELINE_SOURCE_DIR")) + "/docs/send_your_events.md");
  std::stringstream text;
  text << page.rdbuf();
  const std::string all = text.str();
  const std::string start = "```" + language + "\n";
  const auto from = all.find(start);
  if (from == std::string::npos) return "";
  const auto begin = from + start.size();
  return all.substr(begin, all.find("```\n", begin) - begin);
}

struct Received {
  int partition = -1;
  std::string key;
  v1::Event event;
};

// Reads `count` records of `topic` from its beginning.
Result<std::vector<Received>> Receive(const KafkaProcess& kafka, const std::string& topic,
                                      std::size_t count) {
  rd_kafka_conf_t* conf = rd_kafka_conf_new();
  char problem[256];
  rd_kafka_conf_set(conf, "bootstrap.servers", kafka.bootstrap_servers().c_str(), problem,
                    sizeof problem);
  rd_kafka_conf_set(conf, "group.id", "unused", problem, sizeof problem);
  const std::unique_ptr<rd_kafka_t, decltype(&rd_kafka_destroy)> consumer(
      rd_kafka_new(RD_KAFKA_CONSUMER, conf, problem, sizeof problem), rd_kafka_destroy);
  rd_kafka_topic_partition_list_t* assignment = rd_kafka_topic_partition_list_new(kPartitions);
  for (int p = 0; p < kPartitions; ++p)
    rd_kafka_topic_partition_list_add(assignment, topic.c_str(), p)->offset = 0;
  rd_kafka_assign(consumer.get(), assignment);
  rd_kafka_topic_partition_list_destroy(assignment);

  std::vector<Received> received;
  for (int tries = 0; tries < 20 && received.size() < count; ++tries) {
    const std::unique_ptr<rd_kafka_message_t, decltype(&rd_kafka_message_destroy)> message(
        rd_kafka_consumer_poll(consumer.get(), 1'000), rd_kafka_message_destroy);
    if (message == nullptr || message->err != RD_KAFKA_RESP_ERR_NO_ERROR) continue;
    auto& next = received.emplace_back();
    next.partition = message->partition;
    next.key.assign(static_cast<const char*>(message->key), message->key_len);
    FUSELINE_FAIL_IF_ERROR(DecodeEvent({static_cast<const char*>(message->payload), message->len},
                                       EventLimits(), &next.event));
  }
  return received;
}

class SendYourEventsTest : public ::testing::Test {
 protected:
  // Runs `script` in an empty folder until it ends well.
  void Run(const std::string& script) {
    std::ofstream(dir_ / "example.sh") << "set -eu\ncd '" << dir_.path() << "'\n" << script;
    ASSERT_OK_AND_ASSIGN(auto shell,
                         ChildProcess::Start({"bash", dir_ / "example.sh"}, dir_ / "log"));
    ASSERT_EQ(shell.Wait(), 0) << test::TailOfFile(dir_ / "log", 20);
  }

  // An exposure, then a feedback, both of u42 and of request r1.
  void ExpectBothEvents(const KafkaProcess& kafka, const std::string& topic) {
    ASSERT_OK_AND_ASSIGN(const auto received, Receive(kafka, topic, 2));
    ASSERT_EQ(received.size(), 2U);
    for (const auto& one : received) {
      EXPECT_EQ(one.key, "u42");
      EXPECT_EQ(one.event.user_id(), "u42");
      EXPECT_EQ(one.partition, kPartitionOfU42);
    }
    ASSERT_EQ(received[0].event.exposure().items_size(), 1) << "not in the order in which they were sent";
    EXPECT_EQ(received[0].event.exposure().items(0).item_id(), "i7");
    EXPECT_EQ(received[0].event.exposure().items(0).task_scores_size(), 5);
    EXPECT_EQ(received[1].event.feedback().kind(), v1::Feedback::WATCH);
    EXPECT_EQ(received[1].event.feedback().request_id(), received[0].event.exposure().request_id());
  }

  // The page writes to `events`; tests that share a broker keep apart by topic names.
  static std::string Renamed(std::string example, const std::string& from, const std::string& to) {
    const auto at = example.find(from);
    return at == std::string::npos ? "" : example.replace(at, from.size(), to);
  }

  TempDir dir_;
};

TEST_F(SendYourEventsTest, TheShellExampleArrivesAndDecodes) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess* const kafka, test::SharedKafka());
  ASSERT_THAT(kafka->CreateTopic("from-shell", kPartitions), IsOk());
  const std::string example = Renamed(CodeBlock("sh"), "-t events", "-t from-shell");
  ASSERT_NE(example, "");

  Run("BROKERS=" + kafka->bootstrap_servers() + "\n" + example);

  ExpectBothEvents(*kafka, "from-shell");
}

TEST_F(SendYourEventsTest, ThePythonExampleArrivesAndDecodes) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess* const kafka, test::SharedKafka());
  ASSERT_THAT(kafka->CreateTopic("from-python", kPartitions), IsOk());
  const std::string example = Renamed(CodeBlock("python"), "\"events\"", "\"from-python\"");
  ASSERT_NE(example, "");
  std::ofstream(dir_ / "send.py") << example;

  // The system's interpreter, for which deploy/setup.sh installs the client.
  Run("protoc --proto_path=\"$FUSELINE_SOURCE_DIR/proto\" --python_out=. "
      "fuseline/v1/event.proto\n/usr/bin/python3 send.py " +
      kafka->bootstrap_servers());

  ExpectBothEvents(*kafka, "from-python");
}

}  // namespace
}  // namespace fuseline
