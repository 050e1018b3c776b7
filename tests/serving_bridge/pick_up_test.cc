// Rankers beside a real redis-server: versions are taken whole or not at all, whatever happens to Redis.
#include <atomic>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/fusion/acknowledgement.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/redis_process.h"
#include "fuseline/test_support/shifted_clock.h"

#include "ranker_fixture.h"

namespace fuseline {
namespace {

class PickUpTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(redis_, test::RedisProcess::Start());
    options_ = TestOptions(redis_->socket_path());
  }
  std::unique_ptr<Ranker> Open() { return *Ranker::Open(options_, log_, metrics_, clock_); }
  double Refused(const std::string& reason) {
    return metrics_.GetCounter("fuseline_serving_bridge_versions_refused_total", "versions that were not allowed to serve",
                               {{"reason", reason}}).value();
  }
  // The version that a decision comes from. Fails unless all of its actions are that version's.
  static std::uint64_t ServedVersion(const Ranker& ranker, Ranker::Reader& reader) {
    const OwnedRequest request(3, 1);
    const auto decision = ranker.Rank(request.view(), reader);
    EXPECT_THAT(decision, IsOk());
    for (const float action : decision->baseline_actions) {
      if (decision->policy_version == 0) break;
      EXPECT_NEAR(action, ActionOf(decision->policy_version), 1e-6);
    }
    return decision->policy_version;
  }

  Log log_{Severity::kError};
  Metrics metrics_;
  test::ShiftedClock clock_;
  std::unique_ptr<test::RedisProcess> redis_;
  RankerOptions options_;
};

TEST_F(PickUpTest, APublishedVersionServesAndIsAcknowledged) {
  // given
  HandPublisher publisher(options_);
  std::atomic<std::uint64_t> told = 0;
  options_.on_version = [&](const v1::PolicyManifest& manifest, const v1::AliasChange&, std::int64_t) { told = manifest.version(); };
  const auto ranker = Open();
  auto reader = ranker->NewReader();

  // when
  publisher.Publish(VersionThatSays(3, options_), /*epoch=*/1, /*change=*/7);

  // then
  ASSERT_TRUE(Eventually([&] { return publisher.AckOf("ranker-1").starts_with("7 3 "); }));
  EXPECT_EQ(ServedVersion(*ranker, reader), 3U);
  EXPECT_EQ(told, 3U);
  const RankerStatus status = ranker->status();
  EXPECT_EQ(status.version, 3U);
  EXPECT_EQ(status.epoch, 1U);
  EXPECT_EQ(status.change, 7U);
  EXPECT_TRUE(status.redis_connected);
}

TEST_F(PickUpTest, ARankerSaysThatItIsThereBeforeItHasAnythingAndAgainWhileNothingChanges) {
  HandPublisher publisher(options_);
  const auto ranker = Open();
  const auto word = [&] { return ParseAcknowledgement(publisher.AckOf("ranker-1")).value_or(Acknowledgement()); };
  ASSERT_TRUE(Eventually([&] { return word().seen_ms != 0; }));
  EXPECT_EQ(word().version, 0U);
  publisher.Publish(VersionThatSays(3, options_), 1, 7);
  ASSERT_TRUE(Eventually([&] { return word().version == 3; }));
  const Acknowledgement first = word();
  EXPECT_GE(first.seen_ms, first.since_ms);

  clock_.Advance(kAcknowledgeEveryMs);

  ASSERT_TRUE(Eventually([&] { return word().seen_ms >= first.seen_ms + kAcknowledgeEveryMs; }));
  EXPECT_EQ(word().since_ms, first.since_ms) << "it still is the time at which the version began to serve";
}

