// Proven: `fuseline config apply` puts one version of the session rules into every partition or says which lack it; running it again
// completes it; what is void in the log does not count; a group's word about the rules is believed where the log has forgotten.
// Method: the program as a user calls it, on topics of a real broker.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fuseline/kafka/admin.h"
#include "fuseline/kafka/consumer.h"
#include "fuseline/kafka/producer.h"
#include "fuseline/proto/offset_metadata.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/v1/event.pb.h"
#include "loop_harness.h"

namespace fuseline::test {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr int kPartitions = 3;

class ConfigApplyTest : public testing::Test {
 protected:
  void SetUp() override {
    FUSELINE_KAFKA_OR_SKIP(kafka_, SharedKafka());
    connection_.bootstrap_servers = kafka_->bootstrap_servers();
    topic_ = std::string("apply.") + testing::UnitTest::GetInstance()->current_test_info()->name();
    ASSERT_OK_AND_ASSIGN(admin_, kafka::Admin::Open(connection_, 10'000));
  }

  void MakeTopic(const std::map<std::string, std::string>& configs = {{"retention.ms", "-1"}}) {
    ASSERT_THAT(admin_->CreateTopic(topic_, kPartitions, 1, configs), IsOk());
  }

  int Apply(std::vector<std::string> arguments, std::string* output) {
    arguments.insert(arguments.begin(), {"config", "apply", "--set", "kafka.brokers=" + kafka_->bootstrap_servers(), "--set",
                                         "kafka.events_topic=" + topic_, "--set", "kafka.group_id=" + topic_, "--set",
                                         "kafka.connect_timeout_ms=3000"});
    return RunFuseline(arguments, output);
  }

  // Offset of the record.
  std::int64_t Append(std::int32_t partition, const v1::Event& event, std::int64_t record_time_ms = 0) {
    std::int64_t offset = -1;
    auto producer = kafka::Producer::Open(connection_, {}, [&](const kafka::DeliveryReport& report) { offset = report.offset; });
    EXPECT_THAT(producer, IsOk());
    const std::string bytes = event.SerializeAsString();
    kafka::OutgoingMessage message;
    message.topic = topic_;
    message.partition = partition;
    message.value = bytes;
    message.timestamp_ms = record_time_ms;
    EXPECT_THAT((*producer)->Produce(message), IsOk());
    EXPECT_THAT((*producer)->Flush(20'000), IsOk());
    return offset;
  }

  static v1::Event Rules(std::uint64_t version, std::int64_t gap_ms) {
    v1::Event event;
    event.set_event_id("r");
    v1::SessionRules& rules = *event.mutable_control()->mutable_rules();
    rules.set_version(version);
    rules.set_format(1);
    rules.set_gap_ms(gap_ms);
    rules.set_lateness_ms(120'000);
    rules.set_cut_every_ms(86'400'000);
    rules.set_max_events(2'000);
    return event;
  }

  // "version/gap" of every rules record in the topic, in order, by partition.
  std::map<std::int32_t, std::string> InTheLog() {
    std::map<std::int32_t, std::string> found;
    auto consumer = kafka::Consumer::Open(connection_, {.topic = topic_});
    EXPECT_THAT(consumer, IsOk());
    std::map<std::int32_t, kafka::StartPosition> starts;
    for (std::int32_t partition = 0; partition < kPartitions; ++partition) {
      found[partition];
      starts[partition] = kafka::StartPosition::Earliest();
    }
    EXPECT_THAT((*consumer)->Assign(starts), IsOk());
    for (std::size_t ended = 0, calls = 0; ended < kPartitions && calls < 400; ++calls) {
      auto batch = (*consumer)->Consume(100, 50);
      EXPECT_THAT(batch, IsOk());
      if (!batch) break;
      for (const kafka::Message& message : batch->messages()) {
        v1::Event event;
        EXPECT_TRUE(event.ParseFromArray(message.value.data(), static_cast<int>(message.value.size())));
        if (!event.control().has_rules()) continue;
        const v1::SessionRules& rules = event.control().rules();
        found[message.partition] += std::to_string(rules.version()) + '/' + std::to_string(rules.gap_ms()) + ' ';
      }
      ended += batch->ends().size();
    }
    return found;
  }
  static std::map<std::int32_t, std::string> Everywhere(const std::string& rules) {
    return {{0, rules}, {1, rules}, {2, rules}};
  }

  KafkaProcess* kafka_ = nullptr;
  kafka::Connection connection_;
  std::unique_ptr<kafka::Admin> admin_;
  std::string topic_;
};

TEST_F(ConfigApplyTest, ShowsByDefaultAndAppendsToEveryPartitionWhenTold) {
  MakeTopic();
  std::string output;

  EXPECT_EQ(Apply({"--set", "sessionizer.gap_ms=60000"}, &output), 0);
  EXPECT_THAT(output, HasSubstr("partition 2  none in the log"));
  EXPECT_THAT(output, HasSubstr("to append  version 1: gap_ms 60000, lateness_ms 120000"));
  EXPECT_EQ(InTheLog(), Everywhere(""));

  EXPECT_EQ(Apply({"--set", "sessionizer.gap_ms=60000", "--execute"}, &output), 0);
  EXPECT_THAT(output, HasSubstr("partition 0  version 1 at offset 0"));
  EXPECT_EQ(InTheLog(), Everywhere("1/60000 "));

  EXPECT_EQ(Apply({"--set", "sessionizer.gap_ms=60000", "--execute"}, &output), 0);
  EXPECT_THAT(output, HasSubstr("in force in every partition"));
  EXPECT_EQ(InTheLog(), Everywhere("1/60000 "));

  EXPECT_EQ(Apply({"--set", "sessionizer.gap_ms=70000", "--execute"}, &output), 0);
  EXPECT_THAT(output, HasSubstr("partition 1  version 1: gap_ms 60000"));
  EXPECT_EQ(InTheLog(), Everywhere("1/60000 2/70000 "));
}

TEST_F(ConfigApplyTest, WhatWasCutShortIsCompletedUnderTheSameVersion) {
  MakeTopic();
  std::string output;
  ASSERT_EQ(Apply({"--set", "sessionizer.gap_ms=60000", "--execute"}, &output), 0);
  Append(1, Rules(2, 70'000));  // All that a second call had done when it was killed.

  EXPECT_EQ(Apply({"--set", "sessionizer.gap_ms=70000", "--execute"}, &output), 0);

  EXPECT_THAT(output, Not(HasSubstr("partition 1  version 2 at")));
  EXPECT_EQ(InTheLog(), Everywhere("1/60000 2/70000 "));
}

TEST_F(ConfigApplyTest, AVersionThatSaysTwoThingsIsFollowedByANewOne) {
  MakeTopic();
  for (const std::int32_t partition : {0, 1, 2}) Append(partition, Rules(4, partition == 1 ? 70'000 : 60'000));

  std::string output;
  EXPECT_EQ(Apply({"--set", "sessionizer.gap_ms=60000", "--execute"}, &output), 0);

  EXPECT_EQ(InTheLog(), (std::map<std::int32_t, std::string>{
                            {0, "4/60000 5/60000 "}, {1, "4/70000 5/60000 "}, {2, "4/60000 5/60000 "}}));
}

TEST_F(ConfigApplyTest, WhatIsVoidInTheLogIsNotInForce) {
  MakeTopic();
  for (const std::int32_t partition : {0, 1, 2}) Append(partition, Rules(3, 60'000));
  Append(0, Rules(2, 50'000));  // Not larger than that in force.
  v1::Event early = Rules(9, 50'000);
  early.set_event_time_ms(1'000'000'000);
  Append(1, early, /*record_time_ms=*/1'000);  // Further ahead of its record than max_future_ms.

  std::string output;
  EXPECT_EQ(Apply({"--set", "sessionizer.gap_ms=60000"}, &output), 0);

  EXPECT_THAT(output, HasSubstr("in force in every partition"));
}

TEST_F(ConfigApplyTest, TheGroupRemembersWhatTheLogHasForgotten) {
  MakeTopic();
  ASSERT_OK_AND_ASSIGN(const auto consumer, kafka::Consumer::Open(connection_, {.topic = topic_, .group_id = topic_}));
  for (const std::int32_t partition : {0, 1, 2}) {
    Append(partition, Rules(7, 60'000));
    Append(partition, Rules(7, 10));  // Void.
    ASSERT_THAT(admin_->DeleteRecords(topic_, partition, 2), IsOk());
    v1::OffsetMetadata metadata;
    metadata.set_low_water_offset(1);
    metadata.set_previous_offset(0);
    metadata.set_rules_version(7);
    *metadata.mutable_rules() = Rules(7, 60'000).control().rules();
    metadata.mutable_accounting()->set_read(2);
    metadata.mutable_accounting()->set_control(2);
    ASSERT_THAT(consumer->Commit({{partition, {2, EncodeOffsetMetadata(metadata)}}}), IsOk());
  }

  std::string output;
  EXPECT_EQ(Apply({"--set", "sessionizer.gap_ms=70000", "--execute"}, &output), 0);

  EXPECT_THAT(output, HasSubstr("partition 2  version 7: gap_ms 60000"));
  EXPECT_EQ(InTheLog(), Everywhere("8/70000 "));
}

TEST_F(ConfigApplyTest, AGivenVersionGoesToEveryPartitionUnread) {
  MakeTopic();
  Append(1, Rules(5, 60'000));

  std::string output;
  EXPECT_EQ(Apply({"--set", "sessionizer.gap_ms=60000", "--version", "5", "--execute"}, &output), 0);

  EXPECT_EQ(InTheLog(), (std::map<std::int32_t, std::string>{{0, "5/60000 "}, {1, "5/60000 5/60000 "}, {2, "5/60000 "}}));
}

TEST_F(ConfigApplyTest, APartitionThatRefusesTheRecordIsNamed) {
  MakeTopic({{"max.message.bytes", "20"}});

  std::string output;
  EXPECT_EQ(Apply({"--execute"}, &output), 4);

  for (const char* partition : {"0", "1", "2"}) {
    EXPECT_THAT(output, HasSubstr(std::string("partition ") + partition + "  NOT APPENDED: delivery failed:"));
  }
  EXPECT_EQ(InTheLog(), Everywhere(""));
}

TEST_F(ConfigApplyTest, BrokersThatDoNotAnswerAreWaitedForSoLongAndNoLonger) {
  MakeTopic();
  kafka_->Pause();
  std::string output;
  const int code = Apply({"--execute"}, &output);
  kafka_->Resume();
  EXPECT_EQ(code, 3) << output;
  EXPECT_EQ(InTheLog(), Everywhere(""));
}

TEST_F(ConfigApplyTest, WrongSettingsAndAMissingTopicAreRefused) {
  std::string output;
  EXPECT_EQ(Apply({"--set", "sessionizer.lateness_ms=59999"}, &output), 2) << "one fast clock would make everybody late";
  EXPECT_EQ(Apply({"--dry-run", "--execute"}, &output), 2);
  EXPECT_EQ(Apply({"--version", "0"}, &output), 2);
  EXPECT_EQ(Apply({}, &output), 4) << "no such topic";
}

}  // namespace
}  // namespace fuseline::test
