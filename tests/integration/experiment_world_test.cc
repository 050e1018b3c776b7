// An experiment in the simulated world, closed loop and whole: users ask the ranker client, which gives each arm its
// version; their events go through a real broker into `fuseline run`, which judges the arms as sessions close. An arm
// is planted whose users earn a fifth less, and is found and rolled back with nobody watching; users are served what is
// live from then on.
#include <algorithm>
#include <cmath>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/core/file.h"
#include "fuseline/policy_store/aliases.h"
#include "fuseline/policy_store/experiments.h"
#include "fuseline/policy_store/publisher.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/settings.h"
#include "fuseline/serving_bridge/event_log_kafka.h"
#include "fuseline/simulator/bridge.h"
#include "fuseline/simulator/local_rankers.h"
#include "fuseline/simulator/simulation.h"
#include "fuseline/test_support/matchers.h"
#include "loop_harness.h"
#include "version_fixture.h"

namespace fuseline::test {
namespace {

constexpr std::uint64_t kSeed = 7, kEpoch = 1;
constexpr std::int64_t kStartMs = 1'704'067'200'000;
constexpr std::uint64_t kEventsPerTurn = 5'000, kEventsMax = 1'000'000;
constexpr double kPlantedLoss = 0.2, kJudgedDays = 2;
constexpr int kHalvings = 7;

constexpr const char* kExperiment = R"(
name: planted
arms:
  - {name: control, share: 5000, alias: live}
  - {name: worse, share: 5000, alias: canary}
coverage: 10000
guardrails:
  - {metric: SESSION_REWARD, action: ROLLBACK}
)";

// A version that fuses everything with one action.
PolicyVersion VersionOfAction(std::uint64_t number, const std::vector<float>& action) {
  PolicyVersion version = AcceptedVersion(number);
  TensorMap tensors = *DecodeWeights(version.weights);
  std::vector<float>& bias = tensors.at("actor.0.bias").values;
  for (std::size_t d = 0; d < bias.size(); ++d) bias[d] = std::clamp(std::atanh(action[d]), -8.0F, 8.0F);
  version.weights = EncodeWeights(tensors);
  return version;
}

double SessionReward(const World& world, const std::vector<float>& action) {
  FixedActionRanker ranker(world, world.action_space(), {action}, "judged");
  const UserTotals totals = Evaluate(world, ranker, kJudgedDays)->Summarise("judged").totals;
  return totals.reward / static_cast<double>(totals.sessions);
}

// On the way from `good` to `bad`, the action whose session reward is a fifth less than that of `good`; and what it was
// measured to lose.
std::pair<std::vector<float>, double> Plant(const World& world, const std::vector<float>& good, const std::vector<float>& bad) {
  const double whole = SessionReward(world, good);
  double from = 0, to = 1, loss = 0;
  std::vector<float> action = bad;
  for (int i = 0; i < kHalvings; ++i) {
    const double share = (from + to) / 2;
    for (std::size_t d = 0; d < action.size(); ++d) action[d] = static_cast<float>(good[d] + share * (bad[d] - good[d]));
    loss = 1 - SessionReward(world, action) / whole;
    (loss < kPlantedLoss ? from : to) = share;
  }
  return {action, loss};
}

// Counts what each arm was served.
class CountingService final : public RankService {
 public:
  explicit CountingService(Ranker& ranker) : service_(ranker) {}
  Status Rank(const RankingRequest& request, v1::Exposure* exposure) override {
    FUSELINE_RETURN_IF_ERROR(service_.Rank(request, exposure));
    ++decisions_[exposure->arm()];
    return OkStatus();
  }
  std::map<std::string, std::uint64_t> decisions() const { return decisions_; }