TEST_F(PickUpTest, AnAcknowledgementThatWasLostIsSaidAgain) {
  // given: Redis refuses it, and nothing else
  HandPublisher publisher(options_);
  auto redis = RedisConnection::Connect(options_.redis).value();
  const PolicyKeys keys(options_.policy);
  ASSERT_THAT(redis.Command({"SET", keys.acks(), "not a hash"}), IsOk());
  const auto ranker = Open();
  publisher.Publish(VersionThatSays(3, options_), 1, 7);
  const auto failed = [&] {
    return metrics_.GetCounter("fuseline_serving_bridge_acknowledgements_failed_total", "").value();
  };
  ASSERT_TRUE(Eventually([&] { return ranker->status().version == 3 && failed() > 0; }));
  EXPECT_TRUE(ranker->status().redis_connected) << "it follows all the same";
  publisher.Publish(VersionThatSays(4, options_), 1, 8);
  ASSERT_TRUE(Eventually([&] { return ranker->status().version == 4; }));

  // when: it takes it again
  ASSERT_THAT(redis.Command({"DEL", keys.acks()}), IsOk());
  clock_.Advance(2'000);

  // then
  EXPECT_TRUE(Eventually([&] { return publisher.AckOf("ranker-1").starts_with("8 4 "); }));
  EXPECT_EQ(metrics_.GetCounter("fuseline_serving_bridge_redis_lost_total", "").value(), 0);
}

TEST_F(PickUpTest, ARedisThatForgotIsToldAgainWhatServes) {
  const auto ranker = Open();
  HandPublisher(options_).Publish(VersionThatSays(3, options_), 1, 7);
  ASSERT_TRUE(Eventually([&] { return HandPublisher(options_).AckOf("ranker-1").starts_with("7 3 "); }));
  redis_->Kill();
  ASSERT_TRUE(Eventually([&] { return !ranker->status().redis_connected; }));
  ASSERT_THAT(redis_->Restart(), IsOk());
  EXPECT_TRUE(Eventually([&] { return HandPublisher(options_).AckOf("ranker-1").starts_with("7 3 "); }));
}

TEST_F(PickUpTest, ARollbackIsAChangeLikeAnyOther) {
  HandPublisher publisher(options_);
  const auto ranker = Open();
  auto reader = ranker->NewReader();
  publisher.Publish(VersionThatSays(3, options_), 1, 1);
  ASSERT_TRUE(Eventually([&] { return ranker->status().change == 1; }));
  publisher.Publish(VersionThatSays(4, options_), 1, 2);
  ASSERT_TRUE(Eventually([&] { return ranker->status().change == 2; }));
  EXPECT_EQ(ServedVersion(*ranker, reader), 4U);
  publisher.Point(VersionThatSays(3, options_), 1, 3);
  ASSERT_TRUE(Eventually([&] { return ranker->status().change == 3; }));
  EXPECT_EQ(ServedVersion(*ranker, reader), 3U);
}

TEST_F(PickUpTest, AHundredThousandReadsUnderConstantPublicationSeeNoMixture) {
  // given
  constexpr int kReaders = 2;
  constexpr std::uint64_t kReadsMin = 50'000;  // Each.
  constexpr std::uint64_t kVersionsMin = 30;
  HandPublisher publisher(options_);
  publisher.Publish(VersionThatSays(1, options_), 1, 1);
  const auto ranker = Open();
  ASSERT_TRUE(Eventually([&] { return ranker->status().taken == 1; }));

  // when: two threads read while versions follow each other as fast as Redis takes them
  std::atomic<int> done = 0;
  std::atomic<std::uint64_t> reads = 0;
  std::atomic<std::uint64_t> wrong = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kReaders; ++i) {
      threads.emplace_back([&] {
        auto reader = ranker->NewReader();
        const OwnedRequest request(2, 1);
        std::uint64_t last = 0;
        std::uint64_t count = 0;
        for (; count < kReadsMin || ranker->status().taken < kVersionsMin; ++count) {
          const auto decision = ranker->Rank(request.view(), reader);
          if (!decision || decision->policy_version < last || decision->policy_version == 0) {
            ++wrong;
            continue;
          }
          last = decision->policy_version;
          for (const float action : decision->baseline_actions) wrong += std::abs(action - ActionOf(last)) < 1e-6F ? 0 : 1;
        }
        reads += count;
        ++done;
      });
    }
    for (std::uint64_t number = 2; done < kReaders; ++number) publisher.Publish(VersionThatSays(number, options_), 1, number);
  }

  // then
  EXPECT_EQ(wrong, 0U);
  EXPECT_GE(reads, kReaders * kReadsMin);
  EXPECT_EQ(ranker->status().refused, 0U);
  RecordProperty("reads", static_cast<int>(reads));
  RecordProperty("versions", static_cast<int>(ranker->status().taken));
}

