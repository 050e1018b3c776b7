// Proven: `fuseline run --dry-run` refuses an events topic that would lose what sessions need, and names what another one risks.
// Method: the program as a user calls it, on topics of a real broker.

#include <map>
#include <string>
#include <vector>

#include "fuseline/test_support/matchers.h"
#include "loop_harness.h"

namespace fuseline::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// gap 30 min + lateness 2 min + cut lines 24 h + longest outage 6 h.
constexpr std::int64_t kNeededMs = 109'920'000;

class TopicChecksTest : public testing::Test {
 protected:
  void SetUp() override {
    FUSELINE_KAFKA_OR_SKIP(kafka_, SharedKafka());
    ASSERT_OK_AND_ASSIGN(redis_, RedisProcess::Start());
  }

  // Makes a topic, and returns what a dry run says; `code`: how it ended.
  std::string DryRun(const std::map<std::string, std::string>& topic_config, int* code, const std::vector<std::string>& settings = {}) {
    const std::string topic = "checks." + std::to_string(topics_++) + '.' + testing::UnitTest::GetInstance()->current_test_info()->name();
    EXPECT_THAT(kafka_->CreateTopic(topic, 2, topic_config), IsOk());
    std::vector<std::string> arguments = {"run", "--dry-run"};
    for (const std::string& setting : settings) arguments.insert(arguments.end(), {"--set", setting});
    for (const std::string& setting : {"kafka.brokers=" + kafka_->bootstrap_servers(), "kafka.events_topic=" + topic,
                                       "redis.address=unix:" + redis_->socket_path(), "fuseline.state_dir=" + (dir_ / "state")}) {
      arguments.insert(arguments.end(), {"--set", setting});
    }
    std::string output;
    *code = RunFuseline(arguments, &output);
    return output;
  }

  KafkaProcess* kafka_ = nullptr;
  std::unique_ptr<RedisProcess> redis_;
  TempDir dir_;
  int topics_ = 0;
};

TEST_F(TopicChecksTest, ATopicForProductionRaisesNoDoubt) {
  int code = -1;
  const std::string said = DryRun({{"message.timestamp.type", "LogAppendTime"}}, &code);
  EXPECT_EQ(code, 0) << said;
  EXPECT_THAT(said, HasSubstr("2 partitions, retention.ms 604800000, LogAppendTime, acks=all means min.insync.replicas 1"));
  EXPECT_THAT(said, Not(HasSubstr("but ")));
}

TEST_F(TopicChecksTest, RetentionMustOutlastALongSessionAndTheLongestOutage) {
  int code = -1;
  const std::string short_by_one =
      DryRun({{"message.timestamp.type", "LogAppendTime"}, {"retention.ms", std::to_string(kNeededMs)}}, &code);
  EXPECT_EQ(code, 4);
  EXPECT_THAT(short_by_one, HasSubstr("retention.ms 109920000 must exceed cut_every + gap + lateness + kafka.longest_outage_ms = 109920000 ms"));

  DryRun({{"message.timestamp.type", "LogAppendTime"}, {"retention.ms", std::to_string(kNeededMs + 1)}}, &code);
  EXPECT_EQ(code, 0);
  DryRun({{"message.timestamp.type", "LogAppendTime"}, {"retention.ms", std::to_string(kNeededMs + 1)}}, &code,
         {"kafka.longest_outage_ms=21600001"});
  EXPECT_EQ(code, 4);
}

TEST_F(TopicChecksTest, ACompactedTopicIsRefused) {
  int code = -1;
  const std::string said = DryRun({{"cleanup.policy", "compact"}}, &code);
  EXPECT_EQ(code, 4);
  EXPECT_THAT(said, HasSubstr("cleanup.policy must be delete; it is compact"));
}

TEST_F(TopicChecksTest, ProducersTimesAreTakenWithADoubtAndImportsMustBeKept) {
  int code = -1;
  const std::string imported = DryRun({{"message.timestamp.type", "CreateTime"}, {"retention.ms", "-1"}}, &code);
  EXPECT_EQ(code, 0);
  EXPECT_THAT(imported, AllOf(HasSubstr("but message.timestamp.type is CreateTime: a producer's wrong clock"), Not(HasSubstr("Set it to -1"))));

  const std::string forgetful = DryRun({{"message.timestamp.type", "CreateTime"}}, &code);
  EXPECT_EQ(code, 0);
  EXPECT_THAT(forgetful, HasSubstr("but retention.ms goes by the producers' times: of an import, or of simulated time, the broker deletes"));
}

TEST_F(TopicChecksTest, OtherWaysToLoseEventsAreNamed) {
  int code = -1;
  const std::string by_size = DryRun({{"message.timestamp.type", "LogAppendTime"}, {"retention.bytes", "1000000000"}}, &code);
  EXPECT_EQ(code, 0);
  EXPECT_THAT(by_size, HasSubstr("but retention.bytes 1000000000 may delete"));
  const std::string uncut = DryRun({{"message.timestamp.type", "LogAppendTime"}}, &code, {"sessionizer.cut_every_ms=0"});
  EXPECT_EQ(code, 0);
  EXPECT_THAT(uncut, HasSubstr("but sessionizer.cut_every_ms is 0"));
}

}  // namespace
}  // namespace fuseline::test
