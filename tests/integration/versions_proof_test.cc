// What must never happen with versions, tried often: a replaced writer's version in use, a change number that goes back, a damaged or foreign
// version in use, a decision out of two versions, a ranking that fails because Redis does.
// Method: real redis-server, publishers and rankers. FUSELINE_PROOF_SHARE (default 0.05) is the share of the full size that is run: 100 takeovers,
// 10,000 publications, 10,000 damages, 1,000,000 decisions.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fuseline/core/digest.h"
#include "fuseline/core/guarded.h"
#include "fuseline/core/random.h"
#include "fuseline/policy_store/publisher.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/redis_process.h"
#include "fuseline/test_support/tcp_proxy.h"
#include "fuseline/test_support/temp_dir.h"
#include "version_fixture.h"

namespace fuseline {
namespace {

using test::RedisProcess;

int FullSize(int full) {
  const char* const share = std::getenv("FUSELINE_PROOF_SHARE");
  return std::max(1, static_cast<int>(full * (share == nullptr ? 0.05 : std::atof(share))));
}

struct Writer {
  explicit Writer(std::string redis_address, const SigningKey* key = nullptr, RetentionRule rule = {})
      : address(std::move(redis_address)), signing_key(key), retention(rule) {}
  Status Open(std::uint64_t epoch) {
    auto opened = Archive::Open(folder.path(), /*part_bytes=*/700, disk);
    if (!opened) return opened.error();
    archive.emplace(std::move(*opened));
    auto made = Publisher::Open({.retention = retention, .signing_key = signing_key, .delta_min_bytes = 1}, *archive, [this] { return RedisConnection::Connect({.address = address}); },
                                clock, log, metrics);
    if (!made) return made.error();
    publisher.emplace(std::move(*made));
    return publisher->Claim(epoch);
  }
  std::string address;
  const SigningKey* signing_key;
  RetentionRule retention;
  test::TempDir folder;
  DiskFileSystem disk;
  SystemClock clock;
  Log log{Severity::kError};
  Metrics metrics;
  std::optional<Archive> archive;
  std::optional<Publisher> publisher;
};

// A request with one candidate, whose action tells the version.
struct OneCandidate {
  RankingRequest request() {
    return {.request_id = "r", .user_id = "u", .surface = "feed", .event_time_ms = 1, .user = {}, .context = {}, .item_ids = names,
            .candidates = candidates, .expose_count = 0};
  }
  std::vector<float> scores = std::vector<float>(5, 0.5F);
  std::vector<std::string_view> names = {"i"};
  std::vector<CandidateView> candidates = {{{}, scores}};
};

class VersionsProofTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_OK_AND_ASSIGN(server_, RedisProcess::Start({.tcp = true})); }
  std::string Address() const { return "unix:" + server_->socket_path(); }
  std::unique_ptr<Ranker> Follow(RankerOptions options) {
    options.fetch_jitter_ms = 0;
    options.poll_interval_ms = 20;
    return Ranker::Open(std::move(options), log_, metrics_, clock_).value();
  }

  SystemClock clock_;
  Log log_{Severity::kError};
  Metrics metrics_;
  std::unique_ptr<RedisProcess> server_;
};

