// Versions by what changed: a ranker that holds the base takes the delta and has the version bit for bit; whatever is
// wrong with a delta, it takes the parts, and counts it. Method: a real redis-server, a publisher, rankers, and deltas
// damaged by hand.
#include <functional>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fuseline/core/random.h"
#include "fuseline/fusion/version_delta.h"
#include "fuseline/policy_store/aliases.h"
#include "fuseline/policy_store/fetch.h"
#include "fuseline/policy_store/import.h"
#include "fuseline/policy_store/publisher.h"
#include "fuseline/proto/schema.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/redis_process.h"
#include "fuseline/test_support/temp_dir.h"
#include "version_fixture.h"

namespace fuseline {
namespace {

class VersionsDeltaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(server_, test::RedisProcess::Start());
    ASSERT_OK_AND_ASSIGN(Archive archive, Archive::Open(folder_.path(), /*part_bytes=*/700, disk_));
    archive_.emplace(std::move(archive));
    redis_.emplace(*RedisConnection::Connect(Options("").redis));
    OpenPublisher(/*delta_min_bytes=*/1);
  }
  void OpenPublisher(std::int64_t delta_min_bytes, std::int64_t keep_versions = 20) {
    PublisherOptions options;
    options.delta_min_bytes = delta_min_bytes;
    options.retention = {.keep_versions = keep_versions};
    const auto connect = [this] { return RedisConnection::Connect(Options("").redis); };
    ASSERT_OK_AND_ASSIGN(Publisher publisher, Publisher::Open(options, *archive_, connect, clock_, log_, metrics_));
    publisher_.emplace(std::move(publisher));
    ASSERT_THAT(publisher_->Claim(1), IsOk());
  }
  RankerOptions Options(const std::string& name) const {
    RankerOptions options = OptionsOfRanker("unix:" + server_->socket_path(), name);
    options.fetch_jitter_ms = 0;
    return options;
  }
  // A ranker with metrics of its own, at the version that is live.
  struct Follower {
    Metrics metrics;
    std::unique_ptr<Ranker> ranker;
    double Fetched(const std::string& by) {
      return metrics.GetCounter("fuseline_serving_bridge_versions_fetched_total", "versions that came whole, by what was read", {{"by", by}}).value();
    }
    double Refused() {
      return metrics.GetCounter("fuseline_serving_bridge_deltas_refused_total", "deltas of no use, in whose place the parts were read").value();
    }
    bool At(std::uint64_t version) {
      return Eventually([&] { return ranker->status().version == version; });
    }
  };
  std::unique_ptr<Follower> Follow(const std::string& name) {
    auto follower = std::make_unique<Follower>();
    follower->ranker = *Ranker::Open(Options(name), log_, follower->metrics, clock_);
    return follower;
  }
  // Puts what `spoil` makes of its delta in place of it, and only then points `live` there: no ranker sees the good
  // one.
  template <typename Spoil>
  void PublishSpoilt(std::uint64_t number, std::uint64_t base, const Spoil& spoil) {
    ASSERT_THAT(publisher_->Publish(AcceptedVersion(number), PointLive::kNo), IsOk());
    ASSERT_OK_AND_ASSIGN(const ArchivedVersion from, archive_->Get(base));
    ASSERT_OK_AND_ASSIGN(const ArchivedVersion to, archive_->Get(number));
    ASSERT_OK_AND_ASSIGN(v1::VersionDelta delta, MakeDelta(from.version, to.version));
    const std::string bytes = spoil(delta);
    ASSERT_THAT(redis_->Command({"HSET", keys_.delta(number), std::to_string(base), bytes}), IsOk());
    ASSERT_OK_AND_ASSIGN(const v1::AliasState seen, ReadAliases(*redis_, keys_));
    ASSERT_OK_AND_ASSIGN(const AliasMove move, PlanPromotion(seen, kLiveAlias, number));
    ASSERT_THAT(MoveAlias(*redis_, keys_, seen, move, 100), IsOk());
  }
  void ExpectDecides(Follower& follower, std::uint64_t version) {
    Ranker::Reader reader = follower.ranker->NewReader();
    const std::vector<float> scores(5, 0.5F);
    const std::vector<std::string_view> names = {"i"};
    const std::vector<CandidateView> candidates = {{{}, scores}};
    const auto decision = follower.ranker->Rank({.request_id = "r", .user_id = "u", .surface = "feed", .event_time_ms = 1, .user = {}, .context = {},
                                                 .item_ids = names, .candidates = candidates, .expose_count = 0}, reader);
    ASSERT_THAT(decision, IsOk());
    EXPECT_EQ(decision->policy_version, version);
    for (const float action : decision->executed_actions) EXPECT_NEAR(action, ActionOfVersion(version), 1e-6);
  }
  std::int64_t Exists(const std::string& key) { return redis_->Command({"EXISTS", key})->integer; }

