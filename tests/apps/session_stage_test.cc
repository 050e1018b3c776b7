// Proven of the stage that makes sessions, in front of a topic whose broker refuses what it is given, for good and again and again: what
// is not durable is sent again in order from the first that is not, so the topic holds an unbroken row of every name, and nothing
// leaves the outbox before it is there. And: a disk that is really full stops it for as long as that lasts, and no longer.
// Method: the real stage, sessionizer and producer; librdkafka's mock cluster makes the refusals, a small tmpfs is the disk.
#include "session_stage.h"

#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "fuseline/core/stage.h"
#include "fuseline/ingest/file_source.h"
#include "fuseline/kafka/consumer.h"
#include "fuseline/kafka/mock_cluster.h"
#include "fuseline/proto/event_codec.h"
#include "fuseline/proto/settings.h"
#include "fuseline/proto/trajectory_name.h"
#include "fuseline/proto/trajectory_record.h"
#include "fuseline/test_support/kafka_process.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/small_disk.h"
#include "fuseline/test_support/temp_dir.h"
#include "trajectory_topic.h"

namespace fuseline {
namespace {

constexpr int kSessions = 3'000;
constexpr int kMessageTooLarge = 10;

class SessionStageTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(cluster_, kafka::MockCluster::Start(1));
    ASSERT_THAT(cluster_->CreateTopic("trajectories", 1), IsOk());
    config_ = DefaultSettings();
    config_.mutable_kafka()->set_brokers(cluster_->connection().bootstrap_servers);
    config_.mutable_kafka()->clear_group_id();
    config_.mutable_sessionizer()->set_gap_ms(1'000);
    config_.mutable_sessionizer()->set_lateness_ms(0);
    config_.mutable_sessionizer()->set_commit_records(100);
    config_.mutable_ingest()->set_batch_records(50);
    config_.mutable_learner()->set_queue_trajectories(64);
  }

