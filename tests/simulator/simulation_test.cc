// Proven by running the closed loop: it repeats itself byte for byte, its events are valid and in order, what it says happened is
// what its events say, feedback is missing and late in the shares that it names, and bored users leave sooner.

#include <cmath>
#include <map>
#include <set>

#include "fuseline/proto/event_codec.h"
#include "fuseline/simulator/simulation.h"
#include "fuseline/test_support/matchers.h"
#include "test_world.h"

namespace fuseline {
namespace {

constexpr std::int64_t kStartMs = 1'700'000'000'000;
constexpr std::uint64_t kSeed = 11;

class Kept final : public EventSink {
 public:
  Status Append(v1::Event&& event) override {
    events.push_back(std::move(event));
    return OkStatus();
  }
  std::vector<v1::Event> events;
};

struct Played {
  std::vector<v1::Event> events;
  ArmStatistics statistics;
};

Played Play(const World& world, RankService& ranker, double hours) {
  Kept kept;
  Simulation simulation(world, ranker, kept, kStartMs);
  SimulationLimits limits;
  limits.until_ms = kStartMs + static_cast<std::int64_t>(hours * 3'600'000);
  EXPECT_THAT(simulation.RunUntil(limits), IsOk());
  EXPECT_THAT(simulation.Drain(), IsOk());
  EXPECT_EQ(simulation.events(), kept.events.size());
  return {std::move(kept.events), simulation.statistics()};
}

Played PlayStatic(const World& world, double hours) {
  auto ranker = test::StaticRanker(world);
  return Play(world, ranker, hours);
}

// Exposes what it should not, or ranks by a fixed rule.
class WorstRanker final : public RankService {
 public:
  explicit WorstRanker(const World& world) : world_(world) {}
  Status Rank(const RankingRequest& request, v1::Exposure* exposure) override {
    std::multimap<double, std::string_view> by_value;
    const std::size_t user = world_.UserOf(request.user_id).value();
    for (const auto id : request.item_ids) by_value.emplace(world_.Truth(user, world_.ItemOf(id).value()).satisfaction, id);
    auto worst = by_value.begin();
    for (std::size_t n = 0; n < request.expose_count; ++n) exposure->add_items()->set_item_id(std::string((worst++)->second));
    exposure->set_arm("worst");
    return OkStatus();
  }