  PolicyKeys keys_{"default"};
  SystemClock clock_;
  Log log_{Severity::kError};
  Metrics metrics_;
  test::TempDir folder_;
  DiskFileSystem disk_;
  std::unique_ptr<test::RedisProcess> server_;
  std::optional<Archive> archive_;
  std::optional<RedisConnection> redis_;
  std::optional<Publisher> publisher_;
};

TEST_F(VersionsDeltaTest, ARankerThatHoldsTheBaseTakesTheDeltaAndANewcomerTheParts) {
  ASSERT_OK_AND_ASSIGN(const Published first, publisher_->Publish(AcceptedVersion(1), PointLive::kYes));
  EXPECT_EQ(first.delta_bytes, 0U) << "there is nothing before it";
  const auto follower = Follow("follower");
  ASSERT_TRUE(follower->At(1));
  std::size_t delta_bytes = 0, whole_bytes = 0;
  for (std::uint64_t number = 2; number <= 20; ++number) {
    ASSERT_OK_AND_ASSIGN(const Published published, publisher_->Publish(AcceptedVersion(number), PointLive::kYes));
    EXPECT_GT(published.delta_bytes, 0U);
    delta_bytes += published.delta_bytes;
    whole_bytes += AcceptedVersion(number).weights.size();
    ASSERT_TRUE(follower->At(number));
    ExpectDecides(*follower, number);
  }
  EXPECT_EQ(follower->Fetched("parts"), 1);
  EXPECT_EQ(follower->Fetched("delta"), 19);
  EXPECT_EQ(follower->Refused(), 0);
  const auto newcomer = Follow("newcomer");
  ASSERT_TRUE(newcomer->At(20));
  ExpectDecides(*newcomer, 20);
  EXPECT_EQ(newcomer->Fetched("parts"), 1);
  // What was rebuilt on the way is what the archive holds, as one who reads the parts sees it.
  ASSERT_OK_AND_ASSIGN(const ArchivedVersion archived, archive_->Get(20));
  ASSERT_OK_AND_ASSIGN(const ArchivedVersion fetched, FetchVersion(*redis_, keys_, 20, {}));
  EXPECT_EQ(fetched.version.weights, archived.version.weights);
  std::cout << "19 deltas of " << delta_bytes << " bytes in place of " << whole_bytes << '\n';
}

TEST_F(VersionsDeltaTest, WhereNoDeltaLeadsFromWhatARankerHoldsItTakesTheParts) {
  ASSERT_THAT(publisher_->Publish(AcceptedVersion(1), PointLive::kYes), IsOk());
  const auto follower = Follow("follower");
  ASSERT_TRUE(follower->At(1));
  // 2 and 3 never serve on their way; an operator goes back to 3, and on to 4.
  for (const std::uint64_t number : {2, 3}) ASSERT_THAT(publisher_->Publish(AcceptedVersion(number), PointLive::kNo), IsOk());
  ASSERT_THAT(publisher_->Publish(AcceptedVersion(4), PointLive::kYes), IsOk());
  ASSERT_TRUE(follower->At(4));
  ASSERT_OK_AND_ASSIGN(v1::AliasState seen, ReadAliases(*redis_, keys_));
  ASSERT_OK_AND_ASSIGN(const AliasMove back, PlanRollback(seen, 3));  // Nobody pointed there before: it has no delta.
  ASSERT_OK_AND_ASSIGN(seen, MoveAlias(*redis_, keys_, seen, back, 100));
  ASSERT_TRUE(follower->At(3));
  ExpectDecides(*follower, 3);
  EXPECT_EQ(follower->Fetched("delta"), 1) << "4 was made from 1, which it held";
  EXPECT_EQ(follower->Fetched("parts"), 2);
  EXPECT_EQ(follower->Refused(), 0) << "an absent delta is nothing to refuse";
  ASSERT_OK_AND_ASSIGN(const AliasMove on, PlanUnpin(seen, 4));
  ASSERT_OK_AND_ASSIGN(seen, MoveAlias(*redis_, keys_, seen, on, 100));
  ASSERT_TRUE(follower->At(4));
  EXPECT_EQ(follower->Fetched("parts"), 3) << "from 3 no delta leads to 4";
}

