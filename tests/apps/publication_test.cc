// The stage behind the learner, with a real Redis and a real archive: the archive is told first and whatever happens,
// Redis as soon as it can be, and what others do to the aliases comes back to the learner.
#include "publication.h"

#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fuseline/core/guarded.h"
#include "fuseline/policy_store/aliases.h"
#include "fuseline/policy_store/archive.h"
#include "fuseline/policy_store/fetch.h"
#include "fuseline/policy_store/retention.h"
#include "fuseline/proto/settings.h"
#include "fuseline/test_support/eventually.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/redis_process.h"
#include "fuseline/test_support/shifted_clock.h"
#include "fuseline/test_support/temp_dir.h"

namespace fuseline {
namespace {

using testing::ElementsAre;

PolicyVersion VersionOf(std::uint64_t number, bool accepted = true) {
  PolicyVersion version;
  version.manifest.set_version(number);
  version.manifest.set_policy("default");
  version.manifest.mutable_gate()->set_passed(accepted);
  version.weights = std::string(5'000, static_cast<char>('a' + number));
  return version;
}

class PublicationTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(server_, test::RedisProcess::Start());
    config_.mutable_redis()->set_address("unix:" + server_->socket_path());
    config_.mutable_redis()->set_connect_timeout_ms(10'000);
    config_.mutable_redis()->set_command_timeout_ms(10'000);
  }
  void Open(std::uint64_t epoch) { Open(publication_, folder_, epoch); }
  void Open(std::unique_ptr<Publication>& publication, const test::TempDir& folder, std::uint64_t epoch) {
    Publication::Options options{.config = config_, .folder = folder.path(), .epoch = epoch};
    options.on_published = [this](std::uint64_t version, bool) {
      published_.With([&](auto& all) { all.push_back(version); });
    };
    options.on_use = [this](const std::string& ranker, std::uint64_t version, std::int64_t wall_ms) {
      heard_.With(
          [&](auto& all) { all.push_back(ranker + ' ' + std::to_string(version) + ' ' + std::to_string(wall_ms)); });
    };
    options.on_gone = [this](const std::string& ranker) {
      heard_.With([&](auto& all) { all.push_back(ranker + " gone"); });
    };
    ASSERT_OK_AND_ASSIGN(publication, Publication::Open(std::move(options), {log_, metrics_, clock_}));
  }
  // Waits until the archive has it.
  void Store(std::uint64_t number, bool accepted = true) {
    publication_->Store(VersionOf(number, accepted));
    std::optional<std::uint64_t> stored;
    ASSERT_TRUE(Eventually([&] { return (stored = publication_->TakeStored()).has_value(); }));
    EXPECT_EQ(*stored, number);
  }
  bool IsLive(std::uint64_t version) {
    return Eventually([&] { return publication_->status().live_version == version; });
  }
  RedisConnection Connect() {
    auto redis = RedisConnection::Connect({.address = config_.redis().address(), .command_timeout_ms = 10'000});
    EXPECT_THAT(redis, IsOk());
    return *std::move(redis);
  }
  // As an operator: again where the learner moved something meanwhile.
  template <typename Plan>
  void Move(const Plan& plan) {
    RedisConnection redis = Connect();
    ASSERT_TRUE(Eventually([&] {
      const auto seen = ReadAliases(redis, keys_);
      if (!seen) return false;
      auto move = plan(*seen);
      EXPECT_THAT(move, IsOk());
      move->who = "ann@host";
      move->why = "watch time fell";
      return MoveAlias(redis, keys_, *seen, *move, 100).has_value();
    }));
  }
  std::optional<v1::Act> NextAct() {
    std::optional<v1::Act> act;
    EXPECT_TRUE(Eventually([&] { return (act = publication_->TakeAct()).has_value(); }));
    return act;
  }

  test::ShiftedClock clock_;
  Log log_{Severity::kError};
  Metrics metrics_;
  v1::Config config_ = DefaultSettings();
  PolicyKeys keys_{"default"};
  test::TempDir folder_;
  std::unique_ptr<test::RedisProcess> server_;
  Guarded<std::vector<std::uint64_t>> published_;
  Guarded<std::vector<std::string>> heard_;
  std::unique_ptr<Publication> publication_;  // Last: its thread uses those above.
};

TEST_F(PublicationTest, AcceptedVersionsAreArchivedThenPublishedInOrderAndRefusedOnesArchivedOnly) {
  Open(/*epoch=*/4);
  Store(1);
  Store(2, /*accepted=*/false);
  Store(3);
  ASSERT_TRUE(IsLive(3));
  EXPECT_TRUE(publication_->WaitUntilPublished(/*patience_ms=*/60'000));
  EXPECT_THAT(published_.Copy(), ElementsAre(1, 3));
  const PublicationStatus status = publication_->status();
  EXPECT_TRUE(status.connected);
  EXPECT_EQ(status.epoch, 4U);
  EXPECT_EQ(status.waiting, 0U);
  EXPECT_EQ(status.last_error, "");
  EXPECT_FALSE(status.pin.has_value());
  publication_.reset();
  DiskFileSystem files;
  ASSERT_OK_AND_ASSIGN(const auto archived, Archive::OpenReadOnly(folder_.path(), files).List());
  EXPECT_THAT(archived, ElementsAre(1, 2, 3));
  RedisConnection redis = Connect();
  ASSERT_OK_AND_ASSIGN(const auto in_redis, PublishedVersions(redis, keys_));
  EXPECT_THAT(in_redis, ElementsAre(1, 3));
}

TEST_F(PublicationTest, WithoutAnEpochRedisIsNeverSpokenTo) {
  server_->Kill();
  Open(/*epoch=*/0);
  Store(1);
  EXPECT_EQ(publication_->status().last_error, "");
  EXPECT_FALSE(publication_->failure().has_value());
}

TEST_F(PublicationTest, TheArchiveDoesNotWaitForRedisAndRedisGetsAllOnceItIsThere) {
  server_->Kill();
  Open(1);
  for (const std::uint64_t number : {1, 2, 3}) Store(number);
  ASSERT_TRUE(Eventually([&] { return !publication_->status().last_error.empty(); }));
  EXPECT_FALSE(publication_->status().connected);
  EXPECT_EQ(publication_->status().waiting, 3U);
  EXPECT_FALSE(publication_->WaitUntilPublished(/*patience_ms=*/1));
  EXPECT_TRUE(published_.Copy().empty());

  ASSERT_THAT(server_->Restart(), IsOk());
  ASSERT_TRUE(IsLive(3));
  EXPECT_THAT(published_.Copy(), ElementsAre(1, 2, 3));
  EXPECT_TRUE(Eventually([&] { return publication_->status().last_error.empty(); }));
}

TEST_F(PublicationTest, WhatAFormerLifeArchivedIsPublishedByTheNext) {
  Open(/*epoch=*/0);
  for (const std::uint64_t number : {1, 2}) Store(number);
  publication_.reset();
  Open(1);
  ASSERT_TRUE(IsLive(2));
  EXPECT_THAT(published_.Copy(), ElementsAre(1, 2));
}

TEST_F(PublicationTest, ANewerWriterEndsItAndItSaysWhy) {
  Open(1);
  Store(1);
  ASSERT_TRUE(IsLive(1));
  const test::TempDir other_folder;
  std::unique_ptr<Publication> other;
  Open(other, other_folder, /*epoch=*/2);
  ASSERT_TRUE(Eventually([&] { return publication_->failure().has_value(); }));
  EXPECT_EQ(publication_->failure()->code, Code::kConflict);
  EXPECT_THAT(publication_->failure()->message, testing::HasSubstr("fenced"));
  EXPECT_TRUE(Eventually([&] { return other->status().live_version == 1; })) << "the newcomer takes over what is live";
}

TEST_F(PublicationTest, ARollbackIsAnActThatHoldsAndAnUnpinningOneThatDoesNot) {
  Open(1);
  for (const std::uint64_t number : {1, 2}) Store(number);
  ASSERT_TRUE(IsLive(2));
  EXPECT_FALSE(publication_->TakeAct().has_value()) << "its own publications are no acts of others";

  Move([](const v1::AliasState& seen) { return PlanRollback(seen, 0); });
  const auto held = NextAct();
  ASSERT_TRUE(held);
  EXPECT_EQ(held->incumbent(), 1U);
  EXPECT_TRUE(held->holds());
  EXPECT_EQ(held->who(), "ann@host");
  const PublicationStatus pinned = publication_->status();
  EXPECT_EQ(pinned.live_version, 1U);
  ASSERT_TRUE(pinned.pin);
  EXPECT_EQ(pinned.pin->who(), "ann@host");
  EXPECT_EQ(pinned.pin->why(), "watch time fell");
  Store(3);
  ASSERT_TRUE(Eventually([&] { return published_.Copy().size() == 3; }));
  EXPECT_EQ(publication_->status().live_version, 1U) << "published, and not pointed to";

  Move([](const v1::AliasState& seen) { return PlanUnpin(seen, 3); });
  const auto freed = NextAct();
  ASSERT_TRUE(freed);
  EXPECT_EQ(freed->incumbent(), 3U);
  EXPECT_FALSE(freed->holds());
  EXPECT_GT(freed->number(), held->number());
  EXPECT_FALSE(publication_->status().pin.has_value());
}

TEST_F(PublicationTest, AcknowledgementsAreTakenOnceAndTheFleetIsKnownByName) {
  Open(1);
  for (const std::uint64_t number : {1, 2}) Store(number);
  ASSERT_TRUE(IsLive(2));
  RedisConnection redis = Connect();
  ASSERT_THAT(redis.Command({"HSET", keys_.acks(), "a", "1 1 1000 5000", "b", "2 2 1001 5000", "c", "2 2 1002", "d",
                             "not an acknowledgement", "e", "1 1 1 -5", "f", "0 0 0 5000"}),
              IsOk());
  ASSERT_TRUE(Eventually([&] { return publication_->status().rankers.size() == 4; }));
  ASSERT_THAT(redis.Command({"HSET", keys_.acks(), "a", "2 2 1009 6000"}), IsOk());
  ASSERT_TRUE(Eventually([&] { return publication_->status().rankers.at("a").version == 2; }));
  ASSERT_THAT(redis.Command({"HSET", keys_.acks(), "a", "2 2 1009 7000"}), IsOk());  // Still there.
  ASSERT_TRUE(Eventually([&] { return publication_->status().rankers.at("a").seen_ms == 7000; }));

  EXPECT_THAT(heard_.Copy(), testing::UnorderedElementsAre("a 1 1000", "b 2 1001", "c 2 1002", "f 0 0", "a 2 1009"));
  const auto rankers = publication_->status().rankers;
  EXPECT_EQ(rankers.at("a"), (Acknowledgement{.change = 2, .version = 2, .since_ms = 1009, .seen_ms = 7000}));
  EXPECT_EQ(rankers.at("c").seen_ms, 0) << "a ranker of before";
  EXPECT_FALSE(rankers.contains("d") || rankers.contains("e"));
}

TEST_F(PublicationTest, AcknowledgementsThatCannotBeReadHoldUpNothingElse) {
  Open(1);
  for (const std::uint64_t number : {1, 2}) Store(number);
  ASSERT_TRUE(IsLive(2));
  RedisConnection redis = Connect();
  ASSERT_THAT(redis.Command({"DEL", keys_.acks()}), IsOk());
  ASSERT_THAT(redis.Command({"SET", keys_.acks(), "garbage"}), IsOk());

  Move([](const v1::AliasState& seen) { return PlanRollback(seen, 0); });
  EXPECT_TRUE(NextAct()) << "looks go on";
  ASSERT_THAT(redis.Command({"DEL", keys_.part(1, 0)}), IsOk());
  EXPECT_TRUE(Eventually([&] { return FetchVersion(redis, keys_, 1, {}).has_value(); })) << "and repairs";

  ASSERT_THAT(redis.Command({"DEL", keys_.acks()}), IsOk());
  ASSERT_THAT(redis.Command({"HSET", keys_.acks(), "a", "1 1 1000 5000"}), IsOk());
  EXPECT_TRUE(Eventually([&] { return publication_->status().rankers.contains("a"); }));
  EXPECT_FALSE(publication_->failure().has_value());
}

TEST_F(PublicationTest, ARankerThatFallsSilentIsGoneAndItsLineToo) {
  // given: a monotonic clock that the test moves; one ranker goes on, one is silent, one is of before and speaks only
  // when something changes
  Open(1);
  Store(1);
  ASSERT_TRUE(IsLive(1));
  RedisConnection redis = Connect();
  ASSERT_THAT(redis.Command(
                  {"HSET", keys_.acks(), "silent", "1 1 1000 1000", "alive", "1 1 1000 1000", "before", "1 1 1000"}),
              IsOk());
  ASSERT_TRUE(Eventually([&] { return publication_->status().rankers.size() == 3; }));

  // when
  for (std::int64_t ms = 0; ms <= kRankerGoneMs + kAcknowledgeEveryMs; ms += kAcknowledgeEveryMs) {
    clock_.Advance(kAcknowledgeEveryMs);
    const std::string word = "1 1 1000 " + std::to_string(2'000 + ms);
    ASSERT_THAT(redis.Command({"HSET", keys_.acks(), "alive", word}), IsOk());
    ASSERT_TRUE(Eventually([&] { return publication_->status().rankers.at("alive").seen_ms == 2'000 + ms; }));
  }

  // then
  ASSERT_TRUE(Eventually([&] { return publication_->status().rankers.size() == 2; }));
  EXPECT_FALSE(publication_->status().rankers.contains("silent"));
  EXPECT_EQ(heard_.Copy().back(), "silent gone");
  EXPECT_TRUE(Eventually([&] { return redis.Command({"HEXISTS", keys_.acks(), "silent"})->integer == 0; }));

  // and it may come back
  ASSERT_THAT(redis.Command({"HSET", keys_.acks(), "silent", "1 1 1000 9000"}), IsOk());
  ASSERT_TRUE(Eventually([&] { return publication_->status().rankers.contains("silent"); }));
  EXPECT_EQ(heard_.Copy().back(), "silent 1 1000");
}

TEST_F(PublicationTest, AnExperimentThatCannotBeReadKeepsVersionsAndEndsNothing) {
  config_.mutable_policy_store()->set_keep_versions(1);
  Open(1);
  RedisConnection redis = Connect();
  ASSERT_THAT(redis.Command({"HSET", keys_.experiments(), "x", "garbage"}), IsOk());
  for (const std::uint64_t number : {1, 2, 3, 4}) {
    Store(number);
    ASSERT_TRUE(IsLive(number));
    ASSERT_THAT(redis.Command({"ZADD", keys_.left(), "1000", "2", "1000", "3"}), IsOk());  // Long ago.
  }
  EXPECT_FALSE(publication_->failure().has_value());
  EXPECT_EQ(PublishedVersions(redis, keys_).value(), (std::vector<std::uint64_t>{1, 2, 3, 4}));

  ASSERT_THAT(redis.Command({"HDEL", keys_.experiments(), "x"}), IsOk());
  std::uint64_t number = 4;
  EXPECT_TRUE(Eventually([&] {
    Store(++number);
    return IsLive(number) && redis.Command({"EXISTS", keys_.manifest(2)})->integer == 0;
  })) << "once it is gone";
}

// A cache may lose what it holds, and garbage is no more than that; the same after a restart.
TEST_F(PublicationTest, WhatCannotBeReadInRedisComesBackFromTheArchive) {
  RedisConnection redis = Connect();
  std::uint64_t number = 0;
  const auto is_whole = [&] {
    const auto seen = ReadAliases(redis, keys_);
    const v1::AliasChange* const live = seen ? FindAlias(*seen, kLiveAlias) : nullptr;
    return live != nullptr && live->to_version() == number && seen->epoch() >= 1 && seen->aliases_size() <= 3 &&
           FetchVersion(redis, keys_, number, live->manifest_sha256()).has_value() &&
           FetchVersion(redis, keys_, number - 1, {}).has_value();
  };
  const std::vector<std::vector<std::string>> garbage = {
      {"HSET", keys_.aliases(), "live", "garbage"}, {"HSET", keys_.aliases(), "x", "garbage"},
      {"SET", keys_.change(), "garbage"},           {"SET", keys_.change(), "99999999999999999999"},
      {"SET", keys_.epoch(), "garbage"},            {"SET", keys_.epoch(), "1e9"},
      {"SET", keys_.manifest(0), "garbage"}};
  Open(1);
  Store(++number);
  for (std::vector<std::string> words : garbage) {
    for (const bool is_restarted : {false, true}) {
      Store(++number);
      ASSERT_TRUE(Eventually(is_whole)) << words[1];
      if (is_restarted) publication_.reset();
      if (words[1] == keys_.manifest(0)) {  // Of what is live, and of what is not.
        ASSERT_THAT(redis.Command({"SET", keys_.manifest(number), "garbage"}), IsOk());
        ASSERT_THAT(redis.Command({"SET", keys_.manifest(number - 1), "garbage"}), IsOk());
      } else {
        ASSERT_THAT(redis.Command(RedisCommand(words.begin(), words.end())), IsOk());
      }
      ASSERT_FALSE(is_whole() && words[2] != "x" && publication_ == nullptr) << words[1];
      if (is_restarted) Open(1);
      ASSERT_TRUE(Eventually([&] { return is_whole() || publication_->failure().has_value(); })) << words[1];
      ASSERT_FALSE(publication_->failure().has_value()) << words[1] << ": " << publication_->failure()->message;
    }
  }
  EXPECT_EQ(redis.Command({"HEXISTS", keys_.aliases(), "x"})->integer, 0);
}

// Redis alone knows what left an alias when. A version that is published at the very moment of the loss must not let retention go by what is left.
TEST_F(PublicationTest, WhatLeftAnAliasBeforeALossIsKeptAfterItToo) {
  config_.mutable_policy_store()->set_keep_versions(1);
  Open(1);
  for (const std::uint64_t number : {1, 2, 3, 4}) Store(number);
  ASSERT_TRUE(IsLive(4));
  RedisConnection redis = Connect();

  ASSERT_THAT(redis.Command({"FLUSHALL"}), IsOk());
  for (const std::uint64_t number : {5, 6}) Store(number);
  ASSERT_TRUE(IsLive(6));

  ASSERT_TRUE(Eventually([&] {
    const auto published = PublishedVersions(redis, keys_);
    return published && *published == std::vector<std::uint64_t>{1, 2, 3, 4, 5, 6};
  }));
  publication_.reset();
  DiskFileSystem files;
  EXPECT_EQ(Archive::OpenReadOnly(folder_.path(), files).List().value(), (std::vector<std::uint64_t>{1, 2, 3, 4, 5, 6}));
}

TEST_F(PublicationTest, WhatComesBackAfterALossIsSparedByRedisItself) {
  config_.mutable_policy_store()->set_keep_versions(1);
  Open(1);
  for (const std::uint64_t number : {1, 2, 3, 4}) Store(number);
  ASSERT_TRUE(IsLive(4));
  RedisConnection redis = Connect();
  const auto are_there = [&](const std::vector<std::uint64_t>& expected) {
    return Eventually([&] { return PublishedVersions(redis, keys_).value() == expected; });
  };

  // When Redis is lost while nobody runs, and another life restores it and begins a third one
  publication_.reset();
  ASSERT_THAT(redis.Command({"FLUSHALL"}), IsOk());
  Open(1);
  ASSERT_TRUE(are_there({1, 2, 3, 4}));
  publication_.reset();
  Open(1);
  Store(5);
  ASSERT_TRUE(IsLive(5));

  // Then all stay, also for who asks Redis alone
  ASSERT_TRUE(are_there({1, 2, 3, 4, 5}));
  ASSERT_OK_AND_ASSIGN(const v1::AliasState seen, ReadAliases(redis, keys_));
  EXPECT_THAT(OldVersions(redis, keys_, seen, {.keep_versions = 1}).value(), ElementsAre());
  publication_.reset();
  EXPECT_TRUE(are_there({1, 2, 3, 4, 5}));
}

// A second loss may meet any step of the repair of the first.
TEST_F(PublicationTest, ARedisThatKeepsLosingEverythingIsRepairedWhenItStops) {
  Open(1);
  for (const std::uint64_t number : {1, 2}) Store(number);
  ASSERT_TRUE(IsLive(2));
  RedisConnection redis = Connect();
  for (int i = 0; i < 60; ++i) {
    ASSERT_THAT(redis.Command({"FLUSHALL"}), IsOk());
    ASSERT_TRUE(Eventually(
        [&] { return redis.Command({"DBSIZE"})->integer > i % 8 || publication_->failure().has_value(); }));
    ASSERT_FALSE(publication_->failure().has_value())
        << publication_->failure()->message << ", after losses: " << i + 1;
  }
  EXPECT_TRUE(Eventually([&] {
    const auto seen = ReadAliases(redis, keys_);
    const v1::AliasChange* const live = seen ? FindAlias(*seen, kLiveAlias) : nullptr;
    return live != nullptr && live->to_version() == 2 &&
           FetchVersion(redis, keys_, 2, live->manifest_sha256()).has_value();
  }));
  EXPECT_FALSE(publication_->failure().has_value());
}

TEST_F(PublicationTest, WhatRedisLostComesBackWithoutAnyNewVersion) {
  Open(1);
  for (const std::uint64_t number : {1, 2}) Store(number);
  ASSERT_TRUE(IsLive(2));
  RedisConnection redis = Connect();
  const auto is_whole = [&] {
    const auto seen = ReadAliases(redis, keys_);
    const v1::AliasChange* const live = seen ? FindAlias(*seen, kLiveAlias) : nullptr;
    if (live == nullptr || live->to_version() != 2 || FindAlias(*seen, kLastGoodAlias) == nullptr) return false;
    return FetchVersion(redis, keys_, 2, live->manifest_sha256()).has_value() && FetchVersion(redis, keys_, 1, {}).has_value();
  };
  ASSERT_TRUE(is_whole());
  for (const std::string& lost : {keys_.part(2, 0), keys_.manifest(2), keys_.aliases(), keys_.epoch(), std::string()}) {
    const std::int64_t begin_us = clock_.monotonic_us();
    if (lost.empty()) {
      ASSERT_THAT(redis.Command({"FLUSHALL"}), IsOk());
    } else {
      ASSERT_THAT(redis.Command({"DEL", lost}), IsOk());
    }
    ASSERT_TRUE(Eventually([&] { return is_whole() && redis.Command({"EXISTS", keys_.epoch()})->integer == 1; })) << lost;
    std::cout << (lost.empty() ? "everything" : lost) << " came back after ms: " << (clock_.monotonic_us() - begin_us) / 1'000 << '\n';
  }
  EXPECT_FALSE(publication_->failure().has_value());
}

TEST_F(PublicationTest, LastGoodIsTheVersionThatEnoughSessionsVouchForAndARollbackGoesThere) {
  constexpr int kSessions = 50;
  config_.mutable_rollout()->set_good_after_sessions(kSessions);
  Open(1);
  Store(1);
  RedisConnection redis = Connect();
  const auto at = [&](std::string_view alias) -> std::uint64_t {
    const auto seen = ReadAliases(redis, keys_);
    const v1::AliasChange* const change = seen ? FindAlias(*seen, alias) : nullptr;
    return change == nullptr ? 0 : change->to_version();
  };
  const auto served = [&](std::uint64_t version, int sessions) {
    for (int i = 0; i < sessions; ++i) publication_->Served(version);
  };
  ASSERT_TRUE(Eventually([&] { return at(kProvingAlias) == 1; }));
  for (const std::uint64_t number : {2, 3}) Store(number);
  ASSERT_TRUE(Eventually([&] { return at(kLiveAlias) == 3; }));
  EXPECT_EQ(at(kLastGoodAlias), 2U) << "nothing is proven: the one before";

  // When enough sessions of it, and of what came after it, have closed. (Whether a look lies between is not known: they come until it does.)
  ASSERT_TRUE(Eventually([&] {
    served(1, kSessions / 2);
    served(3, kSessions / 2);
    served(0, kSessions);  // The static weights vouch for nothing.
    return at(kLastGoodAlias) == 1;
  }));
  // Then it is last_good, and the next one is what is live
  ASSERT_TRUE(Eventually([&] { return at(kProvingAlias) == 3; }));
  Store(4);
  ASSERT_TRUE(Eventually([&] { return at(kLiveAlias) == 4; }));
  EXPECT_EQ(at(kLastGoodAlias), 1U) << "3 has not served enough";

  // A rollback goes there, by hand as by a guardrail, and sessions of what was rolled back vouch for nothing.
  Move([](const v1::AliasState& seen) { return PlanRollback(seen, 0); });
  EXPECT_EQ(at(kLiveAlias), 1U);
  EXPECT_EQ(at(kProvingAlias), 1U);
  ASSERT_TRUE(Eventually([&] { return publication_->status().live_version == 1; }));
  served(3, 10 * kSessions);
  served(4, 10 * kSessions);
  Move([](const v1::AliasState& seen) { return PlanUnpin(seen, 4); });
  Store(5);
  ASSERT_TRUE(Eventually([&] { return at(kLiveAlias) == 5; }));
  ASSERT_TRUE(Eventually([&] { return publication_->status().live_version == 5; }));
  EXPECT_EQ(at(kLastGoodAlias), 1U);

  // A loss of Redis changes none of it.
  ASSERT_THAT(redis.Command({"FLUSHALL"}), IsOk());
  ASSERT_TRUE(Eventually([&] { return at(kLastGoodAlias) == 1 && at(kLiveAlias) == 5 && at(kProvingAlias) == 1; }));
}

}  // namespace
}  // namespace fuseline