TEST_F(VersionsProofTest, TakeoversShowNoStaleVersionAndChangesOnlyAdvance) {
  const int publications = FullSize(10'000), takeovers = FullSize(100);
  using Seen = std::vector<std::pair<v1::AliasChange, std::uint64_t>>;  // The change, and the parent that its writer gave the version.
  constexpr int kRankers = 3;
  std::vector<Guarded<Seen>> seen(kRankers);
  std::vector<std::unique_ptr<Ranker>> rankers;
  for (int i = 0; i < kRankers; ++i) {
    RankerOptions options = OptionsOfRanker(Address(), "ranker-" + std::to_string(i));
    options.on_version = [&, i](const v1::PolicyManifest& manifest, const v1::AliasChange& change, std::int64_t) {
      seen[static_cast<std::size_t>(i)].With([&](Seen& all) { all.emplace_back(change, manifest.lineage().epoch()); });
    };
    rankers.push_back(Follow(options));
  }
  const auto version_of = [](std::uint64_t number, std::uint64_t epoch) {
    PolicyVersion version = AcceptedVersion(number);
    version.manifest.mutable_lineage()->set_epoch(epoch);
    return version;
  };
  // Given a writer that stands still at a takeover, its successor publishes, and it goes on.
  auto held = std::make_unique<Writer>(Address());
  ASSERT_THAT(held->Open(1), IsOk());
  std::uint64_t number = 0;
  for (int round = 0; round < takeovers; ++round) {
    SCOPED_TRACE(testing::Message() << "round " << round);
    const std::uint64_t epoch = static_cast<std::uint64_t>(round) + 2;
    auto next = std::make_unique<Writer>(Address());
    ASSERT_THAT(next->Open(epoch), IsOk());
    for (int i = 0; i < publications / takeovers; ++i) {
      ASSERT_THAT(next->publisher->Publish(version_of(++number, epoch), PointLive::kYes), IsOk());
      if (i % 10 == 0) {
        EXPECT_THAT(held->publisher->Publish(version_of(number + 1, epoch - 1), PointLive::kYes), HasCode(Code::kConflict));
      }
    }
    EXPECT_THAT(held->publisher->Restore(), HasCode(Code::kConflict));
    ASSERT_TRUE(Eventually([&] {
      return std::all_of(rankers.begin(), rankers.end(), [&](const auto& ranker) { return ranker->status().version == number; });
    }));
    held = std::move(next);
  }
  for (const auto& one : seen) {
    const Seen all = one.Copy();
    int stale = 0, not_greater = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
      stale += all[i].first.epoch() != all[i].second ? 1 : 0;
      not_greater += i > 0 && !IsNewer(all[i].first, all[i - 1].first) ? 1 : 0;
    }
    EXPECT_EQ(stale, 0);
    EXPECT_EQ(not_greater, 0);
    std::cout << "a ranker took " << all.size() << " of " << number << " versions over " << takeovers << " takeovers\n";
  }
}

// Writes what a version is in Redis by hand, with damage.
class Vandal {
 public:
  Vandal(const std::string& address, const SigningKey& key, std::uint64_t seed)
      : redis_(*RedisConnection::Connect({.address = address})), key_(&key), other_(*SigningKey::Generate()), random_(seed, "vandal", 0) {}

  void Put(const PolicyVersion& version, const std::string& manifest, const std::string& signature, const std::vector<std::string>& parts) {
    const std::uint64_t number = version.manifest.version();
    Do({"SET", keys_.manifest(number), manifest});
    if (signature.empty()) Do({"DEL", keys_.signature(number)});
    else Do({"SET", keys_.signature(number), signature});
    for (std::size_t i = 0; i < parts.size(); ++i) Do({"SET", keys_.part(number, i), parts[i]});
  }
  // `manifest`: whose digest the alias promises.
  void Point(std::uint64_t number, std::uint64_t change, const std::string& manifest) {
    v1::AliasChange alias;
    alias.set_epoch(1);
    alias.set_change(change);
    alias.set_alias(std::string(kLiveAlias));
    alias.set_to_version(number);
    alias.set_manifest_sha256(Sha256Of(manifest));
    Do({"HSET", keys_.aliases(), std::string(kLiveAlias), CanonicalBytes(alias)});
    Do({"XADD", keys_.changes(), "*", std::string(kChangeField), CanonicalBytes(alias)});
  }
  void PutWhole(const PolicyVersion& version, std::uint64_t change) {
    const std::string manifest = CanonicalBytes(version.manifest);
    Put(version, manifest, key_->Sign(manifest), PartsOf(version));
    Point(version.manifest.version(), change, manifest);
  }
  // One of ten damages. Returns which.
  int PutDamaged(const PolicyVersion& version, std::uint64_t change, std::uint64_t taken_change, const PolicyVersion& last) {
    std::string manifest = CanonicalBytes(version.manifest);
    const std::string promised = manifest;
    std::string signature = key_->Sign(manifest);
    std::vector<std::string> parts = PartsOf(version);
    std::string& part = parts[random_.NextBelow(parts.size())];
    const int kind = static_cast<int>(random_.NextBelow(10));
    switch (kind) {
      case 0: Flip(part); break;
      case 1: Flip(manifest); break;
      case 2: part.resize(random_.NextBelow(part.size())); break;
      case 3: manifest.resize(random_.NextBelow(manifest.size())); break;
      case 4: std::swap(parts[0], parts[1]); break;
      case 5: signature = other_.Sign(manifest); break;
      case 6: signature.clear(); break;
      case 7: Flip(signature); break;
      case 8: manifest = CanonicalBytes(last.manifest), signature = key_->Sign(manifest); break;  // An older version under this name.
      default: break;
    }
    Put(version, manifest, signature, parts);
    // The last one: the whole version, under a change that was before. For every other kind half promise what is there now.
    if (kind == 9) Point(version.manifest.version(), taken_change - random_.NextBelow(taken_change), promised);
    else Point(version.manifest.version(), change, random_.NextBelow(2) == 0 ? promised : manifest);
    return kind;
  }

