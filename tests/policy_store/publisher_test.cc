// A writer that was replaced changes nothing; readers see whole versions only; what Redis loses comes back from the archive.
// Method: a real redis-server, publishers held at chosen points, reader threads under constant publication.
#include "fuseline/policy_store/publisher.h"

#include <signal.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fuseline/core/digest.h"
#include "fuseline/policy_store/aliases.h"
#include "fuseline/policy_store/fetch.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/redis_process.h"
#include "fuseline/test_support/temp_dir.h"
#include "versions.h"

namespace fuseline {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using test::RedisProcess;

constexpr std::uint64_t kPartBytes = 2'000;

// One machine of the fleet: an archive of its own and a publisher.
struct Writer {
  explicit Writer(const RedisProcess& server, RetentionRule rule = {}) : address("unix:" + server.socket_path()), retention(rule) {}

  Status Open(const SigningKey* key = nullptr) {
    auto opened = Archive::Open(folder.path(), kPartBytes, disk);
    if (!opened) return opened.error();
    archive.emplace(*std::move(opened));
    const auto connect = [this] { return RedisConnection::Connect({.address = address}); };
    auto made = Publisher::Open({.retention = retention, .signing_key = key, .changes_kept = 100}, *archive, connect, clock, log, metrics);
    if (!made) return made.error();
    publisher.emplace(*std::move(made));
    return OkStatus();
  }

  std::string address;
  RetentionRule retention;
  test::TempDir folder;
  DiskFileSystem disk;
  SystemClock clock;
  Log log{Severity::kError};
  Metrics metrics;
  std::optional<Archive> archive;
  std::optional<Publisher> publisher;
};

class PublisherTest : public ::testing::Test {
 protected:
  void SetUp() override { Serve({}); }
  void Serve(RedisProcess::Options options) { ASSERT_OK_AND_ASSIGN(server_, RedisProcess::Start(options)); }

  RedisConnection Connect() {
    auto redis = RedisConnection::Connect({.address = "unix:" + server_->socket_path()});
    EXPECT_THAT(redis, IsOk());
    return *std::move(redis);
  }
  v1::AliasState Aliases() {
    RedisConnection redis = Connect();
    auto state = ReadAliases(redis, keys_);
    EXPECT_THAT(state, IsOk());
    return *std::move(state);
  }
  std::uint64_t Live() {
    const v1::AliasState state = Aliases();
    const v1::AliasChange* live = FindAlias(state, kLiveAlias);
    return live == nullptr ? 0 : live->to_version();
  }