TEST_F(VersionsDeltaTest, WhateverIsWrongWithADeltaThePartsAreTakenAndItIsCounted) {
  ASSERT_THAT(publisher_->Publish(AcceptedVersion(1), PointLive::kYes), IsOk());
  const auto follower = Follow("follower");
  ASSERT_TRUE(follower->At(1));
  const std::vector<std::pair<const char*, std::function<std::string(v1::VersionDelta)>>> wrongs = {
      {"a flipped bit", [](v1::VersionDelta delta) { return (*delta.mutable_difference())[9] ^= 4, CanonicalBytes(delta); }},
      {"cut", [](const v1::VersionDelta& delta) { return CanonicalBytes(delta).substr(0, CanonicalBytes(delta).size() / 2); }},
      {"no delta at all", [](const v1::VersionDelta&) { return std::string(200, '\xFF'); }},
      {"made from other weights of that number", [](v1::VersionDelta delta) { return delta.set_base_sha256(std::string(32, 'x')), CanonicalBytes(delta); }},
      {"made from another version", [](v1::VersionDelta delta) { return delta.set_base_version(99), CanonicalBytes(delta); }},
      {"leads elsewhere", [](v1::VersionDelta delta) { return delta.set_result_sha256(delta.base_sha256()), CanonicalBytes(delta); }},
      {"of a later coding", [](v1::VersionDelta delta) { return delta.set_coding(7), CanonicalBytes(delta); }},
  };
  std::uint64_t number = 1;
  for (const auto& [wrong, spoil] : wrongs) {
    SCOPED_TRACE(wrong);
    ++number;
    ASSERT_NO_FATAL_FAILURE(PublishSpoilt(number, number - 1, spoil));
    ASSERT_TRUE(follower->At(number));
    ExpectDecides(*follower, number);
    EXPECT_EQ(follower->Refused(), static_cast<double>(number - 1));
  }
  EXPECT_EQ(follower->Fetched("delta"), 0);
  EXPECT_EQ(follower->Fetched("parts"), static_cast<double>(number));
  EXPECT_EQ(follower->ranker->status().refused, 0U) << "no version was";

  // A good one after all of them.
  ASSERT_THAT(publisher_->Publish(AcceptedVersion(number + 1), PointLive::kYes), IsOk());
  ASSERT_TRUE(follower->At(number + 1));
  EXPECT_EQ(follower->Fetched("delta"), 1);
}

TEST_F(VersionsDeltaTest, AGoodDeltaDoesNotHelpAVersionWhoseManifestIsDamaged) {
  ASSERT_THAT(publisher_->Publish(AcceptedVersion(1), PointLive::kYes), IsOk());
  const auto follower = Follow("follower");
  ASSERT_TRUE(follower->At(1));
  ASSERT_NO_FATAL_FAILURE(PublishSpoilt(2, 1, [&](const v1::VersionDelta& delta) {
    EXPECT_THAT(redis_->Command({"APPEND", keys_.manifest(2), "x"}), IsOk());
    return CanonicalBytes(delta);
  }));
  ASSERT_TRUE(Eventually([&] { return follower->ranker->status().refused > 0; }));
  EXPECT_EQ(follower->ranker->status().version, 1U);
}