 private:
  static std::vector<std::string> PartsOf(const PolicyVersion& version) {
    std::vector<std::string> parts;
    for (int i = 0; i < version.manifest.parts_size(); ++i) parts.emplace_back(PartOf(version.manifest, version.weights, static_cast<std::size_t>(i)));
    return parts;
  }
  void Flip(std::string& bytes) {
    const std::uint64_t bit = random_.NextBelow(8 * bytes.size());
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
  }
  void Do(const std::vector<std::string>& command) {
    ASSERT_THAT(redis_.Command(RedisCommand(command.begin(), command.end())), IsOk());
  }

  PolicyKeys keys_{"default"};
  RedisConnection redis_;
  const SigningKey* key_;
  SigningKey other_;
  Random random_;
};

TEST_F(VersionsProofTest, WhateverIsDamagedOrForeignIsRefusedAndTheLastGoodServes) {
  constexpr std::uint64_t kSeed = 20'26;
  ASSERT_OK_AND_ASSIGN(const SigningKey key, SigningKey::Generate());
  RankerOptions options = OptionsOfRanker(Address(), "ranker");
  ASSERT_OK_AND_ASSIGN(options.public_keys, PublicKeys::FromHex(ToHex(key.public_key())));
  Vandal vandal(Address(), key, kSeed);
  const auto sealed = [](std::uint64_t number) {
    PolicyVersion version = AcceptedVersion(number);
    SealManifest(version.manifest, version.weights, /*part_bytes=*/700);
    return version;
  };
  std::uint64_t change = 10, good = 1, good_change = change;
  vandal.PutWhole(sealed(good), change);
  const auto ranker = Follow(options);
  ASSERT_TRUE(Eventually([&] { return ranker->status().version == good; }));
  const int damages = FullSize(10'000);
  std::vector<int> of_kind(10);
  for (int i = 0; i < damages; ++i) {
    // A number of its own for each, so that nothing mends what the ranker tries again.
    const std::uint64_t refused = ranker->status().refused, number = static_cast<std::uint64_t>(i) + 2;
    const int kind = vandal.PutDamaged(sealed(number), ++change, good_change, sealed(good));
    ++of_kind[static_cast<std::size_t>(kind)];
    ASSERT_TRUE(Eventually([&] { return ranker->status().refused > refused || ranker->status().version != good; })) << kind << ", seed " << kSeed;
    ASSERT_EQ(ranker->status().version, good) << "damage of kind " << kind << ", round " << i << ", seed " << kSeed;
    if (i % 50 != 49) continue;
    good_change = ++change;
    vandal.PutWhole(sealed(number), good_change);  // Mended.
    ASSERT_TRUE(Eventually([&] { return ranker->status().version == number; }));
    good = number;
  }
  std::cout << damages << " damages refused, of each kind:";
  for (const int count : of_kind) std::cout << ' ' << count;
  std::cout << '\n';
}

TEST_F(VersionsProofTest, EveryDecisionIsOneVersionsWhileVersionsCome) {
  Writer writer(Address());
  ASSERT_THAT(writer.Open(1), IsOk());
  ASSERT_THAT(writer.publisher->Publish(AcceptedVersion(1), PointLive::kYes), IsOk());
  const auto ranker = Follow(OptionsOfRanker(Address(), "ranker"));
  ASSERT_TRUE(Eventually([&] { return ranker->status().version == 1; }));
  const int decisions = FullSize(1'000'000);
  const auto versions = static_cast<std::uint64_t>(FullSize(1'000));  // At least: decisions are quick.
  std::atomic<std::uint64_t> made = 0, mixed = 0, failed = 0;
  std::vector<std::jthread> readers;
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&](const std::stop_token& stop) {
      OneCandidate one;
      Ranker::Reader reader = ranker->NewReader();
      for (; !stop.stop_requested(); ++made) {
        const auto decision = ranker->Rank(one.request(), reader);
        if (!decision || decision->policy_version == 0) {
          ++failed;
          continue;
        }
        const float said = ActionOfVersion(decision->policy_version);
        for (const float action : decision->executed_actions) mixed += std::abs(action - said) > 1e-5F ? 1 : 0;
      }
    });
  }
  std::uint64_t number = 1;
  while (made < static_cast<std::uint64_t>(decisions) || number < versions) ASSERT_THAT(writer.publisher->Publish(AcceptedVersion(++number), PointLive::kYes), IsOk());
  readers.clear();
  EXPECT_EQ(mixed, 0U);
  EXPECT_EQ(failed, 0U);
  std::cout << made << " decisions while " << number << " versions came, " << ranker->status().taken << " were taken\n";
}

