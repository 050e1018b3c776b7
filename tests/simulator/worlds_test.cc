// Proven by closed loops of the same users: in a synthetic world the best policy that it states is far above the hand-set weights,
// no change of it does better at any request, and where items matter one action a request stays below. And: worlds are found by
// name or file, are their file's and repeat themselves.

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <map>
#include <span>

#include "fuseline/proto/schema.h"
#include "fuseline/proto/settings.h"
#include "fuseline/simulator/local_rankers.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"

namespace fuseline {
namespace {

using ::testing::HasSubstr;

constexpr double kDays = 1;
constexpr std::uint32_t kMany = 1'000, kFew = 200;  // Visitors: what a figure needs, and what a comparison of many needs.

std::unique_ptr<World> Open(const std::string& name, std::uint64_t seed) {
  auto world = OpenWorld(name, seed, DefaultSettings().rewards());
  EXPECT_TRUE(world.has_value()) << world.error().message;
  return *std::move(world);
}

// Mean session reward of the same users' same days under `ranker`.
ArmSummary ValueOf(const World& world, RankService& ranker, std::uint32_t visitor_count) {
  Visitors visitors;
  visitors.users = visitor_count;
  const auto statistics = Evaluate(world, ranker, kDays, visitors);
  EXPECT_TRUE(statistics.has_value());
  return statistics->Summarise("arm");
}

TEST(SyntheticWorldTest, TheBestPolicyIsAboveTheHandSetWeightsByTheStatedGap) {
  for (const char* name : {"synthetic", "synthetic_items"}) {
    for (const std::uint64_t seed : {1U, 3U}) {
      const auto world = Open(name, seed);
      ASSERT_TRUE(world->best_is_optimal());

      const auto by_hand = ValueOf(*world, *world->StaticPolicy("arm"), kMany);
      const auto best = ValueOf(*world, *world->BestPolicy("arm"), kMany);

      const double gain = best.mean_session_reward / by_hand.mean_session_reward - 1;
      EXPECT_GT(gain, 0.20) << name << " seed " << seed;
      EXPECT_LT(gain, 0.70) << name << " seed " << seed;
    }
  }
}

// The best policy ranks by expected reward, request for request: what makes it optimal, tested without noise.
TEST(SyntheticWorldTest, TheBestPolicyOrdersByTheTruth) {
  for (const char* name : {"synthetic", "synthetic_items"}) {
    const auto world = Open(name, 5);
    const auto best = world->BestPolicy("arm");
    OracleRanker oracle(*world, 2, "arm");
    const auto of_best = ValueOf(*world, *best, kFew), of_truth = ValueOf(*world, oracle, kFew);
    EXPECT_NEAR(of_best.mean_session_reward, of_truth.mean_session_reward, 1e-3 * of_truth.mean_session_reward) << name;
  }
}

// Expected reward of what fusing by these actions exposes at a user's request: nothing is drawn, so nothing is noise.
double WorthOf(const World& world, std::size_t user, std::uint64_t request, const ActionRanker::ActionOf& action_of) {
  std::vector<std::uint32_t> items;
  world.Candidates(user, request, &items);
  std::vector<float> scores(items.size() * world.task_count()), action(world.action_space().width());
  world.Scores(user, items, scores);
  std::vector<std::pair<double, double>> ranked;  // Fused score, expected reward.
  for (std::size_t i = 0; i < items.size(); ++i) {
    action_of(user, items[i], action);
    ranked.emplace_back(world.action_space().FusedScore(std::span(scores).subspan(i * world.task_count(), world.task_count()), action),
                        world.Truth(user, items[i]).reward);
  }
  std::ranges::partial_sort(ranked, ranked.begin() + static_cast<std::ptrdiff_t>(world.exposed_count()), std::greater());
  double worth = 0;
  for (std::size_t i = 0; i < world.exposed_count(); ++i) worth += ranked[i].second;
  return worth;
}

// Request by request, by the truth: not on average, and not within noise.
TEST(SyntheticWorldTest, NoChangeOfTheBestActionDoesBetterAtAnyRequest) {
  for (const char* name : {"synthetic", "synthetic_items"}) {
    const auto world = Open(name, 7);
    const auto best_action = [&](std::size_t user, std::size_t item, std::span<float> action) { world->BestAction(user, item, action); };
    for (std::size_t user = 0; user < kFew; ++user) {
      const double best = WorthOf(*world, user, user, best_action);
      for (std::size_t dimension = 0; dimension < world->action_space().width(); ++dimension) {
        for (const float change : {-0.2F, 0.2F}) {
          const double changed = WorthOf(*world, user, user, [&](std::size_t who, std::size_t item, std::span<float> action) {
            world->BestAction(who, item, action);
            action[dimension] = std::clamp(action[dimension] + change, -1.0F, 1.0F);
          });
          EXPECT_LE(changed, best + 1e-4) << name << " user " << user << " dimension " << dimension << " change " << change;
        }
      }
    }
  }
}

// Where items matter, the best action of each user for its average item is the nearest that one action a request comes.
TEST(SyntheticWorldTest, OneActionARequestStaysBelowWhereItemsMatter) {
  const auto loss = [](const char* name) {
    const auto world = Open(name, 3);
    const std::size_t width = world->action_space().width();
    std::map<std::size_t, std::vector<float>> average;
    ActionRanker per_request(*world, [&](std::size_t user, std::size_t, std::span<float> action) {
      auto& mean = average[user];
      if (mean.empty()) {
        mean.assign(width, 0);
        for (std::size_t item = 0; item < 500; ++item) {
          world->BestAction(user, item, action);
          for (std::size_t d = 0; d < width; ++d) mean[d] += action[d] / 500;
        }
      }
      std::copy(mean.begin(), mean.end(), action.begin());
    }, "arm");
    const auto best = ValueOf(*world, *world->BestPolicy("arm"), kMany);
    return 1 - ValueOf(*world, per_request, kMany).mean_session_reward / best.mean_session_reward;
  };
  EXPECT_LT(std::abs(loss("synthetic")), 1e-3);
  EXPECT_GT(loss("synthetic_items"), 0.08);
}

TEST(OpenWorldTest, EveryBuiltInWorldOpensAndMeetsItsOwnSettings) {
  for (const auto& name : BuiltInWorlds()) {
    if (ResponseModelOf(name)->needed) continue;  // A fitted model is needed: response_world_test, log_world_test.
    const auto world = Open(name, 1);
    EXPECT_EQ(world->name(), name);
    const v1::Config config = SettingsFor(*world, DefaultSettings());
    EXPECT_EQ(SchemaDigest(config.schema()), world->schema_digest());
    EXPECT_EQ(config.schema().tasks_size(), static_cast<int>(world->task_count()));
  }
}

TEST(OpenWorldTest, AFileIsAWorldOfItsOwn) {
  const test::TempDir dir;
  const std::string path = dir / "mine.yaml";
  std::string text = BuiltInWorldText("synthetic").value();
  text.replace(text.find("users: 2000"), 11, "users: 77");
  std::ofstream(path) << text;

  const auto world = Open(path, 1);

  EXPECT_EQ(world->user_count(), 77U);
  EXPECT_EQ(world->name(), "mine");
}

TEST(OpenWorldTest, WhatIsWrongIsNamed) {
  const test::TempDir dir;
  const auto error_of = [&](const std::string& text) {
    const std::string path = dir / "bad.yaml";
    std::ofstream(path) << text;
    const auto world = OpenWorld(path, 1, DefaultSettings().rewards());
    return world ? std::string("it opened") : world.error().message;
  };
  const std::string good = BuiltInWorldText("synthetic").value();
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    return text.replace(text.find(from), from.size(), to);
  };
  EXPECT_THAT(error_of(with("kind: synthetic", "kind: dream")), HasSubstr("bad.yaml:4: kind is not one of"));
  EXPECT_THAT(error_of(with("users:", "user:")), HasSubstr("unknown setting population.user"));
  EXPECT_THAT(error_of(with("users: 2000", "users: 0")), HasSubstr("population.users is below 1"));
  EXPECT_THAT(error_of(with("powers: [0.8, ", "powers: [")), HasSubstr("synthetic.powers needs one value per task, 5, has 4"));
  EXPECT_THAT(error_of(with("user_spread: 0.4", "user_spread: 1.5")), HasSubstr("leave the range of policy"));
  EXPECT_THAT(error_of("about: nothing\n"), HasSubstr("a world has a key kind"));
  const auto nowhere = OpenWorld("atlantis", 1, DefaultSettings().rewards());
  ASSERT_THAT(nowhere, HasCode(Code::kInvalidInput));
  EXPECT_THAT(nowhere.error().message, HasSubstr("atlantis there are feed, synthetic, synthetic_items, xmtf, kuaisim"));
}

TEST(OpenWorldTest, ARewardThatWouldMoveTheOptimumIsRefused) {
  v1::Rewards rewards = DefaultSettings().rewards();
  rewards.set_like(-1);
  EXPECT_THAT(OpenWorld("synthetic", 1, rewards), HasCode(Code::kInvalidInput));
  EXPECT_THAT(OpenWorld("feed", 1, rewards), IsOk());
}

// Other visitors are other users, and later requests other draws.
TEST(VisitorsTest, JudgingIsKeptApartFromLearning) {
  const auto world = Open("synthetic", 2);
  const auto by_hand = world->StaticPolicy("arm");
  const auto value = [&](const Visitors& visitors) {
    return Evaluate(*world, *by_hand, kDays, visitors).value().Summarise("arm");
  };
  const auto half = value({.first_user = 0, .users = 500});
  EXPECT_EQ(half.users, 500U);
  EXPECT_EQ(value({.first_user = 0, .users = 500}).mean_session_reward, half.mean_session_reward);
  EXPECT_NE(value({.first_user = 500, .users = 500}).mean_session_reward, half.mean_session_reward);
  EXPECT_NE(value({.first_user = 0, .users = 500, .first_request = 100'000}).mean_session_reward, half.mean_session_reward);
  EXPECT_EQ(value({.first_user = 1'900, .users = 500}).users, 100U);
}

}  // namespace
}  // namespace fuseline
