// A learner that is continued under other conditions: its versions list every regime, the state at each change is kept, and from there
// the versions behind it are derived again. And whose versions were served: numbers of another lineage count for nothing.

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint.h"
#include "fuseline/core/digest.h"
#include "fuseline/learner/learner.h"
#include "fuseline/proto/settings.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"
#include "learner_world.h"

namespace fuseline {
namespace {

using test::Mark;
using test::Record;

class RegimesTest : public testing::Test {
 protected:
  RegimesTest() : config_(test::SmallConfig()), stream_(test::Sessions(config_, /*partitions=*/1, 200)[0]) {
    config_.mutable_learner()->set_algorithm("cem");  // Of those without LibTorch: what is tested is the same for all.
    config_.mutable_learner()->set_keep_checkpoint_every_versions(1'000);
  }

  std::unique_ptr<Learner> Open(const std::string& folder, const std::string& build = "a build") {
    auto learner = Learner::Open(folder, config_, build, log_, metrics_, clock_);
    EXPECT_THAT(learner, IsOk());
    if (!learner) return nullptr;
    (*learner)->ExpectPartitions(1);
    return std::move(*learner);
  }

  // Offers sessions [0, end) but for those taken; versions that are made go to versions_.
  void Learn(Learner& learner, std::size_t end) {
    const auto durable = learner.DurableNames();
    std::size_t next = durable.contains(0) ? static_cast<std::size_t>(durable.at(0).offset() / 10 + 1) : 0;
    for (; next < end; ++next) {
      ASSERT_THAT(learner.Offer(Record(stream_[next])), IsOk());
      do {
        ASSERT_THAT(learner.Advance(), IsOk());
        if (auto made = learner.PendingVersion()) {
          ASSERT_THAT(learner.MarkStored(made->manifest.version()), IsOk());
          versions_[made->manifest.version()] = *std::move(made);
        }
      } while (!learner.idle());
    }
  }

  v1::Config config_;
  std::vector<v1::Trajectory> stream_;
  std::map<std::uint64_t, PolicyVersion> versions_;
  Log log_{Severity::kError};
  Metrics metrics_;
  SystemClock clock_;
};

TEST_F(RegimesTest, ARestartWithOtherSettingsOrByAnotherBuildIsListedAndDerivedAgain) {
  // Given
  const test::TempDir folder;
  const v1::Config first = config_;
  {
    auto learner = Open(folder.path());
    Learn(*learner, 80);
    ASSERT_THAT(learner->Checkpoint(), IsOk());
  }
  { Open(folder.path()); }  // The same again begins nothing.
  const std::uint64_t before = versions_.rbegin()->first;
  config_.mutable_cem()->set_rate(0.2);

  // When
  std::uint64_t changed_at = 0;
  {
    auto learner = Open(folder.path());
    changed_at = learner->progress().trajectories;
    Learn(*learner, 140);
    ASSERT_THAT(learner->Checkpoint(), IsOk());
  }
  auto learner = Open(folder.path(), "another build");
  Learn(*learner, stream_.size());

  // Then
  const std::uint64_t newest = versions_.rbegin()->first;
  ASSERT_GT(newest, before + 2) << "for the test to say anything";
  const v1::Lineage lineage = versions_[newest].manifest.lineage();
  ASSERT_EQ(lineage.regimes_size(), 3);
  EXPECT_EQ(lineage.regimes(0).first_trajectory(), 0U);
  EXPECT_EQ(lineage.regimes(0).settings_sha256(), SettingsDigest(first));
  v1::Config settings;
  ASSERT_TRUE(settings.ParseFromString(lineage.regimes(0).settings()));
  EXPECT_EQ(settings.cem().rate(), first.cem().rate());
  EXPECT_EQ(lineage.regimes(1).first_trajectory(), changed_at);
  EXPECT_EQ(lineage.regimes(1).settings_sha256(), lineage.settings_sha256());
  EXPECT_TRUE(lineage.regimes(1).settings().empty()) << "the lineage's own";
  EXPECT_EQ(lineage.regimes(1).build(), "a build");
  EXPECT_EQ(lineage.regimes(2).build(), "another build");
  EXPECT_EQ(versions_[before].manifest.lineage().regimes_size(), 1);

  // Every version behind a change is made again from the state at it.
  for (const auto& [number, version] : std::map(versions_)) {
    if (version.manifest.lineage().regimes_size() == 1) continue;
    const test::TempDir again;
    ASSERT_OK_AND_ASSIGN(const DerivationBase base, PrepareToDeriveAgain(version.manifest, folder.path(), again.path()));
    const v1::Regime& last = *version.manifest.lineage().regimes().rbegin();
    EXPECT_EQ(base.trajectories, last.first_trajectory());
    EXPECT_EQ(base.steps, last.first_step());
    versions_.erase(number);
    auto derived = Open(again.path(), last.build());
    Learn(*derived, stream_.size());
    EXPECT_EQ(ToHex(versions_[number].manifest.weights_sha256()), ToHex(version.manifest.weights_sha256())) << number;
  }
  // One of before is not derived from a later state.
  const test::TempDir from_nothing;
  ASSERT_OK_AND_ASSIGN(const DerivationBase none, PrepareToDeriveAgain(versions_[before].manifest, folder.path(), from_nothing.path()));
  EXPECT_EQ(none.trajectories, 0U);
}

TEST_F(RegimesTest, CheckpointsAtChangesAreBoundedAndTheirListToo) {
  config_.mutable_learner()->set_keep_checkpoints(2);
  config_.mutable_policy_store()->set_keep_versions(1);
  const test::TempDir folder;
  for (std::size_t life = 0; life < 80; ++life) {
    auto learner = Open(folder.path(), "build " + std::to_string(life));
    Learn(*learner, 2 * (life + 1));
    ASSERT_THAT(learner->Checkpoint(), IsOk());
  }
  ASSERT_GT(versions_.size(), 2U);
  EXPECT_LE(KeptCheckpoints(folder.path()).size(), 12U) << "the newest two, and what the newest version and the incumbent are derived from";
  const v1::Lineage lineage = Open(folder.path(), "build 79")->lineage();
  EXPECT_EQ(lineage.regimes_size(), 64);
  EXPECT_EQ(lineage.regimes(63).build(), "build 79");
  EXPECT_GT(lineage.regimes(0).first_trajectory(), 0U) << "what was before is not listed any more";
}

TEST_F(RegimesTest, WhatThisProgramComputesUnderIsToldWithoutALearner) {
  ASSERT_OK_AND_ASSIGN(const v1::Regime here, RegimeHere(config_, "a build"));
  const test::TempDir folder;
  auto learner = Open(folder.path());
  EXPECT_EQ(here.settings_sha256(), learner->lineage().settings_sha256());
  EXPECT_EQ(here.blas(), learner->lineage().blas());
  EXPECT_EQ(here.threads(), learner->lineage().threads());
  EXPECT_EQ(here.device(), learner->lineage().device());
  config_.mutable_learner()->set_algorithm("nobody's");
  EXPECT_THAT(RegimeHere(config_, "a build"), HasCode(Code::kInvalidInput));
}

// A history from elsewhere has version numbers that this learner gives to its own.
TEST_F(RegimesTest, VersionsThatAnotherLineageServedAreOldWhateverTheirNumber) {
  for (v1::Trajectory& trajectory : stream_)
    for (v1::Step& step : *trajectory.mutable_steps()) step.mutable_exposure()->set_policy_version(1);
  config_.mutable_learner()->set_max_staleness_versions(1'000);  // What is of no known version is not drawn at all.
  const auto stale_shares = [&](bool history) {  // At the first and at the newest version.
    const test::TempDir folder;
    auto learner = Open(folder.path());
    EXPECT_THAT(learner->BeginInput("files history", "", history), IsOk());
    learner->ExpectPartitions(1);
    versions_.clear();
    Learn(*learner, stream_.size());
    EXPECT_GT(versions_.size(), 3U);
    const auto of = [](const auto& entry) { return entry.second.manifest.metrics().at("stale_share"); };
    return std::pair(of(*versions_.begin()), of(*versions_.rbegin()));
  };
  const auto own = stale_shares(false), foreign = stale_shares(true);
  EXPECT_GT(own.first, 0.5) << "before version 1 is made it cannot be this learner's";
  EXPECT_LT(own.second, 0.1) << "what came later is";
  EXPECT_GT(foreign.first, 0.5);
  EXPECT_GT(foreign.second, 0.5) << "a history has none of this learner's versions";
}

TEST_F(RegimesTest, AnInputMayBeginInTheMiddleOfItsNamesWhereThatIsAsked) {
  const test::TempDir folder;
  {
    auto learner = Open(folder.path());
    EXPECT_THAT(learner->Offer(Record(stream_[50])), HasCode(Code::kCorrupt)) << "a gap";
    ASSERT_THAT(learner->BeginInput("topic t", "offset:50"), IsOk());
    learner->BeginAnywhere();
    ASSERT_THAT(learner->Offer(Record(stream_[50])), IsOk());
    EXPECT_THAT(learner->Offer(Record(stream_[52])), HasCode(Code::kCorrupt)) << "from there on nothing may be missing";
    ASSERT_THAT(learner->Offer(Record(stream_[51])), IsOk());
    ASSERT_THAT(learner->Offer(Mark(0, kEndOfTimeMs)), IsOk());
    ASSERT_THAT(learner->Advance(), IsOk());
    EXPECT_EQ(learner->progress().trajectories, 2U);
    EXPECT_EQ(learner->lineage().inputs(0).input(), "topic t, from offset:50");
    ASSERT_THAT(learner->Checkpoint(), IsOk());
  }
  auto learner = Open(folder.path());
  learner->BeginAnywhere();
  EXPECT_THAT(learner->Offer(Record(stream_[60])), HasCode(Code::kCorrupt)) << "it has begun already";
  EXPECT_THAT(learner->Offer(Record(stream_[52])), IsOk());
}

// An algorithm that holds its policy otherwise than as one actor cannot be given one, and says what to do instead.
TEST_F(RegimesTest, ALearnerWithoutOneActorRefusesToBeginWhereAVersionEnded) {
  const test::TempDir folder, other;
  auto learner = Open(folder.path());
  Learn(*learner, 100);
  ASSERT_FALSE(versions_.empty());
  const auto newcomer = Open(other.path());
  const Status begun = newcomer->BeginFrom(versions_.rbegin()->second);
  EXPECT_THAT(begun, HasCode(Code::kInvalidInput));
  EXPECT_THAT(begun.message, testing::HasSubstr("cem"));
  EXPECT_THAT(begun.message, testing::HasSubstr("bring the folder"));
}

}  // namespace
}  // namespace fuseline