 private:
  BridgeRankService service_;
  std::map<std::string, std::uint64_t> decisions_;
};

class ExperimentWorldTest : public testing::Test {
 protected:
  // Live is version 2 and stays there, last_good is 1, which does the same, and canary the worse one.
  void PublishVersions(const std::string& address, const std::vector<float>& good, const std::vector<float>& worse) {
    const TempDir folder;
    DiskFileSystem disk;
    ASSERT_OK_AND_ASSIGN(Archive archive, Archive::Open(folder.path(), /*part_bytes=*/8 << 20, disk));
    const auto connect = [&] { return RedisConnection::Connect({.address = address, .command_timeout_ms = 60'000}); };
    ASSERT_OK_AND_ASSIGN(Publisher publisher, Publisher::Open({}, archive, connect, clock_, log_, metrics_));
    ASSERT_THAT(publisher.Claim(kEpoch), IsOk());
    for (const std::uint64_t number : {1, 2}) ASSERT_THAT(publisher.Publish(VersionOfAction(number, good), PointLive::kYes), IsOk());
    ASSERT_THAT(publisher.Publish(VersionOfAction(3, worse), PointLive::kNo), IsOk());
    redis_.emplace(*connect());
    ASSERT_OK_AND_ASSIGN(v1::AliasState seen, ReadAliases(*redis_, keys_));
    ASSERT_OK_AND_ASSIGN(const AliasMove pin, PlanPin(seen));
    ASSERT_OK_AND_ASSIGN(seen, MoveAlias(*redis_, keys_, seen, pin, 100));
    ASSERT_OK_AND_ASSIGN(const AliasMove canary, PlanPromotion(seen, kCanaryAlias, 3));
    ASSERT_THAT(MoveAlias(*redis_, keys_, seen, canary, 100), IsOk());
  }
  std::uint64_t VersionOf(std::string_view alias) { return FindAlias(*ReadAliases(*redis_, keys_), alias)->to_version(); }
  v1::Experiment Stored() { return ReadExperiments(*redis_, keys_)->at("planted"); }

  SystemClock clock_;
  Log log_{Severity::kError};
  Metrics metrics_;
  PolicyKeys keys_{"default"};
  std::optional<RedisConnection> redis_;
};

TEST_F(ExperimentWorldTest, AnArmWhoseUsersEarnAFifthLessIsRolledBackWhileTheyPlay) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  ASSERT_OK_AND_ASSIGN(const auto redis, RedisProcess::Start());
  const std::string address = "unix:" + redis->socket_path();
  v1::Config config = DefaultSettings();
  ASSERT_OK_AND_ASSIGN(const auto world, CreateFeedWorld(config.simulator(), config.rewards(), kSeed, SchemaOf(config)));

  // Given an arm that is a fifth worse, planted between the best fixed weights and those that weigh heavily what these
  // weigh lightly
  const SearchResult best = SearchFixedAction(*world, world->action_space(), world->segment_count(), /*patience=*/1, /*requests=*/200, /*rounds=*/1);
  std::vector<float> bad = best.action;
  for (std::size_t d = 0; d < world->task_count(); ++d) bad[d] = -bad[d];  // Of the powers; a common factor of all would change no order.
  const auto [worse, loss] = Plant(*world, best.action, bad);
  EXPECT_NEAR(loss, kPlantedLoss, 0.02);
  ASSERT_NO_FATAL_FAILURE(PublishVersions(address, best.action, worse));
  const TempDir folder;
  ASSERT_THAT(WriteFileAtomically(folder / "planted.yaml", kExperiment), IsOk());
  std::string output;
  ASSERT_EQ(RunFuseline({"experiment", "create", folder / "planted.yaml", "--execute", "--reason", "a test", "--set", "redis.address=" + address}, &output), 0);

  // and the whole program, which judges and does not learn
  ASSERT_THAT(kafka->CreateTopic("world.events", /*partitions=*/1, {{"retention.ms", "-1"}, {"message.timestamp.type", "CreateTime"}}), IsOk());
  LoopProcess run(*kafka, *redis, "world.events",
                  {"fuseline.log_level=error", "sessionizer.commit_interval_ms=20", "learner.warmup_transitions=100000000"});
  ASSERT_THAT(run.Start(), IsOk());

  // When its users play
  RankerOptions options = OptionsOfRanker(address, "world-ranker");
  ASSERT_OK_AND_ASSIGN(const auto ranker, Ranker::Open(options, log_, metrics_, clock_));
  ASSERT_TRUE(Eventually([&] { return ranker->status().version == 2; }));
  KafkaSinkOptions sink_options;
  sink_options.connection.bootstrap_servers = kafka->bootstrap_servers();
  sink_options.topic = "world.events";
  sink_options.event_time_timestamps = true;
  ASSERT_OK_AND_ASSIGN(auto kafka_sink, OpenKafkaSink(sink_options, log_));
  EventLog event_log({}, std::move(kafka_sink), log_, metrics_);
  CountingService service(*ranker);
  BridgeEventSink sink(event_log);
  Simulation simulation(*world, service, sink, kStartMs);
  while (Stored().state() == v1::Experiment::RUNNING && simulation.events() < kEventsMax) {
    ASSERT_THAT(simulation.RunUntil({.max_events = kEventsPerTurn}), IsOk());
    ASSERT_TRUE(Eventually([&] { return event_log.figures().written == simulation.events(); }));
    ASSERT_THAT(run.WaitUntilLearned(simulation.events(), /*patience_ms=*/120'000), IsOk());
  }

  // Then the arm went back to what was good, by itself
  ASSERT_EQ(Stored().state(), v1::Experiment::ROLLED_BACK) << "after " << simulation.events() << " events";
  EXPECT_EQ(VersionOf(kCanaryAlias), 1U);
  EXPECT_EQ(VersionOf(kLiveAlias), 2U);
  EXPECT_EQ(Stored().history().rbegin()->who(), "guardrail");
  const auto decisions = service.decisions();
  ASSERT_OK_AND_ASSIGN(const v1::ExperimentTotals figures, ReadFigures(*redis_, keys_, "planted"));
  ASSERT_OK_AND_ASSIGN(const ArmComparison met, simulation.statistics().Compare("worse", "control"));
  std::cout << "planted " << -100 * loss << " %, met " << 100 * met.relative << " %: rolled back after " << decisions.at("control") + decisions.at("worse")
            << " decisions, " << decisions.at("worse") << " of them of the worse arm; " << figures.sessions() << " closed sessions judged; "
            << Stored().history().rbegin()->why() << '\n';

  // and its users get what everybody gets
  ASSERT_TRUE(Eventually([&] {
    const std::uint64_t worse_before = service.decisions().at("worse");
    EXPECT_THAT(simulation.RunUntil({.max_events = 500}), IsOk());
    return service.decisions().at("worse") == worse_before;
  }));
  EXPECT_THAT(event_log.Close(), IsOk());
  EXPECT_EQ(run.Interrupt(), 130) << run.log();
}

}  // namespace
}  // namespace fuseline::test
