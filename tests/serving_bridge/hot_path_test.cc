// Ranking takes no lock, no memory and no system call, in both C faces, while versions are published and swapped under
// it: the thread that ranks is watched (watched_thread.h), with a real Redis, arms, exploration and a shadow.
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

#include "fuseline/core/guarded.h"
#include "fuseline/core/stage.h"
#include "fuseline/serving_bridge/c_ranker.h"
#include "fuseline/serving_bridge/event_log.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/redis_process.h"
#include "ranker_fixture.h"
#include "watched_thread.h"

namespace fuseline {
namespace {

using test::Deeds;
using test::Watch;

constexpr int kRankings = 6'000;  // Watched, at least,
constexpr int kSwaps = 60;        // with a version swapped under them so many times.
constexpr int kRankingsMost = 2'000'000;
constexpr std::size_t kCandidates[] = {1, 40, 300};

// A few users, each with a request of each size; largest first, so that buffers have grown after one round.
std::vector<std::unique_ptr<OwnedRequest>> Requests() {
  std::vector<std::unique_ptr<OwnedRequest>> requests;
  for (auto n = std::rbegin(kCandidates); n != std::rend(kCandidates); ++n) {
    for (std::uint64_t user = 0; user < 8; ++user) {
      requests.push_back(std::make_unique<OwnedRequest>(*n, user));
      requests.back()->user_id = "u" + std::to_string(user);
    }
  }
  return requests;
}

// Half of the users on the static weights, and the live version scored beside every request.
v1::Experiment WithAShadow() {
  v1::Experiment experiment = LearningBesideStatic("hot", 0.5);
  v1::Arm& shadow = *experiment.add_shadows();
  shadow.set_name("shadow");
  shadow.set_alias(std::string(kLiveAlias));
  experiment.set_shadow_share(kWholeShare);
  return experiment;
}

class HotPathTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!test::CanWatch()) GTEST_SKIP() << "a sanitizer has an allocator and locks of its own";
    ASSERT_OK_AND_ASSIGN(redis_, test::RedisProcess::Start());
    options_ = TestOptions(redis_->socket_path());
    options_.experiments = {WithAShadow()};
    options_.scorer = true;
  }

  // New versions, one after another, until the end.
  std::jthread Publishing() {
    return std::jthread([this](std::stop_token stop) {
      HandPublisher publisher(options_), scorers(OfScorer(options_));
      for (std::uint64_t number = 1; !stop.stop_requested(); ++number) {
        publisher.Publish(VersionThatSays(number, options_, {32, 16}), 1, number);
        scorers.Publish(ScorerThatSays(number, options_, 32), 1, number);
        SleepFor(stop, 2);
      }
    });
  }

  static void ExpectNothingButWork(const Deeds& deeds) {
    EXPECT_EQ(deeds.allocations, 0U);
    EXPECT_EQ(deeds.releases, 0U);
    EXPECT_EQ(deeds.locks, 0U);
    EXPECT_EQ(deeds.system_calls, 0U) << "the first was number " << deeds.system_call;
    if (!deeds.saw_system_calls) GTEST_SKIP() << "all but the system calls was proven: this kernel does not tell them";
  }

  std::unique_ptr<test::RedisProcess> redis_;
  RankerOptions options_;
};

TEST_F(HotPathTest, WhatIsForbiddenIsSeen) {
  Guarded<int> guarded;
  std::unique_ptr<int> kept;
  const Deeds deeds = Watch::Run([&] {
    kept = std::make_unique<int>(0);  // A thread's first allocation asks the kernel for memory,
    kept.reset();                     // which ends a watch.
    Watch::Begin();
    kept = std::make_unique<int>(1);
    kept.reset();
    guarded.With([](int& value) { ++value; });
    ::getppid();
    Watch::End();
  });
  EXPECT_EQ(deeds.allocations, 1U);
  EXPECT_EQ(deeds.releases, 1U);
  EXPECT_EQ(deeds.locks, 1U);
  if (!deeds.saw_system_calls) GTEST_SKIP() << "this kernel does not tell system calls";
  EXPECT_EQ(deeds.system_calls, 1U);
}

