// The Kafka edge and the Kafka source against a real broker: what the mock cluster cannot show (offsets by time, retention,
// topics that do not exist, two members of a group).
#include <algorithm>
#include <chrono>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "fuseline/ingest/kafka_source.h"
#include "fuseline/kafka/admin.h"
#include "fuseline/kafka/producer.h"
#include "fuseline/test_support/kafka_process.h"
#include "fuseline/test_support/matchers.h"

namespace fuseline {
namespace {

using kafka::StartPosition;
using ::testing::ElementsAre;

constexpr int kPatience = 400;  // Nexts of 50 ms.

class KafkaIngestTest : public ::testing::Test {
 protected:
  void SetUp() override {
    FUSELINE_KAFKA_OR_SKIP(test::KafkaProcess* broker, test::SharedKafka());
    connection_.bootstrap_servers = broker->bootstrap_servers();
    ASSERT_OK_AND_ASSIGN(admin_, kafka::Admin::Open(connection_, 10'000));
    topic_ = ::testing::UnitTest::GetInstance()->current_test_info()->name();
  }

  // Record i of a partition has the timestamp first_ms + i.
  void Append(std::int32_t partition, int count, std::int64_t first_ms = 1'000) {
    ASSERT_OK_AND_ASSIGN(const auto producer, kafka::Producer::Open(connection_, {}, nullptr));
    for (int i = 0; i < count; ++i) {
      v1::Event event;
      event.set_event_id("e" + std::to_string(i));
      event.set_user_id("u");
      event.set_event_time_ms(first_ms + i);
      event.mutable_feedback()->set_request_id("r");
      event.mutable_feedback()->set_item_id("i");
      event.mutable_feedback()->set_kind(v1::Feedback::CLICK);
      const std::string bytes = event.SerializeAsString();
      kafka::OutgoingMessage message;
      message.topic = topic_;
      message.partition = partition;
      message.value = bytes;
      message.timestamp_ms = first_ms + i;
      ASSERT_THAT(producer->Produce(message), IsOk());
    }
    ASSERT_THAT(producer->Flush(20'000), IsOk());
  }

  KafkaSourceOptions Options() {
    KafkaSourceOptions options;
    options.connection = connection_;
    options.consumer.topic = topic_;
    options.consumer.group_id = topic_ + "-group";
    options.consumer.session_timeout_ms = 2'000;
    return options;
  }

  // Offsets of a finite source, by partition.
  static std::map<std::int32_t, std::vector<std::int64_t>> ReadAll(KafkaSource& source) {
    std::map<std::int32_t, std::vector<std::int64_t>> offsets;
    for (int i = 0; i < kPatience && !source.finished(); ++i) {
      const auto batch = source.Next(50);
      EXPECT_THAT(batch, IsOk());
      if (!batch || !*batch) continue;
      for (const Record& record : (*batch)->records) offsets[(*batch)->partition].push_back(record.offset);
    }
    EXPECT_TRUE(source.finished());
    return offsets;
  }

  kafka::Connection connection_;
  std::unique_ptr<kafka::Admin> admin_;
  std::string topic_;
};

TEST_F(KafkaIngestTest, ARangeByTimeBeginsAtTheFirstRecordNotOlder) {
  ASSERT_THAT(admin_->CreateTopic(topic_, 2, 1, {{"retention.ms", "-1"}}), IsOk());
  Append(0, 100, /*first_ms=*/1'000);
  Append(1, 100, /*first_ms=*/2'000);
  KafkaSourceOptions options = Options();
  options.until_end = true;
  options.start = [](kafka::Consumer&, std::int32_t) -> Result<StartPosition> { return StartPosition::Timestamp(1'095); };
  ASSERT_OK_AND_ASSIGN(const auto source, KafkaSource::Open(std::move(options), nullptr));
  const auto offsets = ReadAll(*source);
  EXPECT_THAT(offsets.at(0), ElementsAre(95, 96, 97, 98, 99));
  EXPECT_EQ(offsets.at(1).size(), 100u);
}

TEST_F(KafkaIngestTest, ATimeBehindTheLogIsItsEnd) {
  ASSERT_THAT(admin_->CreateTopic(topic_, 1, 1, {{"retention.ms", "-1"}}), IsOk());
  Append(0, 10);
  KafkaSourceOptions options = Options();
  options.until_end = true;
  options.start = [](kafka::Consumer&, std::int32_t) -> Result<StartPosition> { return StartPosition::Timestamp(9'000'000); };
  ASSERT_OK_AND_ASSIGN(const auto source, KafkaSource::Open(std::move(options), nullptr));
  EXPECT_TRUE(ReadAll(*source).empty());
}

TEST_F(KafkaIngestTest, APositionThatRetentionPassedIsCorruptAndNamed) {
  ASSERT_THAT(admin_->CreateTopic(topic_, 1, 1, {{"retention.ms", "-1"}}), IsOk());
  Append(0, 50);
  ASSERT_THAT(admin_->DeleteRecords(topic_, 0, 30), IsOk());
  KafkaSourceOptions options = Options();
  kafka::Watermarks marks;
  options.start = [&marks](kafka::Consumer& consumer, std::int32_t partition) -> Result<StartPosition> {
    FUSELINE_ASSIGN_OR_FAIL(marks, consumer.QueryWatermarks(partition));
    return StartPosition::Offset(10);
  };
  ASSERT_OK_AND_ASSIGN(const auto source, KafkaSource::Open(std::move(options), nullptr));
  EXPECT_EQ(marks.low, 30);
  EXPECT_EQ(marks.high, 50);
  Status status;
  for (int i = 0; i < kPatience && status.ok(); ++i) {
    if (const auto batch = source->Next(50); !batch) status = batch.error();
  }
  EXPECT_THAT(status, HasCode(Code::kCorrupt));
  EXPECT_THAT(status, MessageNames("partition 0"));

  KafkaSourceOptions again = Options();
  again.until_end = true;
  ASSERT_OK_AND_ASSIGN(const auto earliest, KafkaSource::Open(std::move(again), nullptr));
  EXPECT_EQ(ReadAll(*earliest).at(0).size(), 20u);
}

TEST_F(KafkaIngestTest, ATopicIsMadeOnPurposeAndDescribedAsItIs) {
  EXPECT_THAT(KafkaSource::Open(Options(), nullptr), HasCode(Code::kNotFound));
  EXPECT_THAT(admin_->PartitionCount(topic_), HasCode(Code::kNotFound));
  ASSERT_THAT(admin_->CreateTopic(topic_, 5, 1, {{"message.timestamp.type", "LogAppendTime"}}), IsOk());
  EXPECT_THAT(admin_->CreateTopic(topic_, 5), HasCode(Code::kConflict));
  ASSERT_OK_AND_ASSIGN(const auto partitions, admin_->PartitionCount(topic_));
  EXPECT_EQ(partitions, 5);
  ASSERT_OK_AND_ASSIGN(const auto configs, admin_->TopicConfigs(topic_));
  EXPECT_EQ(configs.at("message.timestamp.type"), "LogAppendTime");
  EXPECT_EQ(configs.at("cleanup.policy"), "delete");
  ASSERT_THAT(admin_->DeleteTopic(topic_), IsOk());
  EXPECT_THAT(admin_->DeleteTopic(topic_), HasCode(Code::kNotFound));
}

// Each record is read once by somebody: the member that gives a partition up commits it, the one that gets it begins there.
TEST_F(KafkaIngestTest, TwoMembersShareThePartitionsAndNoRecordIsReadTwice) {
  constexpr std::int32_t kPartitions = 4;
  constexpr std::int64_t kCount = 50;
  ASSERT_THAT(admin_->CreateTopic(topic_, kPartitions, 1, {{"retention.ms", "-1"}}), IsOk());
  for (std::int32_t partition = 0; partition < kPartitions; ++partition) Append(partition, kCount);

  struct Member {
    std::unique_ptr<KafkaSource> source;
    std::map<std::int32_t, std::int64_t> next;
    std::set<std::int32_t> given_up;
  };
  std::map<std::pair<std::int32_t, std::int64_t>, int> seen;
  const auto open = [&](Member& member) {
    KafkaSourceOptions options = Options();
    options.group = true;
    options.start = [](kafka::Consumer& consumer, std::int32_t partition) -> Result<StartPosition> {
      const std::int32_t one[] = {partition};
      FUSELINE_ASSIGN_OR_FAIL(const auto committed, consumer.Committed(one));
      if (committed.empty()) return StartPosition::Earliest();
      return StartPosition::Offset(committed.at(partition).offset);
    };
    options.revoked = [&member](std::span<const std::int32_t> partitions, bool) {
      for (const std::int32_t partition : partitions) {
        member.given_up.insert(partition);
        if (!member.next.contains(partition)) continue;
        // A broker that is about to hand out the new assignment takes no commits for that while, and says so.
        Status committed = member.source->Commit({{partition, {member.next[partition], ""}}});
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
        while (!committed.ok() && std::chrono::steady_clock::now() < deadline) {
          std::this_thread::sleep_for(std::chrono::milliseconds(20));
          committed = member.source->Commit({{partition, {member.next[partition], ""}}});
        }
        EXPECT_THAT(committed, IsOk());
      }
    };
    ASSERT_OK_AND_ASSIGN(member.source, KafkaSource::Open(std::move(options), nullptr));
  };
  const auto step = [&](Member& member) {
    const auto batch = member.source->Next(20);
    ASSERT_THAT(batch, IsOk());
    if (!*batch) return;
    for (const Record& record : (*batch)->records) ++seen[{(*batch)->partition, record.offset}];
    member.next[(*batch)->partition] = (*batch)->next_offset;
  };

  Member first;
  open(first);
  for (int i = 0; i < kPatience && std::ssize(seen) < kPartitions * kCount; ++i) step(first);
  ASSERT_EQ(first.source->partitions().size(), 4u);

  Member second;
  open(second);
  for (int i = 0; i < kPatience && second.source->partitions().size() < 2; ++i) {
    step(first);
    step(second);
  }
  EXPECT_EQ(first.source->partitions().size(), 2u);
  EXPECT_EQ(second.source->partitions().size(), 2u);
  EXPECT_EQ(first.given_up.size(), 2u);  // Cooperative: what stays is never taken away.

  for (std::int32_t partition = 0; partition < kPartitions; ++partition) Append(partition, kCount);
  for (int i = 0; i < kPatience && std::ssize(seen) < 2 * kPartitions * kCount; ++i) {
    step(first);
    step(second);
  }
  EXPECT_EQ(std::ssize(seen), 2 * kPartitions * kCount);
  for (const auto& [place, times] : seen) EXPECT_EQ(times, 1) << place.first << ' ' << place.second;
  EXPECT_THAT(second.source->Close(10'000), IsOk());
  EXPECT_THAT(first.source->Close(10'000), IsOk());
}

}  // namespace
}  // namespace fuseline
