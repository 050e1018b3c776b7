// What an operator types reaches every ranker, says who and why, and changes nothing until told to. Method: a real redis-server, a
// publisher with its archive, rankers with their production defaults, and the program itself.
#include <algorithm>
#include <cstdlib>
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
#include "fuseline/policy_store/publisher.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/redis_process.h"
#include "fuseline/test_support/temp_dir.h"
#include "version_fixture.h"

namespace fuseline {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr int kRankers = 8;

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
  for (int i = 0; i < kRankers; ++i) {
    RankerOptions options = OptionsOfRanker(Address(), "ranker-" + std::to_string(i));
    options.seed = static_cast<std::uint64_t>(i);
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

  ASSERT_TRUE(all_at(2));
  ASSERT_TRUE(Eventually([&] { return delays_ms.Copy().size() == kRankers; }));
  const std::vector<std::int64_t> delays = delays_ms.Copy();
  std::cout << "rollback in use by all of " << kRankers << " rankers after ms: " << *std::max_element(delays.begin(), delays.end()) << '\n';

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

  const std::string key = files_ / "key.pem";
  EXPECT_THAT(Run({"keygen", key}).output, HasSubstr("public key:  "));
  EXPECT_EQ(Run({"keygen", key}).code, 2) << "it exists";
  EXPECT_THAT(SigningKey::FromPem(ReadFile(key).value()), IsOk());
  const json difference = Versions({"diff", "1", "2", "--json"}).last();
  EXPECT_GT(difference["tensors"]["actor.0.bias"]["distance"], 0.0);
  EXPECT_EQ(difference["tensors"]["actor.0.weight"]["distance"], 0.0);
  EXPECT_GT(difference["actions"]["mean_absolute"], 0.0);
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