 private:
  const World& world_;
};

class StrangeRanker final : public RankService {
 public:
  Status Rank(const RankingRequest&, v1::Exposure* exposure) override {
    exposure->add_items()->set_item_id("i999999999");
    return OkStatus();
  }
};

TEST(SimulationTest, TheSameSeedAndDecisionsGiveTheSameEvents) {
  const auto one = PlayStatic(*test::MakeWorld(40, kSeed), 8);
  const auto two = PlayStatic(*test::MakeWorld(40, kSeed), 8);
  const auto other = PlayStatic(*test::MakeWorld(40, kSeed + 1), 8);

  ASSERT_GT(one.events.size(), 500U);
  ASSERT_EQ(one.events.size(), two.events.size());
  for (std::size_t n = 0; n < one.events.size(); ++n) {
    ASSERT_EQ(one.events[n].SerializeAsString(), two.events[n].SerializeAsString()) << "event " << n;
  }
  EXPECT_NE(one.events[0].SerializeAsString(), other.events[0].SerializeAsString());
}

TEST(SimulationTest, EventsAreValidInOrderAndNamedOnce) {
  const auto played = PlayStatic(*test::MakeWorld(40, kSeed), 8);
  std::set<std::string> ids;
  std::int64_t before_ms = 0;
  for (const auto& event : played.events) {
    ASSERT_THAT(ValidateEvent(event, EventLimits{}), IsOk()) << event.ShortDebugString();
    ASSERT_TRUE(ids.insert(event.event_id()).second) << event.event_id();
    ASSERT_GE(event.event_time_ms(), before_ms);
    before_ms = event.event_time_ms();
  }
}

TEST(SimulationTest, WhatItCountsIsWhatItsEventsSay) {
  const auto played = PlayStatic(*test::MakeWorld(60, kSeed), 12);
  std::set<std::pair<std::string, std::string>> exposed;
  std::map<v1::Feedback::Kind, double> kinds;
  for (const auto& event : played.events) {
    if (event.has_exposure()) {
      for (const auto& item : event.exposure().items()) exposed.emplace(event.exposure().request_id(), item.item_id());
      EXPECT_EQ(event.exposure().items_size(), 5);
      continue;
    }
    ++kinds[event.feedback().kind()];
    EXPECT_TRUE(exposed.contains({event.feedback().request_id(), event.feedback().item_id()}))
        << "feedback before its exposure, or without one: " << event.ShortDebugString();
  }
  // Sessions that were still open are not in the statistics: compare by share of the exposed.
  const auto totals = played.statistics.Summarise("static").totals;
  const auto counted_exposed = static_cast<double>(totals.exposed), seen_exposed = static_cast<double>(exposed.size());
  EXPECT_LE(counted_exposed, seen_exposed);
  EXPECT_NEAR(kinds[v1::Feedback::CLICK] / seen_exposed / 0.98, static_cast<double>(totals.clicks) / counted_exposed, 0.02);
  EXPECT_NEAR(kinds[v1::Feedback::LIKE] / seen_exposed / 0.98, static_cast<double>(totals.likes) / counted_exposed, 0.02);
}

TEST(SimulationTest, FeedbackIsMissingInTheShareThatIsSet) {
  auto config = DefaultSettings();
  config.mutable_simulator()->set_users(60);
  const auto count = [&](double missing) {
    config.mutable_simulator()->set_feedback_missing(missing);
    const auto owned = CreateFeedWorld(config.simulator(), config.rewards(), kSeed, DefaultSchema()).value();
    const World& world = *owned;
    const auto played = PlayStatic(world, 12);
    double clicks = 0;
    std::uint64_t exposed = 0;
    for (const auto& event : played.events) {
      clicks += event.has_feedback() && event.feedback().kind() == v1::Feedback::CLICK ? 1 : 0;
      exposed += event.has_exposure() ? 5 : 0;
    }
    return clicks / static_cast<double>(exposed);
  };
  EXPECT_NEAR(count(0.3) / count(0), 0.7, 0.03) << "seed " << kSeed;
  EXPECT_EQ(count(1), 0);
}

TEST(SimulationTest, AWatchIsToldAtItsEndAndSomeSharesAfterTheSession) {
  const auto played = PlayStatic(*test::MakeWorld(150, kSeed), 24);
  std::map<std::string, std::int64_t> shown_ms;
  std::int64_t late = 0, shares = 0;
  for (const auto& event : played.events) {
    if (event.has_exposure()) {
      shown_ms[event.exposure().request_id()] = event.event_time_ms();
      continue;
    }
    const auto& feedback = event.feedback();
    const std::int64_t after_ms = event.event_time_ms() - shown_ms[feedback.request_id()];
    if (feedback.kind() == v1::Feedback::WATCH) { EXPECT_GE(after_ms, feedback.watch_ms()); }
    if (feedback.kind() == v1::Feedback::SHARE) {
      ++shares;
      late += after_ms > 30 * 60'000 ? 1 : 0;
    }
  }
  ASSERT_GT(shares, 200);
  EXPECT_NEAR(static_cast<double>(late) / static_cast<double>(shares), 0.05, 0.04) << "seed " << kSeed;
}

TEST(SimulationTest, BoredUsersLeaveSooner) {
  const auto owned = test::MakeWorld(100, kSeed);
  const World& world = *owned;
  WorstRanker worst(world);

  const auto bored = Play(world, worst, 24).statistics.Summarise("worst").totals;
  const auto content = PlayStatic(world, 24).statistics.Summarise("static").totals;

  const auto length = [](const UserTotals& totals) {
    return static_cast<double>(totals.requests) / static_cast<double>(totals.sessions);
  };
  EXPECT_LT(length(bored), 0.5 * length(content));
}

TEST(SimulationTest, WhatWasNotOfferedMayNotBeExposed) {
  const auto owned = test::MakeWorld(10, kSeed);
  const World& world = *owned;
  StrangeRanker strange;
  Kept kept;
  Simulation simulation(world, strange, kept, kStartMs);
  EXPECT_THAT(simulation.RunUntil({}), HasCode(Code::kInvalidInput));
}

TEST(SimulationTest, AStopIsHeededAndEventsAreLimited) {
  const auto owned = test::MakeWorld(10, kSeed);
  const World& world = *owned;
  auto ranker = test::StaticRanker(world);
  Kept kept;
  Simulation simulation(world, ranker, kept, kStartMs);
  SimulationLimits limits;
  limits.max_events = 100;
  ASSERT_OK_AND_ASSIGN(const auto events, simulation.RunUntil(limits));
  EXPECT_EQ(events, 100U);
  std::stop_source stop;
  stop.request_stop();
  ASSERT_OK_AND_ASSIGN(const auto none, simulation.RunUntil(limits, stop.get_token()));
  EXPECT_EQ(none, 0U);
}

TEST(WorldTest, ReactionsFollowTheTruth) {
  const auto owned = test::MakeWorld(20, kSeed);
  const World& world = *owned;
  constexpr int kTries = 40'000;
  for (const std::size_t item : {3U, 77U, 1200U}) {
    const TrueResponse truth = world.Truth(5, item);
    TrueResponse mean;
    Random random(kSeed, "test", item);
    for (int n = 0; n < kTries; ++n) {
      const Response response = world.React(5, item, random);
      mean.click += response.click / double{kTries};
      mean.valid += response.valid / double{kTries};
      mean.watch_s += static_cast<double>(response.watch_ms) / 1000 / kTries;
      mean.like += response.like / double{kTries};
      mean.reward += response.reward / kTries;
      mean.satisfaction += response.satisfaction / kTries;
    }
    EXPECT_NEAR(mean.click, truth.click, 0.01) << item;
    EXPECT_NEAR(mean.valid, truth.valid, 0.01) << item;
    EXPECT_NEAR(mean.watch_s, truth.watch_s, 0.05 * truth.watch_s + 0.05) << item;
    EXPECT_NEAR(mean.like, truth.like, 0.01) << item;
    EXPECT_NEAR(mean.reward, truth.reward, 0.03) << item;
    EXPECT_NEAR(mean.satisfaction, truth.satisfaction, 0.02) << item;
  }
}

TEST(WorldTest, AnotherSchemaOrTooFewItemsAreRefused) {
  auto config = DefaultSettings();
  auto schema = DefaultSchema();
  schema.mutable_tasks(0)->set_name("clicks");
  EXPECT_THAT(CreateFeedWorld(config.simulator(), config.rewards(), 1, schema), HasCode(Code::kInvalidInput));
  config.mutable_simulator()->set_items(20);
  EXPECT_THAT(CreateFeedWorld(config.simulator(), config.rewards(), 1, DefaultSchema()), HasCode(Code::kInvalidInput));
}

TEST(WorldTest, CandidatesAreDistinctAndTheSameForEveryRanker) {
  const auto owned = test::MakeWorld(20, kSeed);
  const World& world = *owned;
  std::vector<std::uint32_t> once, again;
  for (std::uint64_t request = 0; request < 50; ++request) {
    world.Candidates(7, request, &once);
    world.Candidates(7, request, &again);
    EXPECT_EQ(once, again);
    EXPECT_EQ(std::set<std::uint32_t>(once.begin(), once.end()).size(), world.candidate_count());
  }
}

}  // namespace
}  // namespace fuseline