TEST_F(HotPathTest, RankingIntoAKeptDecisionOnlyComputes) {
  // given
  Log log(Severity::kError);
  Metrics metrics;
  SystemClock clock;
  ASSERT_OK_AND_ASSIGN(const auto ranker, Ranker::Open(options_, log, metrics, clock));
  const auto publishing = Publishing();
  ASSERT_TRUE(Eventually([&] { return ranker->status().version > 0 && ranker->status().scorer_version > 0; }));
  const auto requests = Requests();
  for (const auto& request : requests) request->unscored();  // Whose candidates are kept.
  int rankings = 0, swaps = 0, scorer_swaps = 0, failed = 0, in_arm[2] = {}, shadows = 0;

  // when
  const Deeds deeds = Watch::Run([&] {
    auto reader = ranker->NewReader();
    Decision decision;
    for (const auto& request : requests) failed += ranker->Rank(request->unscored(), reader, decision).ok() ? 0 : 1;
    std::uint64_t last = 0, last_scorer = 0;
    Watch::Begin();
    const auto enough = [&] { return rankings >= kRankings && swaps >= kSwaps && scorer_swaps >= kSwaps; };
    for (; !enough() && rankings < kRankingsMost; ++rankings) {
      OwnedRequest& request = *requests[static_cast<std::size_t>(rankings) % requests.size()];
      const bool bare = rankings % 3 != 0;
      failed += ranker->Rank(bare ? request.unscored() : request.view(), reader, decision).ok() ? 0 : 1;
      failed += bare == (decision.scorer_version != 0) ? 0 : 1;
      scorer_swaps += bare && decision.scorer_version != last_scorer ? 1 : 0;
      if (bare) last_scorer = decision.scorer_version;
      shadows += static_cast<int>(decision.shadows.size());
      ++in_arm[decision.arm == "static" ? 0 : 1];
      const std::uint64_t version = decision.policy_version;
      swaps += version != 0 && version != last ? 1 : 0;
      if (version != 0) last = version;
    }
    Watch::End();
  });

  // then: it did rank, in both arms, with shadows, and under many versions
  EXPECT_EQ(failed, 0);
  EXPECT_GE(rankings, kRankings);
  EXPECT_GE(swaps, kSwaps);
  EXPECT_GE(scorer_swaps, kSwaps);
  EXPECT_GT(in_arm[0], 0);
  EXPECT_GT(in_arm[1], 0);
  EXPECT_EQ(shadows, rankings);
  ExpectNothingButWork(deeds);
}

TEST_F(HotPathTest, AnEventIsMovedIntoTheLogAndNothingElse) {
  // given: a sink that is slower than whoever pushes, so that the log is full at times
  class SlowSink final : public EventLogSink {
   public:
    Result<std::size_t> Write(std::span<const v1::Event>) override {
      SleepFor(std::stop_token(), 1);
      return 1;
    }
    Settled Settle() override { return {}; }
    Status Flush(std::int64_t) override { return OkStatus(); }
  };
  Log log(Severity::kError);
  Metrics metrics;
  EventLog events({.queue_events = 64}, std::make_unique<SlowSink>(), log, metrics);
  constexpr int kEvents = 5'000;
  std::vector<v1::Event> made;
  for (int i = 0; i < kEvents; ++i) {
    made.push_back(MakeFeedbackEvent({.event_id = std::to_string(i),
                                      .user_id = "u1",
                                      .event_time_ms = i,
                                      .request_id = "r",
                                      .item_id = "i",
                                      .kind = v1::Feedback::CLICK}));
  }
  int taken = 0;

  // when
  const Deeds deeds = Watch::Run([&] {
    Watch::Begin();
    for (v1::Event& event : made) taken += events.TryPush(std::move(event)) ? 1 : 0;
    Watch::End();
  });

  // then
  const EventLog::Figures figures = events.figures();
  EXPECT_GE(taken, 64);
  EXPECT_EQ(figures.offered, static_cast<std::uint64_t>(kEvents));
  EXPECT_EQ(figures.full, static_cast<std::uint64_t>(kEvents - taken));
  EXPECT_GT(figures.full, 0U);
  ExpectNothingButWork(deeds);
}

