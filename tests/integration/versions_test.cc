// What an operator types reaches every ranker, says who and why, and changes nothing until told to. Method: a real redis-server, a
// publisher with its archive, rankers with their production defaults, and the program itself.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "fuseline/core/child_process.h"
#include "fuseline/core/file.h"
#include "fuseline/core/guarded.h"
#include "fuseline/policy_store/aliases.h"
#include "fuseline/policy_store/fetch.h"
#include "fuseline/policy_store/publisher.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/redis_process.h"
#include "fuseline/test_support/temp_dir.h"
#include "version_fixture.h"

namespace fuseline {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr std::size_t kRankers = 8, kRollbacks = 7;

struct Answer {
  int code;
  std::string output;
  json last() const {
    const std::string text = output.substr(0, output.find_last_not_of('\n') + 1);
    return json::parse(text.substr(text.rfind('\n') == std::string::npos ? 0 : text.rfind('\n') + 1), nullptr, false);
  }
};

class VersionsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(server_, test::RedisProcess::Start());
    ASSERT_OK_AND_ASSIGN(Archive archive, Archive::Open(state_ / "policy", /*part_bytes=*/8 << 20, disk_));
    archive_.emplace(std::move(archive));
    const auto connect = [this] { return RedisConnection::Connect({.address = Address()}); };
    ASSERT_OK_AND_ASSIGN(Publisher publisher, Publisher::Open({}, *archive_, connect, clock_, log_, metrics_));
    publisher_.emplace(std::move(publisher));
    ASSERT_THAT(publisher_->Claim(1), IsOk());
    ASSERT_OK_AND_ASSIGN(RedisConnection redis, connect());
    redis_.emplace(std::move(redis));
  }
  std::string Address() const { return "unix:" + server_->socket_path(); }
  void Publish(std::uint64_t number, bool accepted = true) {
    PolicyVersion version = AcceptedVersion(number);
    version.manifest.mutable_gate()->set_passed(accepted);
    if (!accepted) version.manifest.mutable_gate()->add_reasons("worse than its parent");
    if (accepted) {
      ASSERT_THAT(publisher_->Publish(version, PointLive::kYes), IsOk());
    } else {
      ASSERT_THAT(archive_->Put(version), IsOk());
    }
  }
  Answer Versions(std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--set", "redis.address=" + Address(), "--state", state_.path()});
    return Run(std::move(arguments));
  }
  Answer Run(const std::vector<std::string>& arguments) {
    std::vector<std::string> command = {std::string(std::getenv("FUSELINE_BIN_DIR")) + "/fuseline", "versions"};
    command.insert(command.end(), arguments.begin(), arguments.end());
    const std::string output = files_ / ("output" + std::to_string(++runs_));
    auto child = ChildProcess::Start(command, output);
    if (!child) return {-1, child.error().message};
    const int code = child->Wait();
    return {code, ReadFile(output).value_or("no output")};
  }
  std::uint64_t Live() {
    const v1::AliasState state = ReadAliases(*redis_, PolicyKeys("default")).value();
    return FindAlias(state, kLiveAlias)->to_version();
  }

  test::TempDir state_, files_;
  DiskFileSystem disk_;
  SystemClock clock_;
  Log log_{Severity::kError};
  Metrics metrics_;
  std::unique_ptr<test::RedisProcess> server_;
  std::optional<Archive> archive_;
  std::optional<Publisher> publisher_;
  std::optional<RedisConnection> redis_;
  int runs_ = 0;
};