  PolicyKeys keys_{"default"};
  std::unique_ptr<RedisProcess> server_;
};

TEST_F(PublisherTest, APublishedVersionIsReadBackWholeAndTheChangeStreamTellsOfIt) {
  Writer writer(*server_);
  ASSERT_THAT(writer.Open(), IsOk());
  ASSERT_THAT(writer.publisher->Claim(5), IsOk());
  ASSERT_THAT(writer.publisher->Publish(MakeVersion(1), PointLive::kYes), IsOk());
  ASSERT_THAT(writer.publisher->Publish(MakeVersion(2), PointLive::kNo), IsOk());

  EXPECT_EQ(Live(), 1u);
  RedisConnection redis = Connect();
  ASSERT_OK_AND_ASSIGN(const auto entries, redis.ReadStream(keys_.changes(), "0", 10, 0));
  ASSERT_EQ(entries.size(), 1u);
  EXPECT_EQ(entries[0].fields[0].first, kChangeField);
  ASSERT_OK_AND_ASSIGN(const v1::AliasChange change, DecodeAliasChange(entries[0].fields[0].second));
  EXPECT_EQ(std::tuple(change.epoch(), change.change(), change.alias(), change.from_version(), change.to_version()),
            std::tuple(5u, 1u, "live", 0u, 1u));
  ASSERT_OK_AND_ASSIGN(const ArchivedVersion read, FetchVersion(redis, keys_, 1, change.manifest_sha256()));
  EXPECT_EQ(read.version.weights, MakeVersion(1).weights);
  ASSERT_OK_AND_ASSIGN(const std::uint64_t newest, NewestPublished(redis, keys_));
  EXPECT_EQ(newest, 2u);
}

TEST_F(PublisherTest, TheSameVersionAgainIsDoneAndAnotherUnderItsNumberRefused) {
  Writer writer(*server_);
  ASSERT_THAT(writer.Open(), IsOk());
  ASSERT_THAT(writer.publisher->Claim(1), IsOk());
  for (const std::uint64_t version : {1, 2}) ASSERT_THAT(writer.publisher->Publish(MakeVersion(version), PointLive::kYes), IsOk());
  RedisConnection redis = Connect();
  ASSERT_OK_AND_ASSIGN(const v1::AliasState rolled_back,
                       MoveAlias(redis, keys_, Aliases(), {.alias = "live", .to_version = 1, .who = "ann", .why = "worse"}, 100));

  // A repeat moves nothing: it must not undo what an operator did after the first time.
  ASSERT_OK_AND_ASSIGN(const Published again, writer.publisher->Publish(MakeVersion(2), PointLive::kYes));
  EXPECT_TRUE(again.was_there);
  EXPECT_EQ(again.change, rolled_back.change());
  EXPECT_EQ(Live(), 1u);

  EXPECT_THAT(writer.publisher->Publish(MakeVersion(2, "other"), PointLive::kYes), HasCode(Code::kConflict));
  Writer other(*server_);  // Its archive knows nothing of version 2; Redis refuses.
  ASSERT_THAT(other.Open(), IsOk());
  ASSERT_THAT(other.publisher->Claim(2), IsOk());
  EXPECT_THAT(other.publisher->Publish(MakeVersion(2, "other"), PointLive::kYes), HasCode(Code::kConflict));
  EXPECT_THAT(FetchVersion(redis, keys_, 2, {}), IsOk());
  EXPECT_EQ(Live(), 1u);
}

TEST_F(PublisherTest, AWriterThatWasReplacedChangesNothingInAHundredRounds) {
  for (std::uint64_t round = 0; round < 100; ++round) {
    SCOPED_TRACE(testing::Message() << "round " << round);
    const std::uint64_t version = 2 * round + 1;
    Writer held(*server_), next(*server_);
    ASSERT_THAT(held.Open(), IsOk());
    ASSERT_THAT(held.publisher->Claim(2 * round + 1), IsOk());
    if (round % 2 == 0) {
      ASSERT_THAT(held.publisher->Publish(MakeVersion(version, "held"), PointLive::kYes), IsOk());
    }
    ASSERT_THAT(next.Open(), IsOk());
    ASSERT_THAT(next.publisher->Claim(2 * round + 2), IsOk());
    ASSERT_THAT(next.publisher->Publish(MakeVersion(version + 1, "next"), PointLive::kYes), IsOk());
    const std::string before = Aliases().SerializeAsString();

    EXPECT_THAT(held.publisher->Publish(MakeVersion(version + 1, "held"), PointLive::kYes), HasCode(Code::kConflict));
    EXPECT_THAT(held.publisher->Publish(MakeVersion(version + 100'000, "held"), PointLive::kYes), HasCode(Code::kConflict));
    EXPECT_THAT(held.publisher->Restore(), HasCode(Code::kConflict));
    EXPECT_THAT(held.publisher->Retain(), HasCode(Code::kConflict));
    EXPECT_THAT(held.publisher->Claim(2 * round + 1), HasCode(Code::kConflict));

    EXPECT_EQ(Aliases().SerializeAsString(), before);
    RedisConnection redis = Connect();
    ASSERT_OK_AND_ASSIGN(const ArchivedVersion read, FetchVersion(redis, keys_, version + 1, {}));
    EXPECT_EQ(read.version.weights, MakeVersion(version + 1, "next").weights);
    ASSERT_OK_AND_ASSIGN(const std::uint64_t newest, NewestPublished(redis, keys_));
    EXPECT_EQ(newest, version + 1);
  }
}

TEST_F(PublisherTest, ReadersUnderConstantPublicationSeeWholeVersionsThatOnlyAdvance) {
  Writer writer(*server_);
  ASSERT_THAT(writer.Open(), IsOk());
  ASSERT_THAT(writer.publisher->Claim(1), IsOk());
  ASSERT_THAT(writer.publisher->Publish(MakeVersion(1), PointLive::kYes), IsOk());
  std::atomic<bool> stop = false;
  std::atomic<int> reads = 0, wrong = 0;
  std::vector<std::jthread> readers;
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back([&, redis = std::make_shared<RedisConnection>(Connect())] {
      v1::AliasChange last;
      while (!stop) {
        const auto state = ReadAliases(*redis, keys_);
        const v1::AliasChange* live = state ? FindAlias(*state, kLiveAlias) : nullptr;
        const bool is_older = live == nullptr || IsNewer(last, *live);
        const auto version = is_older ? Result<ArchivedVersion>() : FetchVersion(*redis, keys_, live->to_version(), live->manifest_sha256());
        const bool is_whole = !is_older && version && version->version.weights == MakeVersion(live->to_version()).weights;
        if (!is_whole) ++wrong;
        if (live != nullptr) last = *live;
        ++reads;
      }
    });
  }
  for (std::uint64_t version = 2; version <= 150; ++version) {
    EXPECT_THAT(writer.publisher->Publish(MakeVersion(version), PointLive::kYes), IsOk());
  }
  stop = true;
  readers.clear();
  EXPECT_EQ(wrong, 0) << "of " << reads;
  EXPECT_GT(reads, 100);
}

TEST_F(PublisherTest, AFlushedRedisIsUnfencedAndRestoredUnderNumbersThatNeverGoBack) {
  Writer writer(*server_);
  ASSERT_THAT(writer.Open(), IsOk());
  ASSERT_THAT(writer.publisher->Claim(3), IsOk());
  for (const std::uint64_t version : {1, 2, 3}) ASSERT_THAT(writer.publisher->Publish(MakeVersion(version), PointLive::kYes), IsOk());
  RedisConnection redis = Connect();
  ASSERT_THAT(MoveAlias(redis, keys_, Aliases(), {.alias = "last_good", .to_version = 2, .who = "ann", .why = "safe"}, 100), IsOk());
  ASSERT_THAT(writer.publisher->Retain(), IsOk());  // Sees the operator's move.
  const std::uint64_t before = Aliases().change();

  ASSERT_THAT(server_->Command({"FLUSHALL"}), IsOk());
  EXPECT_THAT(writer.publisher->Publish(MakeVersion(4), PointLive::kYes), AllOf(HasCode(Code::kNotFound), MessageNames("unfenced")));
  EXPECT_EQ(Live(), 0u);
  ASSERT_THAT(writer.publisher->Restore(), IsOk());

  const v1::AliasState after = Aliases();
  ASSERT_EQ(after.aliases_size(), 2);
  for (const v1::AliasChange& alias : after.aliases()) {
    EXPECT_GT(alias.change(), before);
    EXPECT_THAT(FetchVersion(redis, keys_, alias.to_version(), alias.manifest_sha256()), IsOk());
  }
  EXPECT_EQ(FindAlias(after, "last_good")->to_version(), 2u);
  EXPECT_EQ(Live(), 3u);
  ASSERT_THAT(writer.publisher->Publish(MakeVersion(4), PointLive::kYes), IsOk());
  EXPECT_EQ(Live(), 4u);
  EXPECT_GT(Aliases().change(), after.change());
  EXPECT_THAT(writer.publisher->Restore(), IsOk());  // Nothing is lost now: nothing is done.
  EXPECT_EQ(Live(), 4u);
}

TEST_F(PublisherTest, ALostSignatureIsMissedAndComesBack) {
  ASSERT_OK_AND_ASSIGN(const SigningKey key, SigningKey::Generate());
  ASSERT_OK_AND_ASSIGN(const PublicKeys trusted, PublicKeys::FromHex(ToHex(key.public_key())));
  Writer writer(*server_);
  ASSERT_THAT(writer.Open(&key), IsOk());
  ASSERT_THAT(writer.publisher->Claim(1), IsOk());
  ASSERT_THAT(writer.publisher->Publish(MakeVersion(1), PointLive::kYes), IsOk());
  EXPECT_THAT(writer.publisher->Check(), IsOk());
  RedisConnection redis = Connect();
  ASSERT_THAT(redis.Command({"DEL", keys_.signature(1)}), IsOk());
  EXPECT_THAT(writer.publisher->Check(), HasCode(Code::kNotFound));
  ASSERT_THAT(writer.publisher->Restore(), IsOk());
  EXPECT_THAT(writer.publisher->Check(), IsOk());
  EXPECT_THAT(FetchVersion(redis, keys_, 1, {}, trusted), IsOk());
}

TEST_F(PublisherTest, ARestartedLearnerFindsTheEmptyRedisAndRestoresIt) {
  Writer writer(*server_);
  ASSERT_THAT(writer.Open(), IsOk());
  ASSERT_THAT(writer.publisher->Claim(1), IsOk());
  ASSERT_THAT(writer.publisher->Publish(MakeVersion(1), PointLive::kYes), IsOk());
  server_->Kill();
  EXPECT_THAT(writer.publisher->Publish(MakeVersion(2), PointLive::kYes), HasCode(Code::kUnavailable));
  EXPECT_THAT(writer.publisher->Publish(MakeVersion(2), PointLive::kYes), HasCode(Code::kUnavailable));
  ASSERT_THAT(server_->Restart(), IsOk());

  ASSERT_THAT(writer.Open(), IsOk());
  EXPECT_THAT(writer.publisher->Claim(2), HasCode(Code::kNotFound));
  ASSERT_THAT(writer.publisher->Restore(), IsOk());
  EXPECT_EQ(Live(), 1u);
  ASSERT_THAT(writer.publisher->Publish(MakeVersion(2), PointLive::kYes), IsOk());
  EXPECT_EQ(Live(), 2u);
}

TEST_F(PublisherTest, ARedisKilledInTheMiddleIsOvercomeByRepeatingTheCall) {
  Serve({.append_only = true});
  Writer writer(*server_);
  ASSERT_THAT(writer.Open(), IsOk());
  ASSERT_THAT(writer.publisher->Claim(1), IsOk());
  for (std::uint64_t version = 1; version <= 12; ++version) {
    std::jthread killer([&] {
      if (version % 3 != 0) return;
      ::kill(server_->pid(), SIGKILL);  // At whatever point the publication has reached.
    });
    Status published = ErrorStatus(Code::kUnavailable, "not tried");
    for (int attempt = 0; !published.ok() && attempt < 10; ++attempt) {
      const auto result = writer.publisher->Publish(MakeVersion(version, "plain", 200'000), PointLive::kYes);
      published = result ? OkStatus() : result.error();
      if (published.code == Code::kNotFound) {
        EXPECT_THAT(writer.publisher->Restore(), IsOk());
      }
      if (published.code != Code::kUnavailable) continue;
      if (killer.joinable()) killer.join();
      server_->Kill();
      ASSERT_THAT(server_->Restart(), IsOk());
    }
    ASSERT_THAT(published, IsOk());
    if (killer.joinable()) killer.join();
    if (version % 3 == 0) {
      server_->Kill();
      ASSERT_THAT(server_->Restart(), IsOk());
    }
  }
  const auto again = writer.publisher->Publish(MakeVersion(12, "plain", 200'000), PointLive::kYes);
  if (!again) {
    ASSERT_THAT(writer.publisher->Publish(MakeVersion(12, "plain", 200'000), PointLive::kYes), IsOk());
  }
  EXPECT_EQ(Live(), 12u);
  RedisConnection redis = Connect();
  EXPECT_THAT(FetchVersion(redis, keys_, 12, {}), IsOk());
}

TEST_F(PublisherTest, AReplacedWriterThatRefilledAFlushedRedisIsOverruledByItsSuccessor) {
  Writer old(*server_), current(*server_);
  ASSERT_THAT(old.Open(), IsOk());
  ASSERT_THAT(old.publisher->Claim(1), IsOk());
  ASSERT_THAT(old.publisher->Publish(MakeVersion(1), PointLive::kYes), IsOk());
  ASSERT_THAT(current.Open(), IsOk());
  ASSERT_THAT(current.publisher->Claim(2), IsOk());
  ASSERT_THAT(current.publisher->Publish(MakeVersion(2), PointLive::kYes), IsOk());
  ASSERT_THAT(server_->Command({"FLUSHALL"}), IsOk());
  ASSERT_THAT(old.publisher->Restore(), IsOk());
  EXPECT_EQ(Live(), 1u);
  EXPECT_THAT(current.publisher->Publish(MakeVersion(3), PointLive::kYes), HasCode(Code::kNotFound));
  ASSERT_THAT(current.publisher->Restore(), IsOk());
  EXPECT_EQ(Live(), 2u);
  EXPECT_THAT(old.publisher->Publish(MakeVersion(4), PointLive::kYes), HasCode(Code::kConflict));
}

TEST_F(PublisherTest, ANewcomerWithoutAnArchiveTakesOverWhatTheAliasesPointTo) {
  Writer first(*server_), second(*server_);
  ASSERT_THAT(first.Open(), IsOk());
  ASSERT_THAT(first.publisher->Claim(1), IsOk());
  ASSERT_THAT(first.publisher->Publish(MakeVersion(1), PointLive::kYes), IsOk());
  ASSERT_THAT(second.Open(), IsOk());
  ASSERT_THAT(second.publisher->Claim(2), IsOk());
  ASSERT_OK_AND_ASSIGN(const ArchivedVersion taken, second.archive->Get(1));
  EXPECT_EQ(taken.version.weights, MakeVersion(1).weights);
  ASSERT_THAT(server_->Command({"FLUSHALL"}), IsOk());
  ASSERT_THAT(second.publisher->Restore(), IsOk());
  EXPECT_EQ(Live(), 1u);
}

TEST_F(PublisherTest, RetentionKeepsTheNewestTheRecentlyLeftAndWhateverIsPointedTo) {
  Writer writer(*server_, {.keep_versions = 2, .keep_pointed_ms = 600'000});
  ASSERT_THAT(writer.Open(), IsOk());
  ASSERT_THAT(writer.publisher->Claim(1), IsOk());
  for (std::uint64_t version = 1; version <= 8; ++version) {
    const bool is_pointed = version == 1 || version == 3;
    ASSERT_THAT(writer.publisher->Publish(MakeVersion(version), is_pointed ? PointLive::kYes : PointLive::kNo), IsOk());
  }
  // Given: live is 3 and left 1 just now; 7 and 8 are the newest.
  ASSERT_OK_AND_ASSIGN(const auto deleted, writer.publisher->Retain());
  EXPECT_THAT(deleted, ElementsAre(2, 4, 5, 6));
  ASSERT_OK_AND_ASSIGN(const auto archived, writer.archive->List());
  EXPECT_THAT(archived, ElementsAre(1, 3, 7, 8));
  RedisConnection redis = Connect();
  for (const std::uint64_t version : {1, 3, 7, 8}) EXPECT_THAT(FetchVersion(redis, keys_, version, {}), IsOk());
  EXPECT_THAT(server_->Command({"EXISTS", keys_.manifest(2), keys_.part(2, 0), keys_.part(2, 2)}), IsOk());
  ASSERT_OK_AND_ASSIGN(const RedisReply rest, redis.Command({"EXISTS", keys_.manifest(2), keys_.part(2, 0), keys_.part(2, 2)}));
  EXPECT_EQ(rest.integer, 0);

  // When its time is over, 1 goes too; 3 stays for as long as it is pointed to, by last_good from now on.
  ASSERT_THAT(writer.publisher->Publish(MakeVersion(9), PointLive::kYes), IsOk());
  ASSERT_THAT(redis.Command({"ZADD", keys_.left(), "1000", "1", "1000", "3"}), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto later, writer.publisher->Retain());
  EXPECT_THAT(later, ElementsAre(1, 7));
  EXPECT_THAT(FetchVersion(redis, keys_, 3, {}), IsOk());
}

TEST_F(PublisherTest, RetentionStopsWhenAnAliasMovedSinceItLooked) {
  Writer writer(*server_, {.keep_versions = 1, .keep_pointed_ms = 1'000});
  ASSERT_THAT(writer.Open(), IsOk());
  ASSERT_THAT(writer.publisher->Claim(1), IsOk());
  for (std::uint64_t version = 1; version <= 3; ++version) {
    ASSERT_THAT(writer.publisher->Publish(MakeVersion(version), version == 3 ? PointLive::kYes : PointLive::kNo), IsOk());
  }
  RedisConnection redis = Connect();
  const v1::AliasState seen = Aliases();
  ASSERT_THAT(MoveAlias(redis, keys_, seen, {.alias = "canary", .to_version = 1, .who = "ann", .why = "try"}, 100), IsOk());
  EXPECT_THAT(DeleteOldVersions(redis, keys_, seen, 1, writer.retention, nullptr), HasCode(Code::kConflict));
  EXPECT_THAT(FetchVersion(redis, keys_, 1, {}), IsOk());
  // The same for a second operator who looked at the same time, and for a version that is not there.
  EXPECT_THAT(MoveAlias(redis, keys_, seen, {.alias = "canary", .to_version = 2}, 100), HasCode(Code::kConflict));
  EXPECT_THAT(MoveAlias(redis, keys_, Aliases(), {.alias = "canary", .to_version = 99}, 100), HasCode(Code::kNotFound));
}

TEST_F(PublisherTest, AServerThatMayEvictIsRefusedWithTheWayOut) {
  ASSERT_THAT(server_->Command({"CONFIG", "SET", "maxmemory-policy", "allkeys-lru"}), IsOk());
  Writer writer(*server_);
  EXPECT_THAT(writer.Open(), AllOf(HasCode(Code::kInvalidInput), MessageNames("CONFIG SET maxmemory-policy noeviction")));
}

TEST_F(PublisherTest, AFullRedisTakesNothingAndTheOldVersionStaysLive) {
  Writer writer(*server_);
  ASSERT_THAT(writer.Open(), IsOk());
  ASSERT_THAT(writer.publisher->Claim(1), IsOk());
  ASSERT_THAT(writer.publisher->Publish(MakeVersion(1), PointLive::kYes), IsOk());
  ASSERT_THAT(server_->Command({"CONFIG", "SET", "maxmemory", "1"}), IsOk());
  EXPECT_THAT(writer.publisher->Publish(MakeVersion(2), PointLive::kYes), HasCode(Code::kUnavailable));
  EXPECT_EQ(Live(), 1u);
  ASSERT_THAT(server_->Command({"CONFIG", "SET", "maxmemory", "0"}), IsOk());
  EXPECT_THAT(writer.publisher->Publish(MakeVersion(2), PointLive::kYes), IsOk());
  EXPECT_EQ(Live(), 2u);
}

}  // namespace
}  // namespace fuseline