TEST_F(VersionsDeltaTest, ADeltaGoesWithItsVersionAndIsMissedByNobody) {
  OpenPublisher(/*delta_min_bytes=*/1, /*keep_versions=*/1);
  for (const std::uint64_t number : {1, 2, 3}) ASSERT_THAT(publisher_->Publish(AcceptedVersion(number), PointLive::kYes), IsOk());
  EXPECT_EQ(Exists(keys_.delta(1)), 0);
  EXPECT_EQ(Exists(keys_.delta(2)), 1);
  const auto follower = Follow("follower");
  ASSERT_TRUE(follower->At(3));

  // Lost alone it is no loss: nothing is restored.
  ASSERT_THAT(redis_->Command({"DEL", keys_.delta(3)}), IsOk());
  EXPECT_THAT(publisher_->Check(), IsOk());
  // With everything else: the parts come back, and the next version has a delta again.
  ASSERT_THAT(redis_->Command({"FLUSHALL"}), IsOk());
  ASSERT_THAT(publisher_->Restore(), IsOk());
  ASSERT_THAT(FetchVersion(*redis_, keys_, 3, {}), IsOk());
  EXPECT_EQ(Exists(keys_.delta(3)), 0);
  ASSERT_THAT(publisher_->Publish(AcceptedVersion(4), PointLive::kYes), IsOk());
  ASSERT_TRUE(follower->At(4));
  EXPECT_EQ(follower->Fetched("delta"), 1);

  // Retention takes it with its version.
  ASSERT_THAT(redis_->Command({"ZADD", keys_.left(), "1000", "2"}), IsOk());
  ASSERT_THAT(publisher_->Publish(AcceptedVersion(5), PointLive::kYes), IsOk());
  ASSERT_THAT(redis_->Command({"ZADD", keys_.left(), "1000", "3"}), IsOk());
  EXPECT_EQ(Exists(keys_.delta(4)), 1);
  ASSERT_THAT(publisher_->Publish(AcceptedVersion(6), PointLive::kYes), IsOk());
  ASSERT_THAT(redis_->Command({"ZADD", keys_.left(), "1000", "4"}), IsOk());
  ASSERT_OK_AND_ASSIGN(const ArchivedVersion four, archive_->Get(4));
  ASSERT_THAT(publisher_->Retain(), IsOk());
  EXPECT_EQ(Exists(keys_.manifest(4)), 0);
  EXPECT_EQ(Exists(keys_.delta(4)), 0);

  // What comes from a file comes by its parts.
  ASSERT_OK_AND_ASSIGN(const v1::AliasState seen, ReadAliases(*redis_, keys_));
  EXPECT_THAT(ImportVersion(*redis_, "default", seen, four, {}), IsOk());
  EXPECT_THAT(FetchVersion(*redis_, keys_, 4, {}), IsOk());
  EXPECT_EQ(Exists(keys_.delta(4)), 0);
}

TEST_F(VersionsDeltaTest, SmallOrUnlikeWeightsAndAPublisherToldNotToMakeNone) {
  ASSERT_THAT(publisher_->Publish(AcceptedVersion(1), PointLive::kYes), IsOk());
  PolicyVersion unlike = AcceptedVersion(2);
  Random random(3, "unlike", 0);
  for (char& byte : unlike.weights) byte = static_cast<char>(random.NextBelow(256));
  ASSERT_OK_AND_ASSIGN(const Published published, publisher_->Publish(unlike, PointLive::kYes));
  EXPECT_EQ(published.delta_bytes, 0U) << "it would be as large as the parts";
  OpenPublisher(static_cast<std::int64_t>(unlike.weights.size()) + 1);
  ASSERT_THAT(publisher_->Publish(AcceptedVersion(3), PointLive::kYes), IsOk());
  OpenPublisher(/*delta_min_bytes=*/0);
  ASSERT_THAT(publisher_->Publish(AcceptedVersion(4), PointLive::kYes), IsOk());
  for (const std::uint64_t number : {1, 2, 3, 4}) EXPECT_EQ(Exists(keys_.delta(number)), 0) << number;
}

}  // namespace
}  // namespace fuseline