TEST_F(VersionsTest, ARollbackReachesEveryRankerAndTheNextVersionDoesNotUndoIt) {
  Guarded<std::vector<std::int64_t>> delays_ms;  // From the move to its use, one a ranker.
  std::vector<std::unique_ptr<Ranker>> rankers;
  for (std::size_t i = 0; i < kRankers; ++i) {
    RankerOptions options = OptionsOfRanker(Address(), "ranker-" + std::to_string(i));
    options.seed = i;
    options.on_version = [&](const v1::PolicyManifest&, const v1::AliasChange& change, std::int64_t wall_ms) {
      if (change.cause() == v1::AliasChange::ROLLED_BACK) {
        delays_ms.With([&](std::vector<std::int64_t>& all) { all.push_back(wall_ms - change.wall_ms()); });
      }
    };
    ASSERT_OK_AND_ASSIGN(auto ranker, Ranker::Open(options, log_, metrics_, clock_));
    rankers.push_back(std::move(ranker));
  }
  const auto all_at = [&](std::uint64_t version) {
    return Eventually([&] {
      return std::all_of(rankers.begin(), rankers.end(), [&](const auto& ranker) { return ranker->status().version == version; });
    });
  };
  for (const std::uint64_t version : {1, 2, 3}) Publish(version);
  ASSERT_TRUE(all_at(3));

  const Answer dry = Versions({"rollback", "--json"});
  EXPECT_EQ(dry.code, 0) << dry.output;
  EXPECT_EQ(dry.last()["to"], 2);
  EXPECT_EQ(dry.last()["executed"], false);
  EXPECT_EQ(Live(), 3U);
  EXPECT_EQ(Versions({"rollback", "--execute"}).code, 2) << "no reason";
  const Answer done = Versions({"rollback", "--execute", "--reason", "watch time fell"});
  EXPECT_EQ(done.code, 0) << done.output;

  // The slowest ranker of each rollback; more of them. The promise is kept by the median: so a machine that stands still in one round, as test
  // machines do, fails nothing, and one whose rankers are slow does.
  std::vector<std::int64_t> slowest_ms;
  const auto note = [&] {
    ASSERT_TRUE(all_at(2));
    ASSERT_TRUE(Eventually([&] { return delays_ms.Copy().size() == kRankers; }));
    delays_ms.With([&](std::vector<std::int64_t>& all) {
      slowest_ms.push_back(*std::max_element(all.begin(), all.end()));
      all.clear();
    });
  };
  ASSERT_NO_FATAL_FAILURE(note());
  const auto move = [&](Result<AliasMove> plan) {
    ASSERT_THAT(plan, IsOk());
    plan->wall_ms = clock_.wall_ms();
    ASSERT_THAT(MoveAlias(*redis_, PolicyKeys("default"), ReadAliases(*redis_, PolicyKeys("default")).value(), *plan, 100), IsOk());
  };
  const auto aliases = [&] { return ReadAliases(*redis_, PolicyKeys("default")).value(); };
  while (slowest_ms.size() < kRollbacks) {
    ASSERT_NO_FATAL_FAILURE(move(PlanPromotion(aliases(), kLiveAlias, 3)));
    ASSERT_TRUE(all_at(3));
    ASSERT_NO_FATAL_FAILURE(move(PlanRollback(aliases(), 2)));
    ASSERT_NO_FATAL_FAILURE(note());
  }
  std::sort(slowest_ms.begin(), slowest_ms.end());
  std::cout << "rollbacks in use by all of " << kRankers << " rankers after ms, median and most: " << slowest_ms[kRollbacks / 2] << ' ' << slowest_ms.back() << '\n';
  EXPECT_LT(slowest_ms[kRollbacks / 2], 1'000);

  Publish(4);
  EXPECT_EQ(Live(), 2U);
  const json listed = Versions({"list", "--json"}).last();
  EXPECT_EQ(listed["versions"].size(), 4U);
  const Answer log = Versions({"log"});
  EXPECT_THAT(log.output, HasSubstr("live 3 -> 2 (pinned)"));
  EXPECT_THAT(log.output, HasSubstr("watch time fell"));
  EXPECT_THAT(Versions({"list"}).output, HasSubstr("live(pinned)"));

  EXPECT_EQ(Versions({"unpin", "--execute", "--reason", "mended"}).code, 0);
  ASSERT_TRUE(all_at(4));
}

TEST_F(VersionsTest, WhatTheGateRefusedIsTakenOnlyWhenSaidSo) {
  Publish(1);
  Publish(2);
  Publish(3, /*accepted=*/false);
  const Answer refused = Versions({"promote", "3", "--alias", "canary"});
  EXPECT_EQ(refused.code, 5);
  EXPECT_THAT(refused.output, HasSubstr("worse than its parent"));
  EXPECT_EQ(Versions({"promote", "9"}).code, 4) << "there is none";
  EXPECT_EQ(Versions({"promote", "1", "--alias", "last_good"}).code, 4);
  EXPECT_EQ(Versions({"promote", "2"}).code, 5) << "it is there";
  // Number 3 is ahead of what Redis holds: it waits until the learner has published something newer.
  EXPECT_EQ(Versions({"promote", "3", "--alias", "canary", "--despite-gate", "--execute", "--reason", "to see"}).code, 5);
  Publish(4);
  const Answer done = Versions({"promote", "3", "--alias", "canary", "--despite-gate", "--execute", "--reason", "to see"});
  EXPECT_EQ(done.code, 0) << done.output;
  EXPECT_EQ(Live(), 4U);
  const json shown = Versions({"show", "3", "--json"}).last();
  EXPECT_EQ(shown["aliases"], json::array({"canary"}));
  EXPECT_EQ(shown["gate"]["accepted"], false);
}

TEST_F(VersionsTest, AVersionTravelsAsAFileAndDamageIsRefused) {
  Publish(1);
  Publish(2);
  const std::string file = files_ / "v1.fuseline";
  ASSERT_EQ(Versions({"export", "1", "--to", file}).code, 0);
  EXPECT_THAT(Versions({"import", file}).output, HasSubstr("nothing was changed"));
  EXPECT_THAT(Versions({"import", file, "--execute", "--reason", "back"}).output, HasSubstr("there before"));
  std::string bytes = ReadFile(file).value();
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  ASSERT_THAT(WriteFileAtomically(file, bytes), IsOk());
  EXPECT_EQ(Versions({"import", file}).code, 4);
  EXPECT_EQ(Versions({"import", file, "--execute", "--reason", "damaged"}).code, 4);

  const std::string key = files_ / "key.pem";
  EXPECT_THAT(Run({"keygen", key}).output, HasSubstr("public key:  "));
  EXPECT_EQ(Run({"keygen", key}).code, 2) << "it exists";
  EXPECT_THAT(SigningKey::FromPem(ReadFile(key).value()), IsOk());
  const json difference = Versions({"diff", "1", "2", "--json"}).last();
  EXPECT_GT(difference["tensors"]["actor.0.bias"]["distance"], 0.0);
  EXPECT_EQ(difference["tensors"]["actor.0.weight"]["distance"], 0.0);
  EXPECT_GT(difference["actions"]["mean_absolute"], 0.0);
}

// From one house to another: the archive there has it first, so it outlives the loss of Redis there.
TEST_F(VersionsTest, AnImportedVersionIsInTheArchiveAndInRedis) {
  Publish(1);
  const std::string file = files_ / "v1.fuseline";
  ASSERT_EQ(Versions({"export", "1", "--to", file}).code, 0);

  // given: another archive and Redis, whose learner has come to 3
  ASSERT_OK_AND_ASSIGN(const auto server, test::RedisProcess::Start());
  const test::TempDir state;
  ASSERT_OK_AND_ASSIGN(Archive archive, Archive::Open(state / "policy", /*part_bytes=*/8 << 20, disk_));
  const auto connect = [&] { return RedisConnection::Connect({.address = "unix:" + server->socket_path()}); };
  ASSERT_OK_AND_ASSIGN(Publisher publisher, Publisher::Open({}, archive, connect, clock_, log_, metrics_));
  ASSERT_THAT(publisher.Claim(1), IsOk());
  const auto there = [&](std::vector<std::string> arguments, const std::string& folder) {
    arguments.insert(arguments.end(), {"--set", "redis.address=unix:" + server->socket_path(), "--state", folder});
    return Run(arguments);
  };
  const std::vector<std::string> import = {"import", file, "--execute", "--reason", "from staging"};
  ASSERT_THAT(publisher.Publish(AcceptedVersion(3), PointLive::kYes), IsOk());

  // when: nothing is imported ahead of the learner, without an archive, or damaged; then it is
  std::string bytes = ReadFile(file).value();
  ASSERT_THAT(WriteFileAtomically(files_ / "damaged", bytes.substr(0, bytes.size() - 1)), IsOk());
  EXPECT_EQ(there({"import", files_ / "damaged", "--execute", "--reason", "damaged"}, state.path()).code, 4);
  const test::TempDir nobodys;
  const Answer homeless = there(import, nobodys.path());
  EXPECT_EQ(homeless.code, 4);
  EXPECT_THAT(homeless.output, HasSubstr("no archive is here"));
  EXPECT_EQ(there({"import", file}, nobodys.path()).code, 4) << "a dry run promises no more";
  EXPECT_THAT(archive.List().value(), testing::ElementsAre(3));
  const Answer done = there(import, state.path());
  ASSERT_EQ(done.code, 0) << done.output;

  // then: the same bytes are in both, and come back when Redis loses them
  ASSERT_OK_AND_ASSIGN(const ArchivedVersion here, archive_->Get(1));
  ASSERT_OK_AND_ASSIGN(const ArchivedVersion moved, archive.Get(1));
  EXPECT_EQ(moved.manifest_bytes, here.manifest_bytes);
  EXPECT_EQ(moved.version.weights, here.version.weights);
  ASSERT_OK_AND_ASSIGN(RedisConnection redis, connect());
  const PolicyKeys keys("default");
  ASSERT_OK_AND_ASSIGN(const ArchivedVersion fetched, FetchVersion(redis, keys, 1, {}));
  EXPECT_EQ(fetched.manifest_bytes, here.manifest_bytes);
  ASSERT_EQ(there({"promote", "1", "--alias", "canary", "--execute", "--reason", "try it"}, state.path()).code, 0);
  ASSERT_THAT(publisher.Check(), IsOk());
  ASSERT_THAT(redis.Command({"FLUSHALL"}), IsOk());
  EXPECT_THAT(publisher.Check(), HasCode(Code::kNotFound));
  ASSERT_THAT(publisher.Restore(), IsOk());
  EXPECT_THAT(FetchVersion(redis, keys, 1, {}), IsOk());

  // and what would not be taken does not get into the archive
  const Answer other =
      there({"import", file, "--execute", "--reason", "x", "--set", "policy.name=another"}, state.path());
  EXPECT_EQ(other.code, 4) << other.output;
  Publish(2);
  Publish(4);
  ASSERT_EQ(Versions({"export", "4", "--to", file}).code, 0);
  EXPECT_EQ(there(import, state.path()).code, 5) << "ahead of the learner";
  EXPECT_THAT(archive.List().value(), testing::ElementsAre(1, 3));
}

// What train-scorer leaves in a folder becomes a version beside the policy's, without a learner of its own.
TEST_F(VersionsTest, ATrainedScorerIsImportedPromotedAndRolledBack) {
  // given
  const std::filesystem::path golden = std::filesystem::path(std::getenv("FUSELINE_SOURCE_DIR")) / "tests/golden";
  const auto make = [&](const std::string& name, float bias) {
    PolicyVersion scorer;
    EXPECT_TRUE(scorer.manifest.ParseFromString(ReadFile(golden / "scorer_v1.manifest.pb").value()));
    TensorMap tensors = DecodeWeights(ReadFile(golden / "scorer_v1.safetensors").value()).value();
    tensors["tower_0.1.bias"].values[0] += bias;
    scorer.weights = EncodeWeights(tensors);
    SealManifest(scorer.manifest, scorer.weights, kPartBytesMax);
    const std::filesystem::path folder = std::filesystem::path(files_.path()) / name;
    std::filesystem::create_directory(folder);
    EXPECT_THAT(WriteFileAtomically(folder / "manifest.pb", CanonicalBytes(scorer.manifest)), IsOk());
    EXPECT_THAT(WriteFileAtomically(folder / "weights.safetensors", scorer.weights), IsOk());
    return folder.string();
  };
  const std::string first = make("mmoe-none-1", 0), second = make("mmoe-none-2", 0.5F);
  RankerOptions options = OptionsOfRanker(Address(), "ranker-1");
  options.scorer = true;
  ASSERT_OK_AND_ASSIGN(const auto ranker, Ranker::Open(options, log_, metrics_, clock_));
  const auto serves = [&](std::uint64_t version) { return Eventually([&] { return ranker->status().scorer_version == version; }); };
  const auto execute = [](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--scorer", "--execute", "--reason", "test"});
    return arguments;
  };

  // when, then: nothing goes to the policy itself, and nothing happens unasked
  const Answer wrong = Versions({"import", first});
  EXPECT_EQ(wrong.code, 4);
  EXPECT_THAT(wrong.output, HasSubstr("--scorer"));
  EXPECT_EQ(Versions({"import", first, "--scorer", "--set", "scorer.learn=true"}).code, 5) << "its learner has the numbers";
  EXPECT_THAT(Versions({"import", first, "--scorer"}).output, HasSubstr("nothing was changed"));
  EXPECT_EQ(Versions({"list", "--scorer", "--json"}).last()["versions"].size(), 0U);

  // it goes into archive and Redis, and no gate vouches for it
  const Answer imported = Versions(execute({"import", first}));
  ASSERT_EQ(imported.code, 0) << imported.output;
  EXPECT_EQ(Versions({"promote", "1", "--scorer"}).code, 5);
  ASSERT_EQ(Versions(execute({"promote", "1", "--despite-gate"})).code, 0);
  ASSERT_TRUE(serves(1));
  const json shown = Versions({"show", "1", "--scorer", "--json"}).last();
  EXPECT_EQ(shown["scorer"]["backbone"], "mmoe");
  EXPECT_EQ(shown["aliases"], json::array({"live"}));
  EXPECT_THAT(Versions({"show", "1", "--scorer"}).output, HasSubstr("embedding_width"));

  // the next one has the next number, and a rollback goes back; the policy's own aliases are elsewhere
  EXPECT_THAT(Versions(execute({"import", first})).output, HasSubstr("as it was there before"));
  ASSERT_EQ(Versions(execute({"import", second})).code, 0);
  ASSERT_EQ(Versions(execute({"promote", "2", "--despite-gate"})).code, 0);
  ASSERT_TRUE(serves(2));
  const json difference = Versions({"diff", "1", "2", "--scorer", "--json"}).last();
  EXPECT_GT(difference["scores"]["mean_absolute"], 0.0);
  ASSERT_EQ(Versions(execute({"rollback", "--to", "1", "--despite-gate"})).code, 0);
  ASSERT_TRUE(serves(1));
  EXPECT_EQ(ranker->status().version, 0U);
  EXPECT_EQ(Versions({"list", "--json"}).last()["versions"].size(), 0U);

  // and what is damaged is refused
  std::string weights = ReadFile(second + "/weights.safetensors").value();
  weights[weights.size() / 2] = static_cast<char>(weights[weights.size() / 2] ^ 1);
  ASSERT_THAT(WriteFileAtomically(second + "/weights.safetensors", weights), IsOk());
  EXPECT_EQ(Versions({"import", second, "--scorer"}).code, 4);
}

// A process that learns no scorer keeps an imported one in Redis all the same.
TEST_F(VersionsTest, AnImportedScorerComesBackWhenRedisForgets) {
  // given
  const std::filesystem::path golden = std::filesystem::path(std::getenv("FUSELINE_SOURCE_DIR")) / "tests/golden", folder = files_ / "trained";
  const test::TempDir state;
  std::filesystem::create_directory(folder);
  std::filesystem::copy_file(golden / "scorer_v1.manifest.pb", folder / "manifest.pb");
  std::filesystem::copy_file(golden / "scorer_v1.safetensors", folder / "weights.safetensors");
  const std::vector<std::string> where = {"--set", "redis.address=" + Address(), "--state", state.path()};
  const auto execute = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--scorer", "--execute", "--reason", "test"});
    arguments.insert(arguments.end(), where.begin(), where.end());
    return Run(arguments).code;
  };
  ASSERT_THAT(redis_->Command({"FLUSHALL"}), IsOk());  // What the fixture claimed.
  ASSERT_EQ(execute({"import", folder.string()}), 0);
  ASSERT_EQ(execute({"promote", "1", "--despite-gate"}), 0);
  const std::string log = files_ / "events.jsonl";
  ASSERT_THAT(WriteFileAtomically(log, R"({"event_id":"e","user_id":"u","event_time_ms":1,"feedback":{"request_id":"r","item_id":"i","kind":"CLICK"}})" "\n"),
              IsOk());
  const auto replay = [&] {
    std::vector<std::string> command = {std::string(std::getenv("FUSELINE_BIN_DIR")) + "/fuseline", "replay", log, "--publish"};
    command.insert(command.end(), where.begin(), where.end());
    auto child = ChildProcess::Start(command, files_ / "replay.log");
    return child ? child->Wait() : -1;
  };
  ASSERT_EQ(replay(), 0) << ReadFile(files_ / "replay.log").value_or("");

  // when
  ASSERT_THAT(redis_->Command({"FLUSHALL"}), IsOk());
  ASSERT_EQ(replay(), 0);

  // then
  const v1::AliasState seen = ReadAliases(*redis_, PolicyKeys("default.scorer")).value();
  ASSERT_NE(FindAlias(seen, kLiveAlias), nullptr);
  EXPECT_EQ(FindAlias(seen, kLiveAlias)->to_version(), 1U);
  EXPECT_THAT(FetchVersion(*redis_, PolicyKeys("default.scorer"), 1, {}), IsOk());
}

TEST_F(VersionsTest, WithoutRedisTheArchiveIsShownAndNothingMoves) {
  Publish(1);
  Publish(2);
  server_->Kill();
  EXPECT_EQ(Versions({"list", "--json"}).code, 0);
  EXPECT_EQ(Versions({"show", "2"}).code, 0);
  EXPECT_EQ(Versions({"rollback", "--execute", "--reason", "no"}).code, 3);
  EXPECT_EQ(Versions({"gc"}).code, 3);
}

}  // namespace
}  // namespace fuseline