TEST_F(PickUpTest, AFlippedBitInAnyPartIsRefusedAndCountedAndTheOldVersionStays) {
  HandPublisher publisher(options_);
  const auto ranker = Open();
  auto reader = ranker->NewReader();
  publisher.Publish(VersionThatSays(1, options_), 1, 1);
  ASSERT_TRUE(Eventually([&] { return ranker->status().taken == 1; }));

  const PolicyVersion damaged = VersionThatSays(2, options_);
  ASSERT_GT(damaged.manifest.parts_size(), 2);
  for (int part = 0; part < damaged.manifest.parts_size(); ++part) {
    const double before = Refused("digest");
    publisher.PutParts(damaged, part);
    publisher.Point(damaged, 1, static_cast<std::uint64_t>(2 + part));
    ASSERT_TRUE(Eventually([&] { return Refused("digest") > before; })) << "part " << part;
    EXPECT_EQ(ServedVersion(*ranker, reader), 1U);
  }

  // Repaired under the same change: taken.
  publisher.PutParts(damaged);
  EXPECT_TRUE(Eventually([&] { return ranker->status().version == 2; }));
  EXPECT_EQ(ServedVersion(*ranker, reader), 2U);
}

TEST_F(PickUpTest, VersionsThatAreNotForThisRankerAreRefusedByReason) {
  // given
  HandPublisher publisher(options_);
  const auto ranker = Open();
  auto reader = ranker->NewReader();
  publisher.Publish(VersionThatSays(1, options_), 1, 1);
  ASSERT_TRUE(Eventually([&] { return ranker->status().taken == 1; }));

  struct Case {
    const char* reason;
    void (*change)(PolicyVersion&);
  };
  const Case cases[] = {
      {"schema", [](PolicyVersion& v) { v.manifest.mutable_schema()->mutable_tasks(0)->set_name("other"); }},
      {"schema", [](PolicyVersion& v) { v.manifest.set_schema_digest(std::string(32, 'x')); }},
      {"ranges", [](PolicyVersion& v) { v.manifest.mutable_ranges()->set_upper(0, 3.0F); }},
      {"ranges", [](PolicyVersion& v) { v.manifest.mutable_box()->set_lower(0.5F); }},
      {"policy", [](PolicyVersion& v) { v.manifest.set_policy("another"); }},
      {"weights", [](PolicyVersion& v) { v.manifest.mutable_actor()->add_widths(10); }},
      {"weights", [](PolicyVersion& v) {  // Infinity as the last weight.
         v.weights.replace(v.weights.size() - 4, 4, std::string("\0\0\x80\x7f", 4));
         SealManifest(v.manifest, v.weights, 500);
       }},
  };
  std::uint64_t number = 2;
  for (const Case& bad : cases) {
    // when
    PolicyVersion version = VersionThatSays(number, options_);
    bad.change(version);
    const double before = Refused(bad.reason);
    publisher.Publish(version, 1, number);
    ++number;

    // then
    ASSERT_TRUE(Eventually([&] { return Refused(bad.reason) > before; })) << bad.reason << " " << number;
    EXPECT_EQ(ServedVersion(*ranker, reader), 1U);
  }
}

