// The consumer against librdkafka's mock cluster: positions, pauses, commits, groups and broken brokers.
#include "fuseline/kafka/consumer.h"

#include <algorithm>
#include <numeric>

#include "fuseline/core/random.h"
#include "fuseline/kafka/admin.h"
#include "mock_topic.h"

namespace fuseline::kafka {
namespace {

using ::testing::ElementsAre;

class ConsumerTest : public MockTopic {};

std::vector<std::int64_t> Iota(std::int64_t from, std::int64_t to) {
  std::vector<std::int64_t> offsets(static_cast<std::size_t>(to - from));
  std::iota(offsets.begin(), offsets.end(), from);
  return offsets;
}

TEST_F(ConsumerTest, StartsWhereItIsTold) {
  Append(0, 10);

  const auto earliest = OpenConsumer();
  ASSERT_THAT(earliest->Assign({{0, StartPosition::Earliest()}}), IsOk());
  EXPECT_EQ(Offsets(*earliest, 10), Iota(0, 10));

  const auto middle = OpenConsumer();
  ASSERT_THAT(middle->Assign({{0, StartPosition::Offset(7)}}), IsOk());
  EXPECT_EQ(Offsets(*middle, 3), Iota(7, 10));

  const auto latest = OpenConsumer();
  ASSERT_THAT(latest->Assign({{0, StartPosition::Latest()}}), IsOk());
  bool at_end = false;
  for (int i = 0; i < kPatience && !at_end; ++i) {
    ASSERT_OK_AND_ASSIGN(const auto batch, latest->Consume(10, 50));
    EXPECT_TRUE(batch.messages().empty());
    at_end = batch.ends().contains(0);
  }
  ASSERT_TRUE(at_end);
  Append(0, 2);
  EXPECT_EQ(Offsets(*latest, 2), Iota(10, 12));
}

TEST_F(ConsumerTest, AMessageCarriesItsKeyValueAndTime) {
  ASSERT_OK_AND_ASSIGN(const auto producer, Producer::Open(cluster_->connection(), {}, nullptr));
  OutgoingMessage message;
  message.topic = topic_;
  message.key = "u42";
  message.value = std::string_view("a\0b", 3);
  message.timestamp_ms = 1'650'812'741'436;
  ASSERT_THAT(producer->Produce(message), IsOk());
  OutgoingMessage tombstone;
  tombstone.topic = topic_;
  tombstone.key = "u42";
  ASSERT_THAT(producer->Produce(tombstone), IsOk());
  ASSERT_THAT(producer->Flush(10'000), IsOk());

  const auto consumer = OpenConsumer();
  ASSERT_THAT(consumer->Assign({{0, StartPosition::Earliest()}}), IsOk());
  std::vector<std::string> values;
  for (int i = 0; i < kPatience && values.size() < 2; ++i) {
    ASSERT_OK_AND_ASSIGN(const auto batch, consumer->Consume(10, 50));
    for (const Message& got : batch.messages()) {
      EXPECT_EQ(got.key, "u42");
      if (got.offset == 0) {
        EXPECT_EQ(got.timestamp_ms, 1'650'812'741'436);
      }
      values.emplace_back(got.value);
    }
  }
  EXPECT_THAT(values, ElementsAre(std::string("a\0b", 3), ""));
}

TEST_F(ConsumerTest, APauseAtAnyMomentLosesAndRepeatsNothing) {
  constexpr std::uint64_t kSeed = 7;
  SCOPED_TRACE(kSeed);
  constexpr std::int64_t kCount = 600;
  Append(0, kCount);
  const auto consumer = OpenConsumer();
  ASSERT_THAT(consumer->Assign({{0, StartPosition::Earliest()}}), IsOk());
  const std::int32_t partitions[] = {0};
  Random random(kSeed, "pauses", 0);

  std::vector<std::int64_t> offsets;
  while (std::ssize(offsets) < kCount) {
    const auto got = Offsets(*consumer, std::min<std::size_t>(1 + random.NextBelow(200), kCount - offsets.size()));
    ASSERT_FALSE(got.empty());
    offsets.insert(offsets.end(), got.begin(), got.end());
    ASSERT_THAT(consumer->Pause(partitions), IsOk());
    ASSERT_OK_AND_ASSIGN(const auto while_paused, consumer->Consume(100, 15));
    EXPECT_TRUE(while_paused.messages().empty());
    ASSERT_THAT(consumer->Resume(partitions), IsOk());
  }
  EXPECT_EQ(offsets, Iota(0, kCount));
}

TEST_F(ConsumerTest, ACommitAndItsMetadataComeBack) {
  StartCluster(3);
  const auto writer = OpenConsumer("group");
  const std::string metadata("low=3\0binary\xff", 13);
  ASSERT_THAT(writer->Commit({{0, {41, metadata}}, {1, {6, "old"}}}), IsOk());
  ASSERT_THAT(writer->Commit({{1, {7, ""}}}), IsOk());

  const auto reader = OpenConsumer("group");
  const std::int32_t partitions[] = {0, 1, 2};
  ASSERT_OK_AND_ASSIGN(const auto committed, reader->Committed(partitions));
  ASSERT_EQ(committed.size(), 2u);
  EXPECT_EQ(committed.at(0).offset, 41);
  EXPECT_EQ(committed.at(0).metadata.substr(0, 5), "low=3");
  EXPECT_EQ(committed.at(1).offset, 7);
  EXPECT_EQ(committed.at(1).metadata, "");
}

TEST_F(ConsumerTest, ACommitThatTheGroupRefusesIsAConflict) {
  const auto consumer = OpenConsumer("group");
  const int refusals[] = {22};  // ILLEGAL_GENERATION
  cluster_->FailNext(MockCluster::Request::kOffsetCommit, refusals);
  EXPECT_THAT(consumer->Commit({{0, {1, ""}}}), HasCode(Code::kConflict));
  EXPECT_THAT(consumer->Commit({{0, {1, ""}}}), IsOk());
}

TEST_F(ConsumerTest, AnOffsetThatTheLogDoesNotHoldIsCorruptAndNamesItsPartition) {
  Append(0, 3);
  const auto consumer = OpenConsumer();
  ASSERT_THAT(consumer->Assign({{0, StartPosition::Offset(1'000)}}), IsOk());
  const Status status = FirstError(*consumer);
  EXPECT_THAT(status, HasCode(Code::kCorrupt));
  EXPECT_THAT(status, MessageNames("partition 0"));
}

TEST_F(ConsumerTest, BrokersThatAreDownAreUnavailableUntilTheyAreBack) {
  Append(0, 3);
  const auto consumer = OpenConsumer("group");
  ASSERT_THAT(consumer->Assign({{0, StartPosition::Earliest()}}), IsOk());
  EXPECT_EQ(Offsets(*consumer, 3), Iota(0, 3));

  ASSERT_THAT(cluster_->SetBrokerDown(1), IsOk());
  EXPECT_THAT(FirstError(*consumer), HasCode(Code::kUnavailable));
  EXPECT_THAT(consumer->Commit({{0, {3, ""}}}), HasCode(Code::kUnavailable));
  EXPECT_THAT(consumer->QueryWatermarks(0), HasCode(Code::kUnavailable));

  ASSERT_THAT(cluster_->SetBrokerUp(1), IsOk());
  Append(0, 2);
  EXPECT_EQ(Offsets(*consumer, 2), Iota(3, 5));
}

TEST_F(ConsumerTest, ClosingKeepsItsDeadlineWhenTheBrokersAreGone) {
  Append(0, 3);
  const auto consumer = OpenConsumer("group");
  ASSERT_THAT(consumer->Assign({{0, StartPosition::Earliest()}}), IsOk());
  EXPECT_EQ(Offsets(*consumer, 3), Iota(0, 3));
  ASSERT_THAT(cluster_->SetBrokerDown(1), IsOk());

  // Either it left in time, or the handle was abandoned; it may not hang.
  const Status status = consumer->Close(3'000);
  EXPECT_TRUE(status.ok() || status.code == Code::kUnavailable) << status.message;
  EXPECT_THAT(consumer->Close(3'000), IsOk());
}

TEST_F(ConsumerTest, AGroupMemberAsksWhereToBeginAndIsToldWhatItLoses) {
  StartCluster(2);
  Append(0, 5);
  Append(1, 5);
  std::vector<std::int32_t> asked;
  std::vector<std::int32_t> told;
  auto consumer = OpenConsumer("group");
  GroupCallbacks callbacks;
  callbacks.assigned = [&](std::int32_t partition) -> Result<StartPosition> {
    asked.push_back(partition);
    return StartPosition::Offset(4);
  };
  callbacks.revoked = [&](std::span<const std::int32_t> partitions, bool lost) {
    EXPECT_FALSE(lost);
    told.assign(partitions.begin(), partitions.end());
    for (const std::int32_t partition : partitions) EXPECT_THAT(consumer->Commit({{partition, {5, "last words"}}}), IsOk());
  };
  ASSERT_THAT(consumer->Subscribe(std::move(callbacks)), IsOk());
  EXPECT_THAT(Offsets(*consumer, 2), ElementsAre(4, 4));
  EXPECT_THAT(consumer->assignment(), ElementsAre(0, 1));
  EXPECT_THAT(asked, ::testing::UnorderedElementsAre(0, 1));

  EXPECT_THAT(consumer->Close(10'000), IsOk());
  EXPECT_THAT(told, ::testing::UnorderedElementsAre(0, 1));
  const std::int32_t partitions[] = {0, 1};
  ASSERT_OK_AND_ASSIGN(const auto committed, OpenConsumer("group")->Committed(partitions));
  EXPECT_EQ(committed.at(1).metadata, "last words");
}

TEST_F(ConsumerTest, AnOwnerThatKnowsNoPositionStopsTheMember) {
  const auto consumer = OpenConsumer("group");
  GroupCallbacks callbacks;
  callbacks.assigned = [](std::int32_t) -> Result<StartPosition> {
    return Error(Code::kCorrupt, "no readable metadata");
  };
  ASSERT_THAT(consumer->Subscribe(std::move(callbacks)), IsOk());
  EXPECT_THAT(FirstError(*consumer), HasCode(Code::kCorrupt));
  EXPECT_TRUE(consumer->assignment().empty());
}

TEST_F(ConsumerTest, APartitionWhosePositionIsUnavailableIsAskedForAgainWhileTheOthersAreRead) {
  StartCluster(2);
  Append(0, 5);
  Append(1, 5);
  int asked = 0;
  std::vector<std::int32_t> told;
  const auto consumer = OpenConsumer("group");
  GroupCallbacks callbacks;
  callbacks.assigned = [&](std::int32_t partition) -> Result<StartPosition> {
    if (partition == 1 && ++asked <= 3) return Error(Code::kUnavailable, "the coordinator is silent");
    return StartPosition::Earliest();
  };
  callbacks.revoked = [&](std::span<const std::int32_t> partitions, bool) { told.assign(partitions.begin(), partitions.end()); };
  ASSERT_THAT(consumer->Subscribe(std::move(callbacks)), IsOk());

  std::vector<std::int32_t> read;  // Partitions.
  int unavailable = 0;
  for (int look = 0; look < kPatience && read.size() < 10; ++look) {
    const auto batch = consumer->Consume(100, 50);
    ASSERT_TRUE(batch || batch.error().code == Code::kUnavailable);
    unavailable += batch ? 0 : 1;
    if (!batch) continue;
    for (const Message& message : batch->messages()) read.push_back(message.partition);
  }

  EXPECT_EQ(std::count(read.begin(), read.end(), 0), 5);
  EXPECT_EQ(std::count(read.begin(), read.end(), 1), 5);
  EXPECT_EQ(unavailable, 3);
  EXPECT_EQ(asked, 4);
  EXPECT_THAT(consumer->assignment(), ElementsAre(0, 1));
  EXPECT_THAT(consumer->Close(10'000), IsOk());
  EXPECT_THAT(told, ::testing::UnorderedElementsAre(0, 1));
}

TEST_F(ConsumerTest, PartitionsThatAreNotReadYetAreGivenBackLikeAnyOther) {
  StartCluster(2);
  std::vector<std::int32_t> told;
  const auto consumer = OpenConsumer("group");
  GroupCallbacks callbacks;
  callbacks.assigned = [](std::int32_t) -> Result<StartPosition> { return Error(Code::kUnavailable, "the coordinator is silent"); };
  callbacks.revoked = [&](std::span<const std::int32_t> partitions, bool) { told.assign(partitions.begin(), partitions.end()); };
  ASSERT_THAT(consumer->Subscribe(std::move(callbacks)), IsOk());
  EXPECT_THAT(FirstError(*consumer), HasCode(Code::kUnavailable));
  EXPECT_TRUE(consumer->assignment().empty());

  EXPECT_THAT(consumer->Close(10'000), IsOk());

  EXPECT_THAT(told, ::testing::UnorderedElementsAre(0, 1));
}

TEST_F(ConsumerTest, WatermarksAndPartitionsAreKnown) {
  StartCluster(4);
  Append(2, 6);
  const auto consumer = OpenConsumer();
  ASSERT_OK_AND_ASSIGN(const auto marks, consumer->QueryWatermarks(2));
  EXPECT_EQ(marks.low, 0);
  EXPECT_EQ(marks.high, 6);
  ASSERT_OK_AND_ASSIGN(const auto partitions, consumer->PartitionCount());
  EXPECT_EQ(partitions, 4);
}

TEST_F(ConsumerTest, ASettingThatTheClientDoesNotKnowIsInvalid) {
  Connection connection = cluster_->connection();
  connection.settings["sasl.mechanizm"] = "PLAIN";
  const auto consumer = Consumer::Open(connection, {.topic = topic_, .group_id = ""});
  EXPECT_THAT(consumer, HasCode(Code::kInvalidInput));
  EXPECT_THAT(consumer, MessageNames("sasl.mechanizm"));
}

TEST_F(ConsumerTest, AClusterIsReachableOrTheTimeOutIsKept) {
  ASSERT_OK_AND_ASSIGN(const auto admin, Admin::Open(cluster_->connection(), 3'000));
  EXPECT_THAT(admin->CheckReachable(), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto count, admin->PartitionCount(topic_));
  EXPECT_EQ(count, 1);
  ASSERT_OK_AND_ASSIGN(const auto id, admin->ClusterId());
  EXPECT_FALSE(id.empty());

  ASSERT_THAT(cluster_->SetBrokerDown(1), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto late, Admin::Open(cluster_->connection(), 300));
  EXPECT_THAT(late->CheckReachable(), HasCode(Code::kUnavailable));
}

}  // namespace
}  // namespace fuseline::kafka