TEST_F(VersionsProofTest, NoRankingFailsWhateverHappensToRedis) {
  ASSERT_OK_AND_ASSIGN(const auto proxy, test::TcpProxy::Start(1));
  proxy->Serve(server_->port());
  Writer writer(Address());
  ASSERT_THAT(writer.Open(1), IsOk());
  ASSERT_THAT(writer.publisher->Publish(AcceptedVersion(1), PointLive::kYes), IsOk());
  RankerOptions options = OptionsOfRanker("127.0.0.1:" + std::to_string(proxy->port()), "ranker");
  options.redis.command_timeout_ms = 200;
  const auto ranker = Follow(options);
  ASSERT_TRUE(Eventually([&] { return ranker->status().version == 1; }));
  std::atomic<std::uint64_t> made = 0, failed = 0;
  std::jthread requests([&](const std::stop_token& stop) {
    OneCandidate one;
    Ranker::Reader reader = ranker->NewReader();
    while (!stop.stop_requested()) {
      const auto decision = ranker->Rank(one.request(), reader);
      failed += decision && decision->policy_version > 0 && !decision->fell_back ? 0 : 1;
      ++made;
    }
  });
  const auto is_away = [&] { return Eventually([&] { return !ranker->status().redis_connected; }); };
  const auto decides_on = [&](std::uint64_t at_least) {
    const std::uint64_t from = made;
    return Eventually([&] { return made >= from + at_least; });
  };
  std::uint64_t number = 1;
  const auto comes_back = [&] {
    ++number;
    const auto publish = [&] {
      const auto published = writer.publisher->Publish(AcceptedVersion(number), PointLive::kYes);
      if (!published && published.error().code == Code::kNotFound) {
        EXPECT_THAT(writer.publisher->Restore(), IsOk());
      }
      return published.has_value();
    };
    return Eventually(publish) && Eventually([&] { return ranker->status().version == number; });
  };
  // Partitioned: connections stand, no byte passes.
  proxy->Set({.holds = true});
  EXPECT_TRUE(is_away() && decides_on(1'000));
  proxy->Set({});
  EXPECT_TRUE(comes_back());
  // Stopped, killed and empty, killed again behind a refusing network.
  server_->Pause();
  EXPECT_TRUE(is_away() && decides_on(1'000));
  server_->Resume();
  EXPECT_TRUE(comes_back());
  server_->Kill();
  EXPECT_TRUE(is_away() && decides_on(1'000));
  ASSERT_THAT(server_->Restart(), IsOk());
  EXPECT_TRUE(comes_back());
  // Full: nothing new can be written, what is there is read.
  ASSERT_THAT(server_->Command({"CONFIG", "SET", "maxmemory", "1"}), IsOk());
  EXPECT_THAT(writer.publisher->Publish(AcceptedVersion(number + 1), PointLive::kYes), HasCode(Code::kUnavailable));
  EXPECT_TRUE(decides_on(1'000));
  ASSERT_THAT(server_->Command({"CONFIG", "SET", "maxmemory", "0"}), IsOk());
  EXPECT_TRUE(comes_back());
  requests.request_stop();
  requests.join();
  EXPECT_EQ(failed, 0U) << "of " << made;
  std::cout << made << " rankings, none failed\n";
}

// The machine's clock, and what a test adds.
class AdvancedClock final : public Clock {
 public:
  std::int64_t wall_ms() const override { return system_.wall_ms() + ahead_us_ / 1'000; }
  std::int64_t monotonic_us() const override { return system_.monotonic_us() + ahead_us_; }
  void Advance(std::int64_t by_us) { ahead_us_ += by_us; }

 private:
  SystemClock system_;
  std::atomic<std::int64_t> ahead_us_ = 0;
};

// Simulated is what the ranker reads as time (when to poll, when to try again); its waits on sockets and between attempts are real, and short.
TEST_F(VersionsProofTest, TenMinutesOfPartitionFailNoRankingAndTheNewestVersionServesAfterThem) {
  constexpr std::int64_t kPartitionUs = 600'000'000, kStepUs = 1'000'000;
  ASSERT_OK_AND_ASSIGN(const auto proxy, test::TcpProxy::Start(2));
  proxy->Serve(server_->port());
  Writer writer(Address(), nullptr, {.keep_versions = 1, .keep_pointed_ms = 0});
  ASSERT_THAT(writer.Open(1), IsOk());
  ASSERT_THAT(writer.publisher->Publish(AcceptedVersion(1), PointLive::kYes), IsOk());
  AdvancedClock clock;
  RankerOptions options = OptionsOfRanker("127.0.0.1:" + std::to_string(proxy->port()), "ranker");
  options.redis.command_timeout_ms = 200;
  options.fetch_jitter_ms = 0;
  ASSERT_OK_AND_ASSIGN(const auto ranker, Ranker::Open(options, log_, metrics_, clock));
  ASSERT_TRUE(Eventually([&] { return ranker->status().version == 1; }));

  proxy->Set({.holds = true});
  OneCandidate one;
  Ranker::Reader reader = ranker->NewReader();
  std::uint64_t made = 0, failed = 0, number = 1, connected = 0;
  const auto decide = [&] {
    const auto decision = ranker->Rank(one.request(), reader);
    failed += decision && decision->policy_version == ranker->status().version && !decision->fell_back ? 0 : 1;
    ++made;
  };
  ASSERT_TRUE(Eventually([&] {
    decide();
    return !ranker->status().redis_connected;
  }));
  for (std::int64_t passed_us = 0; passed_us < kPartitionUs; passed_us += kStepUs) {
    clock.Advance(kStepUs);
    // Meanwhile the learner goes on, and what the ranker serves is deleted behind its back.
    if (passed_us % (30 * kStepUs) == 0) {
      ASSERT_THAT(writer.publisher->Publish(AcceptedVersion(++number), PointLive::kYes), IsOk());
      ASSERT_THAT(writer.publisher->Retain(), IsOk());
    }
    for (int i = 0; i < 1'000; ++i) decide();
    connected += ranker->status().redis_connected ? 1 : 0;
  }
  ASSERT_TRUE(Eventually([&] {  // Redis counts in seconds.
    EXPECT_THAT(writer.publisher->Retain(), IsOk());
    return server_->Command({"EXISTS", PolicyKeys("default").manifest(1)}).value_or("") == "0";
  }));
  EXPECT_EQ(ranker->status().version, 1U);
  EXPECT_EQ(connected, 0U);

  proxy->Set({});
  ASSERT_TRUE(Eventually([&] {
    decide();
    return ranker->status().version == number;
  }));
  EXPECT_EQ(failed, 0U) << "of " << made;
  std::cout << made << " rankings in 600 s of the ranker's time without Redis and after, none failed; then version " << number << '\n';
}

}  // namespace
}  // namespace fuseline