TEST_F(PickUpTest, SizesBeyondTheLimitsAreRefusedBeforeAnythingIsFetched) {
  // given: manifests that promise more than a ranker would hold; their parts are not there, and would be missed if
  // they were asked for
  HandPublisher publisher(options_);
  const auto ranker = Open();
  auto reader = ranker->NewReader();
  publisher.Publish(VersionThatSays(1, options_), 1, 1);
  ASSERT_TRUE(Eventually([&] { return ranker->status().taken == 1; }));
  const auto redis = [&] { return RedisConnection::Connect(options_.redis).value(); };
  std::uint64_t number = 2;
  for (const std::uint64_t size : {kPartBytesMax + 1, std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
    PolicyVersion version = VersionThatSays(number, options_);
    version.manifest.mutable_parts(0)->set_size_bytes(size);
    ASSERT_THAT(
        redis().Command({"SET", PolicyKeys(options_.policy).manifest(number), CanonicalBytes(version.manifest)}),
        IsOk());
    const double before = Refused("digest");
    publisher.Point(version, 1, number++);
    ASSERT_TRUE(Eventually([&] { return Refused("digest") > before; })) << size;
  }

  // and a part that is larger than its manifest says
  const PolicyVersion version = VersionThatSays(number, options_);
  publisher.PutParts(version);
  ASSERT_THAT(redis().Command({"SETRANGE", PolicyKeys(options_.policy).part(number, 0), "20000000", "x"}), IsOk());
  const double before = Refused("digest");
  publisher.Point(version, 1, number);
  ASSERT_TRUE(Eventually([&] { return Refused("digest") > before; }));

  // then
  EXPECT_EQ(Refused("absent"), 0);
  EXPECT_EQ(ServedVersion(*ranker, reader), 1U);
  EXPECT_TRUE(ranker->status().redis_connected);
}

TEST_F(PickUpTest, AChangeThatIsNotGreaterIsRefused) {
  HandPublisher publisher(options_);
  const auto ranker = Open();
  auto reader = ranker->NewReader();
  publisher.Publish(VersionThatSays(5, options_), /*epoch=*/3, /*change=*/10);
  ASSERT_TRUE(Eventually([&] { return ranker->status().taken == 1; }));
  const std::pair<std::uint64_t, std::uint64_t> stale[] = {{3, 9}, {3, 10}, {2, 11}};
  for (const auto& [epoch, change] : stale) {
    const double before = Refused("stale");
    publisher.Publish(VersionThatSays(6, options_), epoch, change);
    ASSERT_TRUE(Eventually([&] { return Refused("stale") > before; })) << epoch << " " << change;
    EXPECT_EQ(ServedVersion(*ranker, reader), 5U);
  }
  publisher.Publish(VersionThatSays(6, options_), 4, 1);
  EXPECT_TRUE(Eventually([&] { return ranker->status().version == 6; }));
}

TEST_F(PickUpTest, AVersionWhosePartsAreNotThereYetIsTriedAgain) {
  HandPublisher publisher(options_);
  const auto ranker = Open();
  publisher.Point(VersionThatSays(1, options_), 1, 1);
  ASSERT_TRUE(Eventually([&] { return Refused("absent") >= 1; }));
  publisher.PutParts(VersionThatSays(1, options_));
  EXPECT_TRUE(Eventually([&] { return ranker->status().version == 1; }));
}

TEST_F(PickUpTest, WhileRedisIsAwayTheLastVersionServesAndThenTheNextIsPickedUp) {
  // given
  const auto ranker = Open();
  auto reader = ranker->NewReader();
  HandPublisher(options_).Publish(VersionThatSays(1, options_), 1, 1);
  ASSERT_TRUE(Eventually([&] { return ranker->status().taken == 1; }));

  // when
  redis_->Kill();

  // then: it says so, and serves
  ASSERT_TRUE(Eventually([&] { return !ranker->status().redis_connected; }));
  EXPECT_EQ(ServedVersion(*ranker, reader), 1U);
  EXPECT_EQ(metrics_.GetCounter("fuseline_serving_bridge_redis_lost_total", "").value(), 1);

  // when: it is back, and has forgotten everything
  ASSERT_THAT(redis_->Restart(), IsOk());
  ASSERT_TRUE(Eventually([&] { return ranker->status().redis_connected; }));
  EXPECT_EQ(ServedVersion(*ranker, reader), 1U);
  HandPublisher(options_).Publish(VersionThatSays(2, options_), 1, 2);

  // then
  ASSERT_TRUE(Eventually([&] { return ranker->status().version == 2; }));
  EXPECT_EQ(ServedVersion(*ranker, reader), 2U);
}

TEST_F(PickUpTest, ARankerThatStartsBeforeRedisServesTheStaticWeightsUntilThen) {
  redis_->Kill();
  const auto ranker = Open();
  auto reader = ranker->NewReader();
  EXPECT_EQ(ServedVersion(*ranker, reader), 0U);
  ASSERT_THAT(redis_->Restart(), IsOk());
  HandPublisher(options_).Publish(VersionThatSays(1, options_), 1, 1);
  ASSERT_TRUE(Eventually([&] { return ranker->status().version == 1; }));
  EXPECT_EQ(ServedVersion(*ranker, reader), 1U);
}

}  // namespace
}  // namespace fuseline
