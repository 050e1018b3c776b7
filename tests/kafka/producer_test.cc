// The producer against librdkafka's mock cluster: reports, a bounded queue, and brokers that fail.
#include "fuseline/kafka/producer.h"

#include <map>
#include <string>

#include "mock_topic.h"

namespace fuseline::kafka {
namespace {

class ProducerTest : public MockTopic {
 protected:
  std::unique_ptr<Producer> OpenProducer(const ProducerOptions& options = {}) {
    auto producer = Producer::Open(cluster_->connection(), options, [this](const DeliveryReport& report) {
      reports_.push_back(report);
    });
    EXPECT_THAT(producer, IsOk());
    return std::move(*producer);
  }

  OutgoingMessage Message(std::string_view value, std::uint64_t id = 0) const {
    OutgoingMessage message;
    message.topic = topic_;
    message.value = value;
    message.id = id;
    return message;
  }

  std::vector<DeliveryReport> reports_;
};

TEST_F(ProducerTest, EachMessageIsReportedWithItsIdAndPlace) {
  const auto producer = OpenProducer();
  for (std::uint64_t id = 100; id < 103; ++id) ASSERT_THAT(producer->Produce(Message("v", id)), IsOk());
  ASSERT_THAT(producer->Flush(10'000), IsOk());

  ASSERT_EQ(reports_.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(reports_[i].id, 100 + i);
    EXPECT_EQ(reports_[i].partition, 0);
    EXPECT_EQ(reports_[i].offset, static_cast<std::int64_t>(i));
    EXPECT_THAT(reports_[i].status, IsOk());
  }
  EXPECT_EQ(producer->undelivered(), 0u);
}

TEST_F(ProducerTest, AFullQueueRefusesAtOnceAndKeepsWhatItTook) {
  ASSERT_THAT(cluster_->SetBrokerDown(1), IsOk());
  ProducerOptions options;
  options.queue_messages = 10;
  const auto producer = OpenProducer(options);
  for (std::uint64_t id = 0; id < 10; ++id) ASSERT_THAT(producer->Produce(Message("v", id)), IsOk());
  EXPECT_THAT(producer->Produce(Message("v", 10)), HasCode(Code::kUnavailable));
  EXPECT_THAT(producer->ProduceOrWait(Message("v", 10), 50), HasCode(Code::kUnavailable));
  EXPECT_THAT(producer->Flush(50), HasCode(Code::kUnavailable));
  EXPECT_EQ(producer->undelivered(), 10u);

  ASSERT_THAT(cluster_->SetBrokerUp(1), IsOk());
  ASSERT_THAT(producer->ProduceOrWait(Message("v", 10), 20'000), IsOk());
  ASSERT_THAT(producer->Flush(20'000), IsOk());
  ASSERT_EQ(reports_.size(), 11u);
  for (std::size_t i = 0; i < 11; ++i) EXPECT_EQ(reports_[i].id, i);
}

TEST_F(ProducerTest, RequestsThatFailAreRetriedWithoutDuplicatesOrDisorder) {
  const int failures[] = {7, 6, 7, 19};  // Timed out, not the leader, timed out, not enough replicas.
  cluster_->FailNext(MockCluster::Request::kProduce, failures);
  const auto producer = OpenProducer();
  for (std::uint64_t id = 0; id < 200; ++id) ASSERT_THAT(producer->Produce(Message(std::to_string(id), id)), IsOk());
  ASSERT_THAT(producer->Flush(20'000), IsOk());

  const auto consumer = OpenConsumer();
  ASSERT_THAT(consumer->Assign({{0, StartPosition::Earliest()}}), IsOk());
  EXPECT_EQ(Offsets(*consumer, 200).size(), 200u);
  ASSERT_OK_AND_ASSIGN(const auto marks, consumer->QueryWatermarks(0));
  EXPECT_EQ(marks.high, 200);
}

// Without the promise the messages behind the one that failed would be delivered, and a reader would see a hole.
TEST_F(ProducerTest, WithoutHolesWhatFailsForGoodEndsTheRow) {
  const int failures[] = {10};  // Message too large.
  ProducerOptions options;
  options.without_holes = true;
  options.linger_ms = 0;
  {
    const auto producer = OpenProducer(options);
    ASSERT_THAT(producer->Produce(Message("a", 0)), IsOk());
    ASSERT_THAT(producer->Flush(10'000), IsOk());
    cluster_->FailNext(MockCluster::Request::kProduce, failures);
    for (std::uint64_t id = 1; id < 10; ++id) {
      if (!producer->Produce(Message("b", id)).ok()) break;
      producer->Poll(5);
    }
    (void)producer->Flush(10'000);
    EXPECT_FALSE(producer->Produce(Message("c", 10)).ok());
  }
  ASSERT_GE(reports_.size(), 2u);
  EXPECT_THAT(reports_[0].status, IsOk());
  for (std::size_t i = 1; i < reports_.size(); ++i) EXPECT_FALSE(reports_[i].status.ok()) << reports_[i].id;

  const auto again = OpenProducer(options);
  ASSERT_THAT(again->Produce(Message("b", 1)), IsOk());
  ASSERT_THAT(again->Flush(10'000), IsOk());
  const auto consumer = OpenConsumer();
  ASSERT_OK_AND_ASSIGN(const auto marks, consumer->QueryWatermarks(0));
  EXPECT_EQ(marks.high, 2);
}

TEST_F(ProducerTest, AMessageThatIsTooLargeIsInvalid) {
  ProducerOptions options;
  options.message_bytes = 2'000;
  const auto producer = OpenProducer(options);
  EXPECT_THAT(producer->Produce(Message(std::string(3'000, 'x'))), HasCode(Code::kInvalidInput));
  EXPECT_THAT(producer->Produce(Message(std::string(1'000, 'x'))), IsOk());
  EXPECT_THAT(producer->Flush(10'000), IsOk());
}

// Hash values that Java's client is tested with, and its rule: the hash without its sign, modulo the partitions.
TEST_F(ProducerTest, AKeyGoesToThePartitionThatJavasClientChooses) {
  constexpr std::int32_t kPartitions = 11;
  StartCluster(kPartitions);
  const std::map<std::string, std::int32_t> hashes = {
      {"21", -973932308},
      {"foobar", -790332482},
      {"a-little-bit-long-string", -985981536},
      {"a-little-bit-longer-string", -1486304829},
      {"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971},
      {"abc", 479470107}};
  const auto producer = OpenProducer();
  std::map<std::uint64_t, std::int32_t> expected;
  for (const auto& [key, hash] : hashes) {
    const std::uint64_t id = expected.size();
    expected[id] = (hash & 0x7FFFFFFF) % kPartitions;
    OutgoingMessage message = Message("v", id);
    message.key = key;
    ASSERT_THAT(producer->Produce(message), IsOk());
  }
  ASSERT_THAT(producer->Flush(10'000), IsOk());

  ASSERT_EQ(reports_.size(), hashes.size());
  for (const DeliveryReport& report : reports_) EXPECT_EQ(report.partition, expected.at(report.id)) << report.id;
}

}  // namespace
}  // namespace fuseline::kafka
