// What Redis loses comes back by the running program's own looks, while no version is published: everything (FLUSHALL,
// an empty restart, an old dump), and each kind of key alone; with it come versions that no alias points to, and experiments. Promised are 5 s: it
// looks five times a second, and the time that it took is printed. And what the program says of versions to whoever asks.
#include <algorithm>
#include <cstdint>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/core/clock.h"
#include "fuseline/core/file.h"
#include "fuseline/core/http.h"
#include "fuseline/policy_store/aliases.h"
#include "fuseline/policy_store/experiments.h"
#include "fuseline/policy_store/fetch.h"
#include "fuseline/proto/schema.h"
#include "fuseline/rollout/experiment.h"
#include "fuseline/test_support/eventually.h"
#include "fuseline/test_support/matchers.h"
#include "loop_harness.h"
#include "version_fixture.h"

namespace fuseline::test {
namespace {

constexpr std::uint64_t kEvents = 12'000;
constexpr std::int64_t kPatienceMs = 6 * 5'000;  // The promise, on a machine that does much else.

class VersionsRepairTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_OK_AND_ASSIGN(server_, RedisProcess::Start()); }
  RedisConnection Connect() {
    auto redis = RedisConnection::Connect({.address = "unix:" + server_->socket_path(), .command_timeout_ms = 60'000});
    EXPECT_THAT(redis, IsOk());
    return *std::move(redis);
  }
  // Where each alias points, if all of it is there: the claim, and every version whole.
  std::optional<std::vector<std::pair<std::string, std::uint64_t>>> Whole() {
    auto redis = RedisConnection::Connect({.address = "unix:" + server_->socket_path()});
    if (!redis) return std::nullopt;
    const auto state = ReadAliases(*redis, keys_);
    if (!state || state->epoch() == 0) return std::nullopt;
    std::vector<std::pair<std::string, std::uint64_t>> aliases;
    for (const v1::AliasChange& alias : state->aliases()) {
      if (!FetchVersion(*redis, keys_, alias.to_version(), alias.manifest_sha256())) return std::nullopt;
      aliases.emplace_back(alias.alias(), alias.to_version());
    }
    return aliases;
  }

  // What else Redis shall hold: published versions, and experiments.
  std::vector<std::uint64_t> Published() {
    RedisConnection redis = Connect();
    return PublishedVersions(redis, keys_).value_or(std::vector<std::uint64_t>());
  }
  std::string Experiments() {
    RedisConnection redis = Connect();
    const auto experiments = ReadExperiments(redis, keys_);
    if (!experiments) return experiments.error().message;
    std::string bytes;
    for (const auto& [name, experiment] : *experiments) bytes += CanonicalBytes(experiment);
    return bytes;
  }
  void WriteOne(const v1::Experiment* seen, const v1::Experiment& next) {
    RedisConnection redis = Connect();
    ASSERT_THAT(WriteExperiment(redis, keys_, /*epoch=*/0, seen, next, 1'000), IsOk());
    // The program has seen it when its copy says so.
    ASSERT_TRUE(Eventually([&] {
      v1::ExperimentList kept;
      const auto bytes = ReadFile(run_->state() + "/policy/experiments.pb");
      return bytes && kept.ParseFromString(*bytes) && kept.experiments_size() == 1 && kept.experiments(0).revision() == next.revision();
    }));
  }

  // Until it has learned all there is, and Redis knows it.
  void StartOn(KafkaProcess& kafka, const std::string& topic) {
    const auto events = SimulatedEvents(/*seed=*/7, kEvents);
    ASSERT_TRUE(events);
    ASSERT_THAT(MakeEventsTopic(kafka, topic, /*partitions=*/2, *events), IsOk());
    run_ = std::make_unique<LoopProcess>(
        kafka, *server_, topic,
        std::vector<std::string>{"fuseline.log_level=error", "sessionizer.gap_ms=120000", "learner.warmup_transitions=100",
                                 "learner.version_every_steps=10", "gate.max_ensemble_deviation=1e9", "policy_store.part_bytes=4096"});
    ASSERT_THAT(run_->Start(), IsOk());
    ASSERT_THAT(run_->WaitUntilLearned(kEvents, /*patience_ms=*/120'000), IsOk());
    const auto is_published = [](const nlohmann::json& status) { return status["live_version"] > 1 && status["publication"]["waiting"] == 0; };
    ASSERT_THAT(run_->WaitUntil(is_published, /*patience_ms=*/60'000), IsOk());
  }

  PolicyKeys keys_{"default"};
  SystemClock clock_;
  std::unique_ptr<RedisProcess> server_;
  std::unique_ptr<LoopProcess> run_;
};

TEST_F(VersionsRepairTest, TheRunningProgramPutsBackWhateverRedisLost) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  // Given the whole program with versions in Redis, and nothing more to learn from
  ASSERT_NO_FATAL_FAILURE(StartOn(*kafka, "repair.events"));
  LoopProcess& run = *run_;
  ASSERT_TRUE(Eventually([&] { return Whole().has_value() && Whole()->size() == 3; })) << "last_good, live and proving";
  const auto before = Whole();
  const std::vector<std::uint64_t> published = Published();
  ASSERT_FALSE(published.empty());
  std::cout << published.size() << " versions are in Redis, where aliases point or not\n";
  v1::Experiment experiment = LearningBesideStatic("beside", 0.5);
  experiment.set_coverage(100);
  const v1::Experiment begun = Changed(experiment, v1::Experiment::RUNNING, 100, "ann@host", "", 1).value();
  ASSERT_NO_FATAL_FAILURE(WriteOne(nullptr, begun));
  std::string experiments = Experiments();
  const std::uint64_t live = before->at(1).second;
  ASSERT_EQ(before->at(1).first, kLiveAlias);

  // When it loses something
  const std::vector<std::pair<const char*, std::vector<std::string>>> losses = {
      {"everything (FLUSHALL)", {"FLUSHALL"}},
      {"everything, again", {"FLUSHALL"}},
      {"a part", {"DEL", keys_.part(live, 1)}},
      {"a part's bytes", {"SET", keys_.part(live, 0), "cut"}},
      {"a manifest", {"DEL", keys_.manifest(live)}},
      {"the aliases", {"DEL", keys_.aliases()}},
      {"the claim", {"DEL", keys_.epoch()}},
      {"the change number", {"DEL", keys_.change()}},
      {"the list of versions", {"DEL", keys_.versions()}},
      {"the experiments", {"DEL", keys_.experiments()}},
      {"a version of before", {"DEL", keys_.manifest(before->at(0).second), keys_.part(before->at(0).second, 0)}},
      {"everything (an empty restart)", {}},
  };
  std::vector<std::int64_t> took_ms;
  const auto lose = [&](const std::string& what, const std::vector<std::string>& command) {
    SCOPED_TRACE(what);
    const std::int64_t begin_us = clock_.monotonic_us();
    if (command.empty()) {
      server_->Kill();
      ASSERT_THAT(server_->Restart(), IsOk());
    } else {
      ASSERT_THAT(server_->Command(command), IsOk());
    }
    // Then it is all there again
    const auto is_listed = [&] {
      const std::vector<std::uint64_t> now = Published();
      RedisConnection redis = Connect();
      return std::includes(now.begin(), now.end(), published.begin(), published.end()) && redis.Command({"EXISTS", keys_.change()})->integer == 1;
    };
    ASSERT_TRUE(Eventually([&] { return Whole() == before && is_listed() && Experiments() == experiments; }, kPatienceMs)) << run.log();
    took_ms.push_back((clock_.monotonic_us() - begin_us) / 1'000);
    std::cout << what << ": whole again after ms: " << took_ms.back() << '\n';
  };
  for (const auto& [what, command] : losses) ASSERT_NO_FATAL_FAILURE(lose(what, command));

  // and an old dump, from before a ramp, brings nobody out of his arm.
  ASSERT_THAT(server_->Command({"SAVE"}), IsOk());
  ASSERT_NO_FATAL_FAILURE(WriteOne(&begun, Changed(begun, v1::Experiment::RUNNING, 5'000, "ann@host", "", 2).value()));
  experiments = Experiments();
  ASSERT_NO_FATAL_FAILURE(lose("an experiment's ramp (an old dump)", {}));

  // By the median, so that a machine that stands still in one of them fails nothing.
  std::sort(took_ms.begin(), took_ms.end());
  EXPECT_LT(took_ms[took_ms.size() / 2], 5'000);
  EXPECT_TRUE(run.running());
  EXPECT_EQ(run.Interrupt(), 130) << run.log();
}

TEST_F(VersionsRepairTest, StatusSaysWhoPinnedWhichRankersServeWhatAndHowOldItIs) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  const std::string address = "unix:" + server_->socket_path();
  Log log(Severity::kError);
  Metrics metrics;
  ASSERT_OK_AND_ASSIGN(const auto ranker, Ranker::Open(OptionsOfRanker(address, "ranker-1"), log, metrics, clock_));
  ASSERT_TRUE(Eventually([&] {
    return Connect().Command({"HEXISTS", keys_.acks(), "ranker-1"})->integer == 1;
  })) << "it is there before any version";
  ASSERT_NO_FATAL_FAILURE(StartOn(*kafka, "status.events"));
  std::string output;
  ASSERT_EQ(RunFuseline({"versions", "pin", "--execute", "--reason", "over night", "--set", "redis.address=" + address, "--state", run_->state()}, &output), 0)
      << output;

  const auto is_told = [](const nlohmann::json& status) {
    return status["publication"]["pin"].is_object() && status["freshness"]["sum"]["observations"] > 0;
  };
  ASSERT_THAT(run_->WaitUntil(is_told, /*patience_ms=*/60'000), IsOk());
  const nlohmann::json status = run_->Ask().value();
  const std::string live = status["live_version"].dump();
  EXPECT_EQ(status["publication"]["pin"]["why"], "over night");
  EXPECT_EQ(status["publication"]["rankers_of_version"][live], 1);
  const nlohmann::json& said = status["publication"]["rankers"].at(0);
  EXPECT_EQ(said["name"], "ranker-1");
  EXPECT_EQ(said["version"], status["live_version"]);
  EXPECT_GT(said["since_ms"], 0);
  EXPECT_GE(said["seen_ms"], said["since_ms"]);
  const nlohmann::json& freshness = status["freshness"];
  EXPECT_GE(freshness["pipeline_delay"]["p99_ms"], freshness["in_use"]["p99_ms"]);
  EXPECT_EQ(RunFuseline({"status", "--state", run_->state()}, &output), 0);
  for (const char* const part : {"pinned           at ", ": over night", "rankers          1 at version ",
                                 "ranker           ranker-1  version ", "  last heard of 20",
                                 "freshness        trained", "freshness        in_use"}) {
    EXPECT_THAT(output, testing::HasSubstr(part));
  }
  const auto metrics_page = HttpGet(ReadFile(run_->state() + "/http_address").value(), "/metrics", 10'000);
  ASSERT_THAT(metrics_page, IsOk());
  EXPECT_THAT(*metrics_page, testing::HasSubstr("fuseline_pipeline_delay_ms_bucket{stage=\"trained\""));
  EXPECT_THAT(*metrics_page, testing::HasSubstr("fuseline_policy_store_live_pinned 1"));
  EXPECT_THAT(*metrics_page, testing::HasSubstr("fuseline_policy_store_rankers{at=\"live\"} 1"));
  // The pin is told of a process that does not run any more, too.
  EXPECT_EQ(run_->Interrupt(), 130) << run_->log();
  ASSERT_OK_AND_ASSIGN(const auto stored, run_->StoredStatus());
  EXPECT_EQ(stored["publication"]["pin"]["why"], "over night");
}

}  // namespace
}  // namespace fuseline::test