// A request as C has it: one array for all candidates.
struct CRequest {
  explicit CRequest(const OwnedRequest& from) : owned(from) {
    for (std::size_t i = 0; i < from.names.size(); ++i) {
      names.push_back(from.names[i].c_str());
      dense.insert(dense.end(), from.dense[i].begin(), from.dense[i].end());
      ids.insert(ids.end(), from.ids[i].begin(), from.ids[i].end());
      scores.insert(scores.end(), from.scores[i].begin(), from.scores[i].end());
    }
    const std::size_t n = names.size();
    request = {.request_id = from.request_id.c_str(),
               .user_id = from.user_id.c_str(),
               .surface = "feed",
               .event_time_ms = 1'000,
               .user = {from.user_dense.data(), from.user_dense.size(), from.user_ids.data(), from.user_ids.size()},
               .context = {from.context_dense.data(), from.context_dense.size(), nullptr, 0},
               .candidates = n,
               .item_ids = names.data(),
               .item_dense = dense.data(),
               .item_dense_count = dense.size() / n,
               .item_features_ids = ids.data(),
               .item_id_count = ids.size() / n,
               .task_scores = scores.data(),
               .task_count = scores.size() / n,
               .expose_count = 0};
  }
  const OwnedRequest& owned;
  std::vector<const char*> names;
  std::vector<float> dense, scores;
  std::vector<std::uint64_t> ids;
  fuseline_request request{};
};

TEST_F(HotPathTest, SoDoesTheCFace) {
  // given
  const std::string address = "redis.address=unix:" + redis_->socket_path();
  const char* const settings[] = {address.c_str(), "ranker.poll_interval_ms=20", "ranker.fetch_jitter_ms=0", "ranker.scorer=live"};
  const fuseline_ranker_options options = {.config_file = nullptr,
                                           .settings = settings,
                                           .settings_count = std::size(settings),
                                           .name = "c",
                                           .version_folder = nullptr,
                                           .event_file = nullptr};
  fuseline_ranker* ranker = nullptr;
  ASSERT_EQ(fuseline_ranker_open(&options, &ranker), FUSELINE_OK) << fuseline_last_error();
  const auto publishing = Publishing();
  fuseline_state state{};
  ASSERT_TRUE(Eventually([&] {
    return fuseline_ranker_state(ranker, &state) == FUSELINE_OK && state.version > 0 && state.scorer_version > 0;
  }));
  const auto owned = Requests();
  std::vector<std::unique_ptr<CRequest>> requests;
  for (const auto& request : owned) requests.push_back(std::make_unique<CRequest>(*request));
  for (std::size_t i = 0; i < requests.size(); i += 2) requests[i]->request.task_count = 0;  // The scorer's.
  int rankings = 0, swaps = 0, failed = 0;

  // when
  const Deeds deeds = Watch::Run([&] {
    fuseline_reader* reader = nullptr;
    fuseline_decision decision;
    failed += fuseline_reader_open(ranker, &reader) == FUSELINE_OK ? 0 : 1;
    for (const auto& request : requests)
      failed += fuseline_rank(reader, &request->request, &decision) == FUSELINE_OK ? 0 : 1;
    std::uint64_t last = 0;
    Watch::Begin();
    for (; (rankings < kRankings || swaps < kSwaps) && rankings < kRankingsMost; ++rankings) {
      const fuseline_request& request = requests[static_cast<std::size_t>(rankings) % requests.size()]->request;
      failed +=
          fuseline_rank(reader, &request, &decision) == FUSELINE_OK && decision.count == request.candidates ? 0 : 1;
      failed += (decision.scorer_version != 0) == (request.task_count == 0) ? 0 : 1;
      swaps += decision.policy_version != last ? 1 : 0;
      last = decision.policy_version;
    }
    Watch::End();
    fuseline_reader_close(reader);
  });
  fuseline_ranker_close(ranker);

  // then
  EXPECT_EQ(failed, 0);
  EXPECT_GE(swaps, kSwaps);
  ExpectNothingButWork(deeds);
}

}  // namespace
}  // namespace fuseline
