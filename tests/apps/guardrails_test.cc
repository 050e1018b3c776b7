// The loop around a guardrail, with a real Redis: the stream's figures are judged at every look, a planted worse arm goes back to
// last_good and its experiment ends, a sample ratio that is off pauses, and a writer that was replaced moves nothing.
#include "experiment_keeper.h"
#include "guardrails.h"

#include <iostream>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/policy_store/aliases.h"
#include "fuseline/policy_store/experiments.h"
#include "fuseline/policy_store/publisher.h"
#include "fuseline/policy_store/retention.h"
#include "fuseline/proto/settings.h"
#include "fuseline/rollout/experiment.h"
#include "fuseline/test_support/eventually.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/redis_process.h"
#include "fuseline/test_support/temp_dir.h"
#include "simulated_sessions.h"

namespace fuseline {
namespace {

constexpr std::uint64_t kEpoch = 5;

class GuardrailsTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(server_, test::RedisProcess::Start());
    ASSERT_OK_AND_ASSIGN(RedisConnection redis, RedisConnection::Connect({.address = "unix:" + server_->socket_path()}));
    redis_.emplace(std::move(redis));
    ASSERT_OK_AND_ASSIGN(Archive archive, Archive::Open(folder_.path(), /*part_bytes=*/2'000, disk_));
    archive_.emplace(std::move(archive));
    const auto connect = [this] { return RedisConnection::Connect({.address = "unix:" + server_->socket_path()}); };
    ASSERT_OK_AND_ASSIGN(Publisher publisher, Publisher::Open({}, *archive_, connect, clock_, log_, metrics_));
    ASSERT_THAT(publisher.Claim(kEpoch), IsOk());
    for (const std::uint64_t number : {1U, 2U}) {
      PolicyVersion version;
      version.manifest.set_version(number);
      version.manifest.set_policy("default");
      version.weights = "weights of " + std::to_string(number);
      ASSERT_THAT(publisher.Publish(version, number == 1 ? PointLive::kYes : PointLive::kNo), IsOk());
    }
    Move(kLastGoodAlias, 1);
    Move(kCanaryAlias, 2);
    experiment_ = TwoArms("guarded");
    experiment_.mutable_arms(1)->set_alias(std::string(kCanaryAlias));
    ASSERT_THAT(WriteExperiment(*redis_, keys_, kEpoch, nullptr, experiment_, 100), IsOk());
  }

  void Move(std::string_view alias, std::uint64_t version) {
    ASSERT_OK_AND_ASSIGN(const v1::AliasState seen, ReadAliases(*redis_, keys_));
    AliasMove move;
    move.alias = std::string(alias);
    move.to_version = version;
    move.who = "ann@host";
    ASSERT_THAT(MoveAlias(*redis_, keys_, seen, move, 100), IsOk());
  }
  std::uint64_t VersionOf(std::string_view alias) {
    const auto state = ReadAliases(*redis_, keys_);
    EXPECT_THAT(state, IsOk());
    return FindAlias(*state, alias)->to_version();
  }
  v1::Experiment Stored() { return ReadExperiments(*redis_, keys_)->at("experiment"); }
  Status Look(const ExperimentEvaluation& evaluation, std::uint64_t epoch = kEpoch) {
    return LookAtExperiment(*redis_, keys_, epoch, config_, *evaluation.Find("experiment"), {log_, metrics_, clock_});
  }
  // Sessions until the experiment no longer runs, a look each hundred. Returns how many were counted.
  std::uint64_t RunUntilItActs(double factor, int looks, std::uint64_t epoch = kEpoch) {
    const ArmChooser chooser = *ArmChooser::Create(experiment_);
    SimulatedSessions sessions(/*seed=*/11, /*users=*/20'000);
    ExperimentEvaluation evaluation(1'000'000);
    for (int look = 0; look < looks && Stored().state() == v1::Experiment::RUNNING; ++look) {
      for (int i = 0; i < 100; ++i) sessions.Next(chooser, experiment_.coverage(), factor, evaluation);
      last_look_ = Look(evaluation, epoch);
    }
    return evaluation.Find("experiment")->sessions();
  }

  Log log_{Severity::kError};
  Metrics metrics_;
  SystemClock clock_;
  v1::Config config_ = DefaultSettings();
  PolicyKeys keys_{"default"};
  test::TempDir folder_;
  DiskFileSystem disk_;
  std::unique_ptr<test::RedisProcess> server_;
  std::optional<RedisConnection> redis_;
  std::optional<Archive> archive_;
  v1::Experiment experiment_;
  Status last_look_;
};

TEST_F(GuardrailsTest, AnArmThatIsAFifthWorseGoesBackToLastGoodAndItsExperimentEnds) {
  const std::uint64_t sessions = RunUntilItActs(/*factor=*/0.8, /*looks=*/500);
  std::cout << "an arm that is 20 % worse was rolled back after " << sessions << " sessions of both arms\n";
  EXPECT_EQ(VersionOf(kCanaryAlias), 1U);
  EXPECT_EQ(VersionOf(kLiveAlias), 1U);
  const v1::Experiment ended = Stored();
  EXPECT_EQ(ended.state(), v1::Experiment::ROLLED_BACK);
  EXPECT_EQ(ended.history().rbegin()->who(), kGuardrailAuthor);
  EXPECT_NE(ended.history().rbegin()->why().find("SESSION_REWARD of arm treatment"), std::string::npos);
  // What an operator asks for later is what was judged.
  ASSERT_OK_AND_ASSIGN(const v1::ExperimentTotals figures, ReadFigures(*redis_, keys_, "experiment"));
  EXPECT_EQ(figures.sessions(), sessions);
  EXPECT_EQ(ReadLeftOut(*redis_, keys_).value(), 0U);
  ASSERT_THAT(WriteLeftOut(*redis_, keys_, 17), IsOk());
  EXPECT_EQ(ReadLeftOut(*redis_, keys_).value(), 17U);
  // And what a dashboard draws.
  const auto gauge = [&](const std::string& name, MetricLabels labels) {
    labels.insert({{"experiment", "experiment"}, {"arm", "treatment"}});
    return metrics_.GetGauge("fuseline_rollout_" + name, "", labels).value();
  };
  EXPECT_LT(gauge("arm_difference_upper", {{"metric", "SESSION_REWARD"}}), 0);
  EXPECT_GT(gauge("arm_mean", {{"metric", "SESSION_REWARD"}}), 0);
  EXPECT_GT(gauge("arm_sessions", {}), 0);
}

TEST_F(GuardrailsTest, AnArmThatIsAlikeIsLeftAlone) {
  RunUntilItActs(/*factor=*/1, /*looks=*/150);
  EXPECT_EQ(VersionOf(kCanaryAlias), 2U);
  EXPECT_EQ(Stored().state(), v1::Experiment::RUNNING);
}

TEST_F(GuardrailsTest, ASignalMetricPausesAndMovesNothing) {
  v1::Experiment signal = Stored();
  signal.set_revision(signal.revision() + 1);
  signal.mutable_guardrails(0)->set_action(v1::Guardrail::PAUSE);
  const v1::Experiment seen = Stored();
  ASSERT_THAT(WriteExperiment(*redis_, keys_, kEpoch, &seen, signal, 100), IsOk());
  RunUntilItActs(/*factor=*/0.8, /*looks=*/500);
  EXPECT_EQ(Stored().state(), v1::Experiment::PAUSED);
  EXPECT_EQ(VersionOf(kCanaryAlias), 2U);
}

TEST_F(GuardrailsTest, AWriterThatWasReplacedMovesNothing) {
  RunUntilItActs(/*factor=*/0.8, /*looks=*/100, /*epoch=*/kEpoch - 1);
  EXPECT_THAT(last_look_, HasCode(Code::kConflict));
  EXPECT_EQ(VersionOf(kCanaryAlias), 2U);
  EXPECT_EQ(Stored().state(), v1::Experiment::RUNNING);
}

TEST_F(GuardrailsTest, WhoeverSawAnOlderRevisionWritesNothing) {
  const v1::Experiment seen = Stored();
  ASSERT_OK_AND_ASSIGN(const v1::Experiment first, Changed(seen, v1::Experiment::PAUSED, seen.coverage(), "ann@host", "", 1));
  ASSERT_OK_AND_ASSIGN(const v1::Experiment second, Changed(seen, v1::Experiment::STOPPED, seen.coverage(), "bob@host", "", 2));
  ASSERT_THAT(WriteExperiment(*redis_, keys_, kEpoch, &seen, first, 100), IsOk());
  EXPECT_THAT(WriteExperiment(*redis_, keys_, kEpoch, &seen, first, 100), IsOk());
  EXPECT_THAT(WriteExperiment(*redis_, keys_, kEpoch, &seen, second, 100), HasCode(Code::kConflict));
  EXPECT_EQ(Stored().state(), v1::Experiment::PAUSED);
}

TEST_F(GuardrailsTest, AVersionThatAnArmServesIsNotDeleted) {
  // Given a version that only an arm names, and that would be old without it, a second after its alias left it
  Move(kCanaryAlias, 1);
  const RetentionRule rule{.keep_versions = 0, .keep_pointed_ms = 0};
  const auto is_old = [&] { return *OldVersions(*redis_, keys_, *ReadAliases(*redis_, keys_), rule) == std::vector<std::uint64_t>{2}; };
  ASSERT_TRUE(Eventually(is_old));
  const v1::Experiment seen = Stored();
  v1::Experiment fixed = seen;
  fixed.mutable_arms(1)->set_version(2);
  ASSERT_THAT(WriteExperiment(*redis_, keys_, kEpoch, &seen, fixed, 100), IsOk());

  // Then it is not old before the experiment has ended
  EXPECT_FALSE(is_old());
  ASSERT_OK_AND_ASSIGN(const v1::Experiment ended, Changed(fixed, v1::Experiment::STOPPED, fixed.coverage(), "ann@host", "", 1));
  ASSERT_THAT(WriteExperiment(*redis_, keys_, kEpoch, &fixed, ended, 100), IsOk());
  EXPECT_TRUE(is_old());
}

TEST_F(GuardrailsTest, ExperimentsComeBackAfterRedisHasLostThem) {
  test::TempDir folder;
  const Instruments instruments{log_, metrics_, clock_};
  {
    ASSERT_OK_AND_ASSIGN(ExperimentKeeper keeper, ExperimentKeeper::Open(folder.path()));
    ASSERT_THAT(keeper.Follow(*redis_, keys_, kEpoch, 100, instruments), IsOk());
  }
  const v1::Experiment before = Stored();
  ASSERT_THAT(redis_->Command({"DEL", keys_.experiments()}), IsOk());

  // When another process follows
  ASSERT_OK_AND_ASSIGN(ExperimentKeeper keeper, ExperimentKeeper::Open(folder.path()));
  ASSERT_THAT(keeper.Follow(*redis_, keys_, kEpoch, 100, instruments), IsOk());

  // Then they are there as they were
  EXPECT_EQ(Stored().SerializeAsString(), before.SerializeAsString());
}

TEST_F(GuardrailsTest, WhatCannotBeReadHarmsNoOtherExperimentAndIsWrittenAgainIfItIsKnown) {
  // Given one that the keeper knows, and garbage in its place and under a name that nobody knows
  test::TempDir folder;
  const Instruments instruments{log_, metrics_, clock_};
  ASSERT_OK_AND_ASSIGN(ExperimentKeeper keeper, ExperimentKeeper::Open(folder.path()));
  ASSERT_THAT(keeper.Follow(*redis_, keys_, kEpoch, 100, instruments), IsOk());
  v1::Experiment other = experiment_;
  other.set_name("other");
  ASSERT_THAT(WriteExperiment(*redis_, keys_, kEpoch, nullptr, other, 100), IsOk());
  ASSERT_THAT(redis_->Command({"HSET", keys_.experiments(), "experiment", "garbage", "x", "garbage"}), IsOk());

  // Then all others are read, and no version is deleted
  std::map<std::string, std::string> unreadable;
  ASSERT_OK_AND_ASSIGN(const auto read, ReadExperiments(*redis_, keys_, &unreadable));
  EXPECT_EQ(read.size(), 1U);
  EXPECT_TRUE(read.contains("other"));
  EXPECT_EQ(unreadable, (std::map<std::string, std::string>{{"experiment", "garbage"}, {"x", "garbage"}}));
  ASSERT_OK_AND_ASSIGN(const v1::AliasState seen, ReadAliases(*redis_, keys_));
  EXPECT_THAT(OldVersions(*redis_, keys_, seen, {.keep_versions = 1}), HasCode(Code::kCorrupt));

  // When the keeper follows, then the known one is as it was, and what it does not know is left to people
  ASSERT_THAT(keeper.Follow(*redis_, keys_, kEpoch, 100, instruments), IsOk());
  EXPECT_EQ(Stored().SerializeAsString(), experiment_.SerializeAsString());
  unreadable.clear();
  ASSERT_OK_AND_ASSIGN(const auto now, ReadExperiments(*redis_, keys_, &unreadable));
  EXPECT_EQ(now.size(), 2U);
  EXPECT_EQ(unreadable, (std::map<std::string, std::string>{{"x", "garbage"}}));
}

// A failover to a replica that was behind looks the same: it is all there, as it was.
TEST_F(GuardrailsTest, AnOldDumpOfRedisUndoesNoRampAndBeginsNothingAgain) {
  // Given two experiments, and a dump of that time
  v1::Experiment other = experiment_;
  other.set_name("other");
  ASSERT_THAT(WriteExperiment(*redis_, keys_, kEpoch, nullptr, other, 100), IsOk());
  ASSERT_THAT(server_->Command({"SAVE"}), IsOk());

  // and what came later: one was ramped and stopped, the other paused, a third one begun
  test::TempDir folder;
  const Instruments instruments{log_, metrics_, clock_};
  ASSERT_OK_AND_ASSIGN(ExperimentKeeper keeper, ExperimentKeeper::Open(folder.path()));
  ASSERT_OK_AND_ASSIGN(const v1::Experiment stopped, Changed(Stored(), v1::Experiment::STOPPED, kWholeShare, "ann@host", "", 1));
  ASSERT_OK_AND_ASSIGN(const v1::Experiment paused, Changed(other, v1::Experiment::PAUSED, other.coverage(), "ann@host", "", 2));
  v1::Experiment third = experiment_;
  third.set_name("third");
  ASSERT_THAT(WriteExperiment(*redis_, keys_, kEpoch, &experiment_, stopped, 100), IsOk());
  ASSERT_THAT(WriteExperiment(*redis_, keys_, kEpoch, &other, paused, 100), IsOk());
  ASSERT_THAT(WriteExperiment(*redis_, keys_, kEpoch, nullptr, third, 100), IsOk());
  ASSERT_THAT(keeper.Follow(*redis_, keys_, kEpoch, 100, instruments), IsOk());
  EXPECT_TRUE(keeper.doubts_live()) << "one that compares live is paused";

  // When Redis comes back with the dump
  server_->Kill();
  ASSERT_THAT(server_->Restart(), IsOk());
  ASSERT_THAT(redis_->Reconnect(), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto old, ReadExperiments(*redis_, keys_));
  ASSERT_EQ(old.size(), 2U);
  ASSERT_EQ(old.at("experiment").state(), v1::Experiment::RUNNING);
  ASSERT_THAT(keeper.Follow(*redis_, keys_, kEpoch, 100, instruments), IsOk());

  // Then each is again where it had come to, and the trail says why
  ASSERT_OK_AND_ASSIGN(const auto now, ReadExperiments(*redis_, keys_));
  ASSERT_EQ(now.size(), 3U);
  EXPECT_EQ(now.at("experiment").SerializeAsString(), stopped.SerializeAsString());
  EXPECT_EQ(now.at("other").SerializeAsString(), paused.SerializeAsString());
  EXPECT_EQ(now.at("third").SerializeAsString(), third.SerializeAsString());
  ASSERT_OK_AND_ASSIGN(const auto entries, redis_->ReadStream(keys_.changes(), "0", 1'000, 0));
  ASSERT_GE(entries.size(), 3U);
  v1::AliasChange note;
  ASSERT_TRUE(note.ParseFromString(entries[entries.size() - 3].fields[0].second));
  EXPECT_EQ(note.why(), "restored from the archive; experiment experiment: STOPPED at coverage 10000");
}

TEST_F(GuardrailsTest, WhoBeginsOneSawAllOthers) {
  v1::Experiment next = experiment_;
  next.set_name("next");
  EXPECT_THAT(WriteExperiment(*redis_, keys_, kEpoch, nullptr, next, 100, /*among=*/0), HasCode(Code::kConflict));
  EXPECT_THAT(WriteExperiment(*redis_, keys_, kEpoch, nullptr, next, 100, /*among=*/1), IsOk());
  EXPECT_THAT(WriteExperiment(*redis_, keys_, kEpoch, nullptr, next, 100, /*among=*/1), IsOk()) << "the same again";
}

}  // namespace
}  // namespace fuseline
