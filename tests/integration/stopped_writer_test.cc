// A writer's process that is stopped in the middle of its publications, replaced, and goes on: nothing of what it still
// says is seen by anybody. Method: a real redis-server, SIGSTOP and SIGCONT of a real process at random instants,
// rankers that note all they take. FUSELINE_PROOF_SHARE (default 0.05) is the share of 100 rounds that is run.
#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fuseline/core/child_process.h"
#include "fuseline/core/file.h"
#include "fuseline/core/guarded.h"
#include "fuseline/core/random.h"
#include "fuseline/policy_store/aliases.h"
#include "fuseline/policy_store/fetch.h"
#include "fuseline/policy_store/publisher.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/redis_process.h"
#include "fuseline/test_support/temp_dir.h"
#include "version_fixture.h"

namespace fuseline {
namespace {

constexpr std::uint64_t kSeed = 11;
constexpr int kFencedExit = 5;
constexpr int kPublicationsOfTheNext = 5;

int Rounds() {
  const char* const share = std::getenv("FUSELINE_PROOF_SHARE");
  return std::max(1, static_cast<int>(100 * (share == nullptr ? 0.05 : std::atof(share))));
}

bool IsStopped(std::int64_t pid) {
  const std::string stat = ReadFile("/proc/" + std::to_string(pid) + "/stat").value_or("");
  const std::size_t name_end = stat.rfind(')');
  return name_end != std::string::npos && stat.substr(name_end, 3) == ") T";
}

class StoppedWriterTest : public ::testing::Test {
 protected:
  using Seen = std::vector<std::pair<v1::AliasChange, std::uint64_t>>;  // The change, and the epoch of the writer that made the version.

  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(server_, test::RedisProcess::Start());
    redis_.emplace(*RedisConnection::Connect({.address = Address(), .command_timeout_ms = 60'000}));
    for (std::size_t i = 0; i < seen_.size(); ++i) {
      RankerOptions options = OptionsOfRanker(Address(), "ranker-" + std::to_string(i));
      options.fetch_jitter_ms = 0;
      options.on_version = [this, i](const v1::PolicyManifest& manifest, const v1::AliasChange& change, std::int64_t) {
        seen_[i].With([&](Seen& all) { all.emplace_back(change, manifest.lineage().epoch()); });
      };
      rankers_.push_back(*Ranker::Open(options, log_, metrics_, clock_));
    }
  }
  std::string Address() const { return "unix:" + server_->socket_path(); }
  v1::AliasState Aliases() { return ReadAliases(*redis_, keys_).value(); }
  std::uint64_t Newest() { return NewestPublished(*redis_, keys_).value_or(0); }

  // Starts a writer, and stops it at a random instant after its first publications.
  Result<ChildProcess> StartAndStop(const std::string& folder, std::uint64_t epoch, Random& random) {
    FUSELINE_ASSIGN_OR_FAIL(ChildProcess writer,
                            ChildProcess::Start({std::string(std::getenv("FUSELINE_BIN_DIR")) + "/fuseline_version_writer", Address(), folder,
                                                 std::to_string(epoch), std::to_string(Newest() + 1)}));
    const std::uint64_t published = Newest() + 1 + random.NextBelow(5);
    const bool reached = Eventually([&] { return Aliases().epoch() == epoch && Newest() >= published; });
    const std::int64_t until_us = clock_.monotonic_us() + static_cast<std::int64_t>(random.NextBelow(3'000));
    while (clock_.monotonic_us() < until_us) continue;  // Anywhere in a publication.
    writer.Signal(SIGSTOP);
    if (!reached || !Eventually([&] { return IsStopped(writer.pid()); })) return Error(Code::kInternal, "the writer did not publish, or not stop");
    return writer;
  }

  PolicyKeys keys_{"default"};
  SystemClock clock_;
  Log log_{Severity::kError};
  Metrics metrics_;
  std::unique_ptr<test::RedisProcess> server_;
  std::optional<RedisConnection> redis_;
  std::array<Guarded<Seen>, 3> seen_;
  std::vector<std::unique_ptr<Ranker>> rankers_;
};

TEST_F(StoppedWriterTest, WhatItSaysAfterItWasReplacedIsSeenByNobody) {
  Random random(kSeed, "stopped", 0);
  const int rounds = Rounds();
  for (int round = 0; round < rounds; ++round) {
    SCOPED_TRACE(testing::Message() << "round " << round << ", seed " << kSeed);
    // Given a process that publishes, and is stopped
    const std::uint64_t epoch = 2 * static_cast<std::uint64_t>(round) + 1;
    const test::TempDir folder, next_folder;
    ASSERT_OK_AND_ASSIGN(ChildProcess stopped, StartAndStop(folder.path(), epoch, random));
    // When another claims the policy and publishes
    DiskFileSystem disk;
    ASSERT_OK_AND_ASSIGN(Archive archive, Archive::Open(next_folder.path(), /*part_bytes=*/700, disk));
    const auto connect = [this] { return RedisConnection::Connect({.address = Address(), .command_timeout_ms = 60'000}); };
    ASSERT_OK_AND_ASSIGN(Publisher next, Publisher::Open({.delta_min_bytes = 1}, archive, connect, clock_, log_, metrics_));
    ASSERT_THAT(next.Claim(epoch + 1), IsOk());
    std::uint64_t number = Newest();
    for (int i = 0; i < kPublicationsOfTheNext; ++i) {
      PolicyVersion version = AcceptedVersion(++number);
      version.manifest.mutable_lineage()->set_epoch(epoch + 1);
      ASSERT_THAT(next.Publish(version, PointLive::kYes), IsOk());
    }
    const std::string before = Aliases().SerializeAsString();
    // and the first goes on
    stopped.Signal(SIGCONT);
    // Then it learns that it was replaced, and has changed nothing
    EXPECT_EQ(stopped.Wait(), kFencedExit);
    EXPECT_EQ(Aliases().SerializeAsString(), before);
    EXPECT_EQ(Newest(), number);
    EXPECT_THAT(next.Check(), IsOk());
    ASSERT_TRUE(Eventually([&] {
      return std::all_of(rankers_.begin(), rankers_.end(), [&](const auto& ranker) { return ranker->status().version == number; });
    }));
  }
  for (const auto& one : seen_) {
    const Seen all = one.Copy();
    int stale = 0, not_greater = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
      stale += all[i].first.epoch() != all[i].second ? 1 : 0;
      not_greater += i > 0 && !IsNewer(all[i].first, all[i - 1].first) ? 1 : 0;
    }
    EXPECT_EQ(stale, 0);
    EXPECT_EQ(not_greater, 0);
    EXPECT_GE(all.size(), static_cast<std::size_t>(rounds));
    std::cout << "a ranker took " << all.size() << " versions over " << rounds << " stopped writers\n";
  }
}

}  // namespace
}  // namespace fuseline
