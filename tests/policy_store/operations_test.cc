// What operators do beside a running publisher: pins hold, last_good follows, files carry whole versions, lost parts come back, and the
// audit trail says who it was. Method: a real redis-server.
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fuseline/core/file.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/policy_store/aliases.h"
#include "fuseline/policy_store/audit_trail.h"
#include "fuseline/policy_store/fetch.h"
#include "fuseline/policy_store/import.h"
#include "fuseline/policy_store/publisher.h"
#include "fuseline/policy_store/version_file.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/redis_process.h"
#include "fuseline/test_support/temp_dir.h"
#include "versions.h"

namespace fuseline {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class OperationsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(server_, test::RedisProcess::Start());
    ASSERT_OK_AND_ASSIGN(Archive archive, Archive::Open(folder_.path(), /*part_bytes=*/2'000, disk_));
    archive_.emplace(std::move(archive));
    const auto connect = [this] { return RedisConnection::Connect({.address = "unix:" + server_->socket_path()}); };
    ASSERT_OK_AND_ASSIGN(Publisher publisher, Publisher::Open({.retention = {.keep_versions = 2}}, *archive_, connect, clock_, log_, metrics_));
    publisher_.emplace(std::move(publisher));
    ASSERT_THAT(publisher_->Claim(1), IsOk());
    ASSERT_OK_AND_ASSIGN(RedisConnection redis, connect());
    redis_.emplace(std::move(redis));
  }

  void Publish(std::uint64_t version) { ASSERT_THAT(publisher_->Publish(MakeVersion(version), PointLive::kYes), IsOk()); }
  v1::AliasState Aliases() { return ReadAliases(*redis_, keys_).value(); }
  // "live 3 pinned, last_good 1"
  std::string Where() {
    std::string text;
    const v1::AliasState state = Aliases();
    for (const v1::AliasChange& alias : state.aliases()) {
      text += (text.empty() ? "" : ", ") + alias.alias() + ' ' + std::to_string(alias.to_version()) + (alias.pinned() ? " pinned" : "");
    }
    return text;
  }
  Status Do(Result<AliasMove> move) {
    if (!move) return move.error();
    move->who = "ann@desk";
    move->why = "a test";
    const auto moved = MoveAlias(*redis_, keys_, Aliases(), *move, 100);
    return moved ? OkStatus() : moved.error();
  }

  test::TempDir folder_;
  DiskFileSystem disk_;
  SystemClock clock_;
  Log log_{Severity::kError};
  Metrics metrics_;
  PolicyKeys keys_{"default"};
  std::unique_ptr<test::RedisProcess> server_;
  std::optional<Archive> archive_;
  std::optional<Publisher> publisher_;
  std::optional<RedisConnection> redis_;
};

TEST_F(OperationsTest, ARollbackPinsLiveUntilItIsUnpinnedAndLaterVersionsAreStored) {
  for (const std::uint64_t version : {1, 2, 3}) Publish(version);
  EXPECT_EQ(Where(), "last_good 2, live 3");

  ASSERT_THAT(Do(PlanRollback(Aliases(), 0)), IsOk());
  EXPECT_EQ(Where(), "last_good 2, live 2 pinned");
  Publish(4);
  Publish(5);
  EXPECT_EQ(Where(), "last_good 2, live 2 pinned");
  ASSERT_OK_AND_ASSIGN(const auto published, PublishedVersions(*redis_, keys_));
  EXPECT_THAT(published, ElementsAre(1, 2, 3, 4, 5));

  ASSERT_THAT(Do(PlanUnpin(Aliases(), 5)), IsOk());
  EXPECT_EQ(Where(), "last_good 2, live 5");
  Publish(6);
  EXPECT_EQ(Where(), "last_good 5, live 6");
}

TEST_F(OperationsTest, LastGoodIsTheVersionBeforeUnlessThatWasRolledBack) {
  for (const std::uint64_t version : {1, 2, 3, 4}) Publish(version);
  ASSERT_THAT(Do(PlanRollback(Aliases(), 1)), IsOk());
  EXPECT_EQ(Where(), "last_good 1, live 1 pinned") << "4 was rolled back";
  ASSERT_THAT(Do(PlanPromotion(Aliases(), "live", 2)), IsOk());
  EXPECT_EQ(Where(), "last_good 1, live 2 pinned") << "a promotion keeps the pin";
  ASSERT_THAT(Do(PlanPromotion(Aliases(), "canary", 4)), IsOk());
  EXPECT_EQ(Where(), "canary 4, last_good 1, live 2 pinned");
}

TEST_F(OperationsTest, PlansThatMakeNoSenseAreRefusedWithTheReason) {
  EXPECT_THAT(PlanRollback(Aliases(), 0), HasCode(Code::kNotFound));
  EXPECT_THAT(PlanPin(Aliases()), HasCode(Code::kNotFound));
  Publish(1);
  EXPECT_THAT(PlanRollback(Aliases(), 0), HasCode(Code::kNotFound)) << "nothing served before";
  EXPECT_THAT(PlanRollback(Aliases(), 1), HasCode(Code::kConflict));
  EXPECT_THAT(PlanUnpin(Aliases(), 1), HasCode(Code::kConflict));
  ASSERT_THAT(Do(PlanPin(Aliases())), IsOk());
  EXPECT_THAT(PlanPin(Aliases()), AllOf(HasCode(Code::kConflict), MessageNames("ann@desk")));
  EXPECT_THAT(PlanPromotion(Aliases(), "last_good", 1), HasCode(Code::kInvalidInput));
  EXPECT_THAT(PlanPromotion(Aliases(), "live", 1), HasCode(Code::kConflict));
  EXPECT_THAT(Do(PlanPromotion(Aliases(), "live", 9)), HasCode(Code::kNotFound));
}

TEST_F(OperationsTest, APinSurvivesTheLossOfRedis) {
  for (const std::uint64_t version : {1, 2}) Publish(version);
  ASSERT_THAT(Do(PlanRollback(Aliases(), 0)), IsOk());
  ASSERT_THAT(publisher_->Check(), IsOk());  // Sees it.
  ASSERT_THAT(server_->Command({"FLUSHALL"}), IsOk());
  EXPECT_THAT(publisher_->Check(), HasCode(Code::kNotFound));
  ASSERT_THAT(publisher_->Restore(), IsOk());
  EXPECT_EQ(Where(), "last_good 1, live 1 pinned");
  const v1::AliasState state = Aliases();
  const v1::AliasChange& live = *FindAlias(state, kLiveAlias);
  EXPECT_EQ(live.who(), "ann@desk");
  EXPECT_EQ(live.why(), "restored from the archive; a test");
  Publish(3);
  EXPECT_EQ(Where(), "last_good 1, live 1 pinned");
}

TEST_F(OperationsTest, EveryKeyThatGoesMissingIsMissedAndComesBack) {
  Publish(1);
  Publish(2);
  ASSERT_THAT(publisher_->Check(), IsOk());
  const std::vector<std::string> lost = {keys_.part(2, 0),  keys_.part(2, 2), keys_.part(1, 1), keys_.manifest(2),
                                         keys_.versions(), keys_.aliases(),  keys_.epoch(),    keys_.change()};
  for (const std::string& key : lost) {
    SCOPED_TRACE(key);
    const std::string where = Where();
    ASSERT_THAT(redis_->Command({"DEL", key}), IsOk());
    EXPECT_THAT(publisher_->Check(), HasCode(Code::kNotFound));
    ASSERT_THAT(publisher_->Restore(), IsOk());
    EXPECT_THAT(publisher_->Check(), IsOk());
    EXPECT_EQ(Where(), where);
    EXPECT_THAT(FetchVersion(*redis_, keys_, 2, {}), IsOk());
    EXPECT_THAT(FetchVersion(*redis_, keys_, 1, {}), IsOk());
  }
  ASSERT_THAT(redis_->Command({"SETRANGE", keys_.part(2, 0), "2000", "more"}), IsOk());
  EXPECT_THAT(publisher_->Check(), HasCode(Code::kNotFound)) << "a part of another size";
}

TEST_F(OperationsTest, AnAliasThatPointsToDamageIsPutBack) {
  Publish(1);
  Publish(2);
  // A version that this archive does not know, damaged in Redis.
  PolicyVersion foreign = MakeVersion(3, "foreign");
  SealManifest(foreign.manifest, foreign.weights, 2'000);
  const std::string manifest = foreign.manifest.SerializeAsString();
  ASSERT_THAT(redis_->Command({"SET", keys_.manifest(3), manifest}), IsOk());
  for (int i = 0; i < 3; ++i) ASSERT_THAT(redis_->Command({"SET", keys_.part(3, static_cast<std::size_t>(i)), "no part"}), IsOk());
  ASSERT_THAT(Do(PlanPromotion(Aliases(), "live", 3)), IsOk());

  EXPECT_THAT(publisher_->Check(), AllOf(HasCode(Code::kNotFound), MessageNames("live")));
  ASSERT_THAT(publisher_->Restore(), IsOk());
  EXPECT_EQ(Where(), "last_good 1, live 2");
}

TEST_F(OperationsTest, AnExportedVersionIsImportedOnceAndSparedByRetention) {
  PolicyVersion real = MakeVersion(1);
  real.weights = EncodeWeights({{"actor.0.bias", {{900}, std::vector<float>(900, 0.5F)}}});
  ASSERT_THAT(publisher_->Publish(real, PointLive::kYes), IsOk());
  for (const std::uint64_t version : {2, 3, 4}) Publish(version);
  ASSERT_OK_AND_ASSIGN(const ArchivedVersion first, archive_->Get(1));
  const std::string file = EncodeVersionFile(first);
  ASSERT_THAT(redis_->Command({"ZADD", keys_.left(), "1000", "1", "1000", "2"}), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto deleted, publisher_->Retain());
  EXPECT_THAT(deleted, ElementsAre(1, 2));

  ASSERT_OK_AND_ASSIGN(const ArchivedVersion read, DecodeVersionFile(file, {}));
  const ChangeNote note{.who = "ann@desk", .why = "needed", .wall_ms = 5, .changes_kept = 100};
  ASSERT_OK_AND_ASSIGN(const bool was_there, ImportVersion(*redis_, "default", Aliases(), read, note));
  EXPECT_FALSE(was_there);
  ASSERT_OK_AND_ASSIGN(const bool again, ImportVersion(*redis_, "default", Aliases(), read, note));
  EXPECT_TRUE(again);
  ASSERT_OK_AND_ASSIGN(const auto spared, publisher_->Retain());
  EXPECT_THAT(spared, ElementsAre());
  ASSERT_OK_AND_ASSIGN(const ArchivedVersion fetched, FetchVersion(*redis_, keys_, 1, {}));
  EXPECT_EQ(fetched.version.weights, real.weights);

  ArchivedVersion ahead = read;
  ahead.version.manifest.set_version(9);
  EXPECT_THAT(ImportVersion(*redis_, "default", Aliases(), ahead, note), HasCode(Code::kConflict));
  EXPECT_THAT(ImportVersion(*redis_, "other", Aliases(), read, note), HasCode(Code::kInvalidInput));
}

// Whoever can write there can write anything; it must not end retention, nor make it delete what is protected.
TEST_F(OperationsTest, TimesThatAreNoneKeepTheirVersionsAndEndNothing) {
  for (const std::uint64_t version : {1, 2, 3, 4, 5, 6, 7, 8}) Publish(version);
  ASSERT_THAT(redis_->Command({"ZADD", keys_.left(), "18446744073709551615", "1", "+inf", "2", "-inf", "3",
                               "9223372036854775807", "4", "-1e300", "5", "1e308", "6", "1", "not a version"}),
              IsOk());
  ASSERT_THAT(redis_->Command({"ZADD", keys_.versions(), "0", "not a version", "9", "99999999999999999999"}), IsOk());

  ASSERT_OK_AND_ASSIGN(const auto deleted, publisher_->Retain());

  EXPECT_THAT(deleted, ElementsAre(3, 5)) << "the two that left long ago";
  EXPECT_EQ(Where(), "last_good 7, live 8");
}

TEST_F(OperationsTest, NumbersThatNobodyHasCountedToAreRefused) {
  Publish(1);
  for (const std::string& key : {keys_.change(), keys_.epoch()}) {
    const std::string before = redis_->Command({"GET", key})->text;
    for (const char* const number : {"18446744073709551615", "9007199254740993", "-1", "1e3", "99999999999999999999"}) {
      ASSERT_THAT(redis_->Command({"SET", key, number}), IsOk());
      EXPECT_THAT(ReadAliases(*redis_, keys_), HasCode(Code::kCorrupt)) << key << ' ' << number;
    }
    ASSERT_THAT(redis_->Command({"SET", key, before}), IsOk());
  }
  EXPECT_THAT(ReadAliases(*redis_, keys_), IsOk());
}

TEST_F(OperationsTest, APartOfAnotherSizeIsNotFetched) {
  Publish(1);
  const auto bytes_read = [&] {
    const std::string info = redis_->Command({"INFO", "stats"})->text;
    return std::stoull(std::string(RedisInfoField(info, "total_net_output_bytes")));
  };
  ASSERT_THAT(redis_->Command({"SETRANGE", keys_.part(1, 0), "30000000", "x"}), IsOk());
  const auto before = bytes_read();
  EXPECT_THAT(FetchVersion(*redis_, keys_, 1, {}), AllOf(HasCode(Code::kCorrupt), MessageNames(keys_.part(1, 0))));
  EXPECT_LT(bytes_read() - before, 100'000U);
}

TEST_F(OperationsTest, TheAuditTrailKeepsEveryChangeOnceThroughRestartsAndLosses) {
  const auto lines = [&] {
    const std::string text = ReadFile(folder_ / "changes.jsonl").value_or("");
    return std::count(text.begin(), text.end(), '\n');
  };
  Publish(1);
  Publish(2);  // live and last_good.
  ASSERT_THAT(Do(PlanRollback(Aliases(), 0)), IsOk());
  {
    ASSERT_OK_AND_ASSIGN(AuditTrail trail, AuditTrail::Open(folder_.path(), disk_));
    ASSERT_THAT(trail.Follow(*redis_, keys_), IsOk());
    ASSERT_THAT(trail.Follow(*redis_, keys_), IsOk());
  }
  EXPECT_EQ(lines(), 4);
  EXPECT_THAT(ReadFile(folder_ / "changes.jsonl").value(), HasSubstr(R"("who":"ann@desk","why":"a test")"));
  EXPECT_THAT(ReadFile(folder_ / "changes.jsonl").value(), HasSubstr(R"("cause":"ROLLED_BACK","pinned":true)"));

  // A crash left half a line; another life goes on behind it.
  ASSERT_THAT(disk_.Append(folder_ / "changes.jsonl", R"({"id":"9999)"), IsOk());
  ASSERT_OK_AND_ASSIGN(AuditTrail trail, AuditTrail::Open(folder_.path(), disk_));
  ASSERT_THAT(Do(PlanUnpin(Aliases(), 2)), IsOk());
  ASSERT_THAT(trail.Follow(*redis_, keys_), IsOk());
  EXPECT_EQ(lines(), 4 + 1 + 1);

  // A Redis whose clock is behind, or that was emptied: its stream is read from its beginning.
  ASSERT_THAT(redis_->Command({"DEL", keys_.changes()}), IsOk());
  ASSERT_THAT(redis_->Command({"XADD", keys_.changes(), "5-1", "change", "\x1a\x04live"}), IsOk());
  ASSERT_THAT(trail.Follow(*redis_, keys_), IsOk());
  ASSERT_THAT(trail.Follow(*redis_, keys_), IsOk());
  EXPECT_THAT(ReadFile(folder_ / "changes.jsonl").value(), HasSubstr(R"({"id":"5-1","change":{"alias":"live"}})"));
}

TEST_F(OperationsTest, LastGoodThatHasEvidenceStaysUntilThereIsMoreOrARollback) {
  const auto proven = [](std::string_view alias, std::uint64_t version) {
    return AliasMove{.alias = std::string(alias), .to_version = version, .cause = v1::AliasChange::PROVEN};
  };
  for (const std::uint64_t version : {1, 2, 3}) Publish(version);
  EXPECT_EQ(Where(), "last_good 2, live 3") << "without evidence: the one before";
  ASSERT_THAT(Do(proven(kLastGoodAlias, 1)), IsOk());
  ASSERT_THAT(Do(proven(kProvingAlias, 3)), IsOk());
  for (const std::uint64_t version : {4, 5}) Publish(version);
  EXPECT_EQ(Where(), "last_good 1, live 5, proving 3");

  // A rollback goes there, and nothing that came after it is about to be proven.
  ASSERT_THAT(Do(PlanRollback(Aliases(), 0)), IsOk());
  EXPECT_EQ(Where(), "last_good 1, live 1 pinned, proving 1");
  ASSERT_THAT(Do(PlanUnpin(Aliases(), 5)), IsOk());
  Publish(6);
  EXPECT_EQ(Where(), "last_good 1, live 6, proving 1");

  // Who names another one vouches for it; after a loss it is vouched for still.
  ASSERT_THAT(Do(PlanRollback(Aliases(), 4)), IsOk());
  EXPECT_EQ(Where(), "last_good 4, live 4 pinned, proving 4");
  ASSERT_THAT(publisher_->Check(), IsOk());
  ASSERT_THAT(server_->Command({"FLUSHALL"}), IsOk());
  ASSERT_THAT(publisher_->Restore(), IsOk());
  ASSERT_THAT(Do(PlanUnpin(Aliases(), 4)), IsOk());
  for (const std::uint64_t version : {7, 8}) Publish(version);
  EXPECT_EQ(Where(), "last_good 4, live 8, proving 4");
}

}  // namespace
}  // namespace fuseline
