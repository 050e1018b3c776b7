// The Kafka source against librdkafka's mock cluster: order, back-pressure, ranges, dead letters, brokers that go away.
#include "fuseline/ingest/kafka_source.h"

#include <algorithm>
#include <map>
#include <string>

#include "event_samples.h"
#include "fuseline/core/random.h"
#include "fuseline/kafka/mock_cluster.h"
#include "fuseline/kafka/producer.h"
#include "fuseline/test_support/matchers.h"

namespace fuseline {
namespace {

using ::testing::ElementsAre;

class KafkaSourceTest : public ::testing::Test {
 protected:
  static constexpr int kPatience = 400;  // Nexts of 50 ms.

  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(cluster_, kafka::MockCluster::Start(1));
    ASSERT_THAT(cluster_->CreateTopic("events", 3), IsOk());
  }

  void Append(std::int32_t partition, const std::vector<std::string>& values, std::int64_t record_time_ms = 1'000) {
    ASSERT_OK_AND_ASSIGN(const auto producer, kafka::Producer::Open(cluster_->connection(), {}, nullptr));
    for (const std::string& value : values) {
      kafka::OutgoingMessage message;
      message.topic = "events";
      message.partition = partition;
      message.value = value.empty() ? std::string_view() : value;  // Empty: a tombstone.
      message.timestamp_ms = record_time_ms;
      ASSERT_THAT(producer->Produce(message), IsOk());
    }
    ASSERT_THAT(producer->Flush(10'000), IsOk());
  }

  static std::vector<std::string> Clicks(int count, std::int64_t time_ms = 1'000) {
    std::vector<std::string> values;
    for (int i = 0; i < count; ++i) values.push_back(ClickAt(time_ms, "e" + std::to_string(i)).SerializeAsString());
    return values;
  }

  KafkaSourceOptions Options() {
    KafkaSourceOptions options;
    options.connection = cluster_->connection();
    options.consumer.topic = "events";
    options.consumer.group_id = "group";
    options.consumer.session_timeout_ms = 6'000;
    options.consumer.request_timeout_ms = 2'000;
    options.batch_records = 50;
    options.limits.event_bytes = 4'096;
    return options;
  }

  // Takes batches until every partition has given `count` records; checks order as it goes.
  void TakeAll(EventSource& source, std::int64_t count, std::map<std::int32_t, std::int64_t>* next) {
    for (int i = 0; i < kPatience; ++i) {
      const auto batch = source.Next(50);
      if (batch && *batch) {
        std::int64_t& expected = (*next)[(*batch)->partition];
        for (const Record& record : (*batch)->records) ASSERT_EQ(record.offset, expected++);
        ASSERT_EQ((*batch)->next_offset, expected);
      }
      if (std::all_of(next->begin(), next->end(), [&](const auto& entry) { return entry.second == count; })) return;
    }
    ADD_FAILURE() << "records did not come";
  }

  std::unique_ptr<kafka::MockCluster> cluster_;
  FakeSink sink_;
};

TEST_F(KafkaSourceTest, EveryRecordOfEveryPartitionComesOnceAndInOrderUnderBackPressure) {
  constexpr std::uint64_t kSeed = 3;
  SCOPED_TRACE(kSeed);
  constexpr std::int64_t kCount = 800;
  for (int partition = 0; partition < 3; ++partition) Append(partition, Clicks(kCount));
  ASSERT_OK_AND_ASSIGN(const auto source, KafkaSource::Open(Options(), &sink_));
  EXPECT_THAT(source->partitions(), ElementsAre(0, 1, 2));

  Random random(kSeed, "pauses", 0);
  std::map<std::int32_t, std::int64_t> next = {{0, 0}, {1, 0}, {2, 0}};
  std::map<std::int32_t, bool> paused;
  for (int i = 0; i < 4'000 && (next[0] < kCount || next[1] < kCount || next[2] < kCount); ++i) {
    const std::int32_t chosen[] = {static_cast<std::int32_t>(random.NextBelow(3))};
    const bool pause = random.NextBelow(3) == 0;
    ASSERT_THAT(pause ? source->Pause(chosen) : source->Resume(chosen), IsOk());
    paused[chosen[0]] = pause;
    ASSERT_OK_AND_ASSIGN(const auto batch, source->Next(5));
    if (!batch) continue;
    EXPECT_FALSE(paused[batch->partition]);
    for (const Record& record : batch->records) ASSERT_EQ(record.offset, next[batch->partition]++);
    ASSERT_EQ(batch->next_offset, next[batch->partition]);
  }
  EXPECT_THAT(next, ElementsAre(std::pair(0, kCount), std::pair(1, kCount), std::pair(2, kCount)));
}

TEST_F(KafkaSourceTest, TenMalformedRecordsLeaveTenDeadLettersAndDoNotStopThePartition) {
  const auto inputs = MalformedInputs();
  std::vector<std::string> values;
  for (const auto& [what, bytes] : inputs) values.push_back(bytes);
  values.push_back(ClickAt(1'000, "after").SerializeAsString());
  Append(1, values);

  KafkaSourceOptions options = Options();
  options.until_end = true;
  ASSERT_OK_AND_ASSIGN(const auto source, KafkaSource::Open(std::move(options), &sink_));
  std::vector<EventBatch> batches;
  std::vector<Record> records;  // Views into the batches.
  for (int i = 0; i < kPatience && !source->finished(); ++i) {
    ASSERT_OK_AND_ASSIGN(auto batch, source->Next(50));
    if (!batch) continue;
    EXPECT_EQ(sink_.durable, sink_.written.size());
    records.insert(records.end(), batch->records.begin(), batch->records.end());
    batches.push_back(*std::move(batch));
  }
  ASSERT_EQ(records.size(), 11u);
  ASSERT_EQ(sink_.written.size(), 10u);
  for (std::size_t i = 0; i < 10; ++i) {
    const auto& [what, bytes] = inputs[i];
    SCOPED_TRACE(what);
    EXPECT_EQ(records[i].fate, RecordFate::kMalformed);
    const DeadLetter& letter = sink_.written[i];
    EXPECT_EQ(letter.source, "events");
    EXPECT_EQ(letter.partition, 1);
    EXPECT_EQ(letter.offset, static_cast<std::int64_t>(i));
    EXPECT_EQ(letter.bytes, bytes);
    EXPECT_FALSE(letter.reason.empty());
  }
  EXPECT_EQ(records[10].fate, RecordFate::kEvent);
  EXPECT_EQ(records[10].event.event_id, "after");
}

TEST_F(KafkaSourceTest, AnEventAheadOfItsRecordIsQuarantinedAndAControlVoid) {
  v1::Event tick = ClickAt(900'000, "");
  tick.clear_user_id();
  tick.set_event_id("t1");
  tick.mutable_control()->mutable_tick()->set_predecessor_offset(1);
  Append(0, {ClickAt(61'000, "at the limit").SerializeAsString(), ClickAt(61'001, "beyond").SerializeAsString(),
             tick.SerializeAsString()},
         /*record_time_ms=*/1'000);
  KafkaSourceOptions options = Options();
  options.max_future_ms = 60'000;
  ASSERT_OK_AND_ASSIGN(const auto source, KafkaSource::Open(std::move(options), &sink_));
  std::vector<RecordFate> fates;
  for (int i = 0; i < kPatience && fates.size() < 3; ++i) {
    ASSERT_OK_AND_ASSIGN(const auto batch, source->Next(50));
    if (!batch) continue;
    for (const Record& record : batch->records) fates.push_back(record.fate);
  }
  EXPECT_THAT(fates, ElementsAre(RecordFate::kEvent, RecordFate::kQuarantined, RecordFate::kVoidControl));
  ASSERT_EQ(sink_.written.size(), 1u);
  EXPECT_EQ(sink_.written[0].offset, 1);
  EXPECT_EQ(sink_.written[0].fate, RecordFate::kQuarantined);
}

TEST_F(KafkaSourceTest, ARangeEndsAtTheEndThatItSawAtItsStart) {
  Append(0, Clicks(120));
  Append(2, Clicks(7));
  KafkaSourceOptions options = Options();
  options.until_end = true;
  options.start = [](kafka::Consumer&, std::int32_t partition) -> Result<kafka::StartPosition> {
    return partition == 0 ? kafka::StartPosition::Offset(20) : kafka::StartPosition::Earliest();
  };
  ASSERT_OK_AND_ASSIGN(const auto source, KafkaSource::Open(std::move(options), &sink_));
  Append(0, Clicks(30));  // Behind the end.
  Append(1, Clicks(30));

  std::map<std::int32_t, std::pair<std::int64_t, std::int64_t>> seen;  // Records, next offset at the end.
  for (int i = 0; i < kPatience && !source->finished(); ++i) {
    ASSERT_OK_AND_ASSIGN(const auto batch, source->Next(50));
    if (!batch) continue;
    auto& [records, end] = seen[batch->partition];
    EXPECT_EQ(end, 0) << "a batch behind the last one";
    records += std::ssize(batch->records);
    if (batch->end_of_input) end = batch->next_offset == 0 ? -1 : batch->next_offset;
  }
  EXPECT_TRUE(source->finished());
  EXPECT_EQ(seen[0], std::pair(std::int64_t{100}, std::int64_t{120}));
  EXPECT_EQ(seen[1], std::pair(std::int64_t{0}, std::int64_t{-1}));  // Empty: its end is 0.
  EXPECT_EQ(seen[2], std::pair(std::int64_t{7}, std::int64_t{7}));
}

TEST_F(KafkaSourceTest, LagFallsToZeroAndCaughtUpIsSaidOnlyThen) {
  Append(0, Clicks(200));
  ASSERT_OK_AND_ASSIGN(const auto source, KafkaSource::Open(Options(), &sink_));
  std::int64_t taken = 0;
  for (int i = 0; i < kPatience && !source->caught_up(0); ++i) {
    ASSERT_OK_AND_ASSIGN(const auto batch, source->Next(50));
    if (!batch || batch->partition != 0) continue;
    taken += std::ssize(batch->records);
    EXPECT_EQ(source->lag(0), 200 - taken);
    EXPECT_TRUE(taken == 200 || !source->caught_up(0));
  }
  EXPECT_EQ(taken, 200);
  EXPECT_TRUE(source->caught_up(0));
  EXPECT_EQ(source->lag(0), 0);
}

TEST_F(KafkaSourceTest, ASinkThatFailsStopsReadingAndLosesNothing) {
  Append(0, {"{bad", ClickAt(1'000, "good").SerializeAsString()});
  sink_.refuse_writes = 2;
  sink_.refuse_flushes = 2;
  ASSERT_OK_AND_ASSIGN(const auto source, KafkaSource::Open(Options(), &sink_));
  int refused = 0;
  std::vector<std::int64_t> offsets;
  for (int i = 0; i < kPatience && offsets.size() < 2; ++i) {
    const auto batch = source->Next(50);
    if (!batch) {
      EXPECT_THAT(batch, HasCode(Code::kUnavailable));
      ++refused;
      continue;
    }
    if (!*batch) continue;
    EXPECT_EQ(sink_.durable, 1u);
    for (const Record& record : (*batch)->records) offsets.push_back(record.offset);
  }
  EXPECT_EQ(refused, 2);  // Its flushes: a write that is refused is tried again as reading goes on.
  EXPECT_THAT(offsets, ElementsAre(0, 1));
}

// Takes letters and says that none is durable until it is asked to flush.
class SlowSink final : public DeadLetterSink {
 public:
  Status Write(DeadLetter&&) override {
    ++taken;
    return OkStatus();
  }
  Status Flush(std::int64_t) override {
    ++flushes;
    durable = taken;
    return OkStatus();
  }
  std::uint64_t Waiting() override { return taken - durable; }

  std::uint64_t taken = 0, durable = 0;
  int flushes = 0;
};

TEST_F(KafkaSourceTest, ReadingGoesOnWhileLettersAreOnTheirWayAndNoBatchOvertakesItsOwn) {
  constexpr std::int64_t kCount = 1'200;  // 24 reads: fewer than may be ahead.
  std::vector<std::string> values = Clicks(kCount);
  std::uint64_t malformed = 0;
  for (std::size_t i = 0; i < values.size(); i += 20, ++malformed) values[i] = "{bad";
  Append(0, values);
  KafkaSourceOptions options = Options();
  options.until_end = true;
  SlowSink sink;
  ASSERT_OK_AND_ASSIGN(const auto source, KafkaSource::Open(std::move(options), &sink));

  std::int64_t next = 0;
  std::uint64_t malformed_seen = 0;
  for (int i = 0; i < kPatience && !source->finished(); ++i) {
    ASSERT_OK_AND_ASSIGN(const auto batch, source->Next(50));
    if (!batch) continue;
    for (const Record& record : batch->records) {
      ASSERT_EQ(record.offset, next++);
      malformed_seen += record.fate == RecordFate::kMalformed ? 1 : 0;
    }
    ASSERT_LE(malformed_seen, sink.durable);
  }

  EXPECT_EQ(next, kCount);
  EXPECT_EQ(malformed_seen, malformed);
  EXPECT_LT(sink.flushes, 12) << "of more than 24 reads";
}

TEST_F(KafkaSourceTest, ABrokerThatComesBackIsReadOnFromWhereItStopped) {
  Append(0, Clicks(100));
  ASSERT_OK_AND_ASSIGN(const auto source, KafkaSource::Open(Options(), &sink_));
  std::map<std::int32_t, std::int64_t> next = {{0, 0}};
  TakeAll(*source, 100, &next);

  ASSERT_THAT(cluster_->SetBrokerDown(1), IsOk());
  Status status;
  for (int i = 0; i < kPatience && status.ok(); ++i) {
    if (const auto batch = source->Next(50); !batch) status = batch.error();
  }
  EXPECT_THAT(status, HasCode(Code::kUnavailable));
  EXPECT_THAT(source->Commit({{0, {100, "m"}}}), HasCode(Code::kUnavailable));

  ASSERT_THAT(cluster_->SetBrokerUp(1), IsOk());
  Append(0, Clicks(50));
  TakeAll(*source, 150, &next);
}

TEST_F(KafkaSourceTest, ACommitIsWhereTheNextOwnerMayBegin) {
  Append(0, Clicks(10));
  {
    ASSERT_OK_AND_ASSIGN(const auto source, KafkaSource::Open(Options(), &sink_));
    ASSERT_THAT(source->Commit({{0, {6, "low=4"}}}), IsOk());
    ASSERT_THAT(source->Close(5'000), IsOk());
  }
  KafkaSourceOptions options = Options();
  std::map<std::int32_t, std::string> metadata;
  options.start = [&](kafka::Consumer& consumer, std::int32_t partition) -> Result<kafka::StartPosition> {
    const std::int32_t one[] = {partition};
    FUSELINE_ASSIGN_OR_FAIL(const auto committed, consumer.Committed(one));
    if (committed.empty()) return kafka::StartPosition::Earliest();
    metadata[partition] = committed.at(partition).metadata;
    return kafka::StartPosition::Offset(committed.at(partition).offset);
  };
  ASSERT_OK_AND_ASSIGN(const auto next_owner, KafkaSource::Open(std::move(options), &sink_));
  EXPECT_EQ(metadata, (std::map<std::int32_t, std::string>{{0, "low=4"}}));
  std::map<std::int32_t, std::int64_t> next = {{0, 6}};
  TakeAll(*next_owner, 10, &next);
}

TEST_F(KafkaSourceTest, APositionOutsideTheLogIsAClearError) {
  Append(0, Clicks(10));
  KafkaSourceOptions options = Options();
  options.start = [](kafka::Consumer&, std::int32_t) -> Result<kafka::StartPosition> { return kafka::StartPosition::Offset(5'000); };
  ASSERT_OK_AND_ASSIGN(const auto source, KafkaSource::Open(std::move(options), &sink_));
  Status status;
  for (int i = 0; i < kPatience && status.ok(); ++i) {
    if (const auto batch = source->Next(50); !batch) status = batch.error();
  }
  EXPECT_THAT(status, HasCode(Code::kCorrupt));
  EXPECT_THAT(status, MessageNames("5000"));
}

TEST_F(KafkaSourceTest, AStartThatIsRefusedComesOutOfOpen) {
  KafkaSourceOptions options = Options();
  options.start = [](kafka::Consumer&, std::int32_t) -> Result<kafka::StartPosition> { return Error(Code::kCorrupt, "no metadata"); };
  EXPECT_THAT(KafkaSource::Open(std::move(options), &sink_), HasCode(Code::kCorrupt));
}

TEST_F(KafkaSourceTest, AGroupMemberGivesUpItsPartitionsWhenItCloses) {
  Append(0, Clicks(10));
  std::vector<std::int32_t> revoked;
  KafkaSourceOptions options = Options();
  options.group = true;
  options.start = [](kafka::Consumer&, std::int32_t partition) -> Result<kafka::StartPosition> {
    return partition == 0 ? kafka::StartPosition::Offset(8) : kafka::StartPosition::Earliest();
  };
  options.revoked = [&](std::span<const std::int32_t> partitions, bool) { revoked.assign(partitions.begin(), partitions.end()); };
  ASSERT_OK_AND_ASSIGN(const auto source, KafkaSource::Open(std::move(options), &sink_));
  std::map<std::int32_t, std::int64_t> next = {{0, 8}};
  TakeAll(*source, 10, &next);
  EXPECT_EQ(next.size(), 1u);
  EXPECT_THAT(source->partitions(), ElementsAre(0, 1, 2));
  ASSERT_THAT(source->Close(10'000), IsOk());
  EXPECT_THAT(revoked, ::testing::UnorderedElementsAre(0, 1, 2));
  EXPECT_TRUE(source->partitions().empty());
}

}  // namespace
}  // namespace fuseline