  // One request of another user every two seconds: each closes the session before it.
  std::string WriteEvents() {
    const std::string path = dir_ / "events.jsonl";
    std::ofstream file(path);
    for (int i = 0; i < kSessions; ++i) {
      v1::Event event;
      event.set_event_id("e" + std::to_string(i));
      event.set_user_id("u" + std::to_string(i));
      event.set_event_time_ms(1'000'000 + i * 2'000);
      event.mutable_exposure()->set_request_id("r" + std::to_string(i));
      event.mutable_exposure()->add_items()->set_item_id("i");
      file << EncodeEventJson(event) << '\n';
    }
    return path;
  }

  // Names in the topic as a reader takes them; fails at a gap. `repeats`: those that it drops.
  std::vector<std::string> TakenNames(int* repeats) {
    std::vector<std::string> names;
    kafka::ConsumerOptions options;
    options.topic = "trajectories";
    auto consumer = kafka::Consumer::Open(cluster_->connection(), options);
    EXPECT_THAT(consumer, IsOk());
    EXPECT_THAT((*consumer)->Assign({{0, kafka::StartPosition::Earliest()}}), IsOk());
    std::optional<v1::TrajectoryName> last;
    for (bool at_end = false; !at_end;) {
      const auto batch = (*consumer)->Consume(1'000, 100);
      EXPECT_THAT(batch, IsOk());
      if (!batch) break;
      for (const kafka::Message& message : batch->messages()) {
        const auto record = DecodeTrajectoryRecord(message.value, 0);
        EXPECT_THAT(record, IsOk());
        if (!record || record->has_progress()) continue;
        const v1::Trajectory& trajectory = record->trajectory();
        EXPECT_EQ(message.key, trajectory.user_id());
        if (last && CompareNames(trajectory.name(), *last) <= 0) {
          ++*repeats;
          continue;
        }
        EXPECT_EQ(trajectory.has_predecessor() ? NameText(trajectory.predecessor()) : "none", last ? NameText(*last) : "none");
        last = trajectory.name();
        names.push_back(NameText(*last));
      }
      at_end = batch->ends().contains(0);
    }
    return names;
  }

  test::TempDir dir_;
  std::unique_ptr<kafka::MockCluster> cluster_;
  v1::Config config_;
  Log log_{Severity::kError};
  Metrics metrics_;
  SystemClock clock_;
};

TEST_F(SessionStageTest, WhatABrokerRefusesIsSentAgainInOrderUntilAllIsThere) {
  const std::vector<int> refusals = {kMessageTooLarge, 0, 0, kMessageTooLarge, kMessageTooLarge, 0, kMessageTooLarge};
  cluster_->FailNext(kafka::MockCluster::Request::kProduce, refusals);
  ASSERT_OK_AND_ASSIGN(auto sessionizer, Sessionizer::Open(dir_ / "sessions", config_.sessionizer(), clock_, log_, metrics_));
  const Sessionizer& outbox = *sessionizer;
  ASSERT_OK_AND_ASSIGN(auto topic, TrajectoryTopic::Open(config_, {log_, metrics_, clock_}));
  StatusBoard status;
  SessionStage stage(config_, std::move(sessionizer), std::move(topic), status, {log_, metrics_, clock_});
  ASSERT_THAT(stage.TakeOver(0, std::nullopt, 0, {}), IsOk());
  ASSERT_OK_AND_ASSIGN(auto source, FileSource::Open(FileSourceOptionsOf(config_.ingest(), {WriteEvents()}), nullptr));
  stage.Read(std::move(source), nullptr);

  ASSERT_THAT(stage.Run({}), IsOk());
  ASSERT_THAT(stage.Leave(/*patience_ms=*/30'000), IsOk());

  EXPECT_EQ(outbox.outbox_size(0), 0u);
  EXPECT_GT(metrics_.GetCounter("fuseline_sessionizer_delivery_failures_total", "").value(), 0);
  int repeats = 0;
  EXPECT_EQ(TakenNames(&repeats).size(), static_cast<std::size_t>(kSessions));
  std::cout << repeats << " repeats\n";
}

TEST_F(SessionStageTest, AnInputThatEndsWhileTheDiskIsFullIsFinishedWhenThereIsRoom) {
  test::SmallDisk disk(dir_ / "disk");
  if (!disk.mounted()) {
    ASSERT_FALSE(test::ComponentsAreRequired());
    GTEST_SKIP() << "not proven here: no right to mount a tmpfs";
  }
  config_.mutable_ingest()->set_batch_records(2 * kSessions);  // All in one: the source has ended before the first commit.
  // Opened again, the store has nothing in memory, which is its weakest point.
  ASSERT_THAT(Sessionizer::Open(dir_ / "disk/sessions", config_.sessionizer(), clock_, log_, metrics_), IsOk());
  ASSERT_OK_AND_ASSIGN(auto sessionizer, Sessionizer::Open(dir_ / "disk/sessions", config_.sessionizer(), clock_, log_, metrics_));
  ASSERT_OK_AND_ASSIGN(auto topic, TrajectoryTopic::Open(config_, {log_, metrics_, clock_}));
  StatusBoard status;
  SessionStage stage(config_, std::move(sessionizer), std::move(topic), status, {log_, metrics_, clock_});
  ASSERT_THAT(stage.TakeOver(0, std::nullopt, 0, {}), IsOk());
  ASSERT_OK_AND_ASSIGN(auto source, FileSource::Open(FileSourceOptionsOf(config_.ingest(), {WriteEvents()}), nullptr));
  stage.Read(std::move(source), nullptr);
  const Counter failed = metrics_.GetCounter("fuseline_sessionizer_failed_commits_total", "");

  disk.Fill();
  Stage room("room", [&](std::stop_token stop) {
    while (failed.value() < 2 && SleepFor(stop, 1)) continue;
    disk.MakeLittleRoom();
    while (failed.value() < 6 && SleepFor(stop, 1)) continue;
    disk.MakeRoom();
    return OkStatus();
  });
  ASSERT_THAT(stage.Run({}), IsOk());
  ASSERT_THAT(stage.Leave(/*patience_ms=*/30'000), IsOk());

  int repeats = 0;
  EXPECT_EQ(TakenNames(&repeats).size(), static_cast<std::size_t>(kSessions));
}

// Gives what it holds, then hands partition 1 over as a rebalance does, inside Next, and stays silent for `kSilentLooks`.
class RebalancedSource final : public EventSource {
 public:
  static constexpr int kSilentLooks = 200;
  RebalancedSource(std::vector<EventBatch> batches, std::function<void()> rebalance, std::function<void()> at_end)
      : batches_(std::move(batches)), rebalance_(std::move(rebalance)), at_end_(std::move(at_end)) {}

  Result<std::optional<EventBatch>> Next(std::int64_t) override {
    if (given_ < batches_.size()) return std::optional(std::move(batches_[given_++]));
    if (looks_++ == 0) rebalance_();
    if (looks_ == kSilentLooks) at_end_();
    return std::nullopt;
  }
  Status Pause(std::span<const std::int32_t>) override { return OkStatus(); }
  Status Resume(std::span<const std::int32_t>) override { return OkStatus(); }
  Status Commit(const std::map<std::int32_t, kafka::CommittedOffset>&) override { return OkStatus(); }
  bool caught_up(std::int32_t) const override { return given_ == batches_.size(); }
  bool finished() const override { return looks_ >= kSilentLooks; }

 private:
  std::vector<EventBatch> batches_;
  const std::function<void()> rebalance_, at_end_;
  std::size_t given_ = 0;
  int looks_ = 0;
};

// A receiver with room for everything, which has all of it at once.
class RecordingSink final : public TrajectorySink {
 public:
  Room RoomFor(std::int32_t) const override { return Room::kNow; }
  Result<bool> Offer(const OutboxEntry& entry) override {
    ++offered[entry.name.partition()];
    durable_[entry.name.partition()] = entry.name;
    return true;
  }
  Result<bool> Offer(const v1::ProgressMark& mark) override {
    marks[mark.partition()] = mark.stream_time_ms();
    return true;
  }
  std::map<std::int32_t, v1::TrajectoryName> Durable(std::int64_t) override { return std::exchange(durable_, {}); }
  bool TakeSetback() override { return false; }
  Status CheckHolds(const v1::TrajectoryName&) const override { return OkStatus(); }
  void Forget(std::int32_t) override {}
  void Close() override {}

  std::map<std::int32_t, int> offered;
  std::map<std::int32_t, std::int64_t> marks;

 private:
  std::map<std::int32_t, v1::TrajectoryName> durable_;
};

TEST_F(SessionStageTest, WhatAHandoverOfOthersCommitsIsOfferedThoughNothingMoreIsRead) {
  config_.mutable_sessionizer()->set_commit_records(1'000'000);
  config_.mutable_sessionizer()->set_commit_interval_ms(60'000);  // No commit but that of the handover.
  ASSERT_OK_AND_ASSIGN(auto sessionizer, Sessionizer::Open(dir_ / "sessions", config_.sessionizer(), clock_, log_, metrics_));
  auto owned_sink = std::make_unique<RecordingSink>();
  const RecordingSink& sink = *owned_sink;
  StatusBoard status;
  SessionStage stage(config_, std::move(sessionizer), std::move(owned_sink), status, {log_, metrics_, clock_});
  ASSERT_THAT(stage.TakeOver(0, std::nullopt, 0, {}), IsOk());
  ASSERT_THAT(stage.TakeOver(1, std::nullopt, 0, {}), IsOk());
  ASSERT_OK_AND_ASSIGN(auto file, FileSource::Open(FileSourceOptionsOf(config_.ingest(), {WriteEvents()}), nullptr));
  std::vector<EventBatch> batches;
  while (!file->finished()) {
    ASSERT_OK_AND_ASSIGN(auto batch, file->Next(0));
    if (!batch) continue;
    batch->end_of_input = false;
    batches.push_back(*std::move(batch));
  }
  int offered = 0;
  std::int64_t marked_ms = 0;
  auto source = std::make_unique<RebalancedSource>(
      std::move(batches), [&] { stage.GiveUp(std::vector<std::int32_t>{1}, /*lost=*/false); },
      [&] {
        offered = sink.offered.contains(0) ? sink.offered.at(0) : 0;
        marked_ms = sink.marks.contains(0) ? sink.marks.at(0) : 0;
      });
  stage.Read(std::move(source), nullptr);

  ASSERT_THAT(stage.Run({}), IsOk());

  EXPECT_EQ(offered, kSessions - 1);  // The last one is open.
  EXPECT_EQ(marked_ms, 1'000'000 + (kSessions - 1) * 2'000);
}

}  // namespace
}  // namespace fuseline
