// Proven against sequences computed by hand (session rules), a model small enough to compute by hand (the network), and long
// means of what users do (the world). No fitted file is needed: the tests write their own.

#include <cmath>
#include <fstream>

#include "fuseline/core/file.h"
#include "fuseline/proto/settings.h"
#include "fuseline/proto/world_file.h"
#include "fuseline/simulator/local_rankers.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"
#include "response_model.h"
#include "session_rules.h"
#include "small_response_model.h"

namespace fuseline {
namespace {

using ::testing::HasSubstr;

v1::World SettingsOf(const std::string& text) { return ReadWorldFile("test.yaml", text).value(); }

TEST(ResponseModelTest, ItsPredictionsAreTheNetworksByHand) {
  ASSERT_OK_AND_ASSIGN(const auto model, ResponseModel::Create(test::SmallModel(5, 7)));
  std::array<float, kResponseHeads> out{};
  model.Predict(3, 2, out);
  // y = user 0.3 | 0.3, item 0.4 | 0, bias 0 | -0.25: experts 0.7 and 0.05; gates are equal, so their mean 0.375 is mixed.
  for (std::size_t head = 0; head < kResponseHeads; ++head) {
    const double hidden = (1 + 0.1 * static_cast<double>(head)) * 0.375 + 0.05;
    const double value = (head == 6 ? 2.0 : 1.5) * hidden + (head == 0 ? 0.5 : head == 6 ? 2.0 : -1.0);
    EXPECT_NEAR(out[head], head < kResponseTasks ? 1 / (1 + std::exp(-value)) : value, 1e-6) << "head " << head;
  }
}

TEST(ResponseModelTest, AFileThatContradictsItselfIsRefused) {
  for (const auto& [name, tensor] : test::SmallModel(5, 7)) {
    auto without = test::SmallModel(5, 7);
    without.erase(name);
    EXPECT_THAT(ResponseModel::Create(without), HasCode(Code::kCorrupt)) << name;
    auto bent = test::SmallModel(5, 7);
    bent[name].shape.push_back(1);
    EXPECT_THAT(ResponseModel::Create(bent), HasCode(Code::kCorrupt)) << name;
  }
}

TEST(SessionRulesTest, XmtfsSatisfactionIsThatOfTheFormula) {
  const v1::World world = SettingsOf("kind: xmtf");
  EXPECT_DOUBLE_EQ(FirstXmtf(world.xmtf(), 500), 0.11);    // 500 / 10000 is below the least.
  EXPECT_DOUBLE_EQ(FirstXmtf(world.xmtf(), 3'000), 0.3);
  Mood mood{0.11, 0};
  EXPECT_FALSE(AfterXmtf(world.xmtf(), 0.2, &mood));       // 0.95 * 0.11 + 0.05 * 0.2
  EXPECT_NEAR(mood.satisfaction, 0.1145, 1e-12);
  EXPECT_FALSE(AfterXmtf(world.xmtf(), 0, &mood));         // 0.108775
  EXPECT_FALSE(AfterXmtf(world.xmtf(), 0, &mood));         // 0.10333625
  EXPECT_TRUE(AfterXmtf(world.xmtf(), 0, &mood));          // 0.0981694375: below 0.1
  EXPECT_NEAR(mood.satisfaction, 0.0981694375, 1e-12);
  EXPECT_EQ(mood.depth, 4U);
}

TEST(SessionRulesTest, AfterFiftyViewsXmtfsUserLeaves) {
  const v1::World world = SettingsOf("kind: xmtf");
  Mood mood{0.5, 0};
  for (int view = 1; view < 50; ++view) ASSERT_FALSE(AfterXmtf(world.xmtf(), 1, &mood)) << view;
  EXPECT_TRUE(AfterXmtf(world.xmtf(), 1, &mood));
}

TEST(SessionRulesTest, KuaisimsTemperOnlyFalls) {
  const v1::World world = SettingsOf("kind: kuaisim\nkuaisim:\n  temper: 5");
  Mood mood{world.kuaisim().temper(), 0};
  EXPECT_FALSE(AfterKuaisim(world.kuaisim(), 3.5, &mood));  // Better than expected costs and earns nothing.
  EXPECT_DOUBLE_EQ(mood.satisfaction, 5);
  EXPECT_FALSE(AfterKuaisim(world.kuaisim(), 0.5, &mood));  // - 1.5
  EXPECT_FALSE(AfterKuaisim(world.kuaisim(), -9, &mood));   // - 2: no request costs more.
  EXPECT_DOUBLE_EQ(mood.satisfaction, 1.5);
  EXPECT_TRUE(AfterKuaisim(world.kuaisim(), 1.25, &mood));  // 0.75: below 1
  EXPECT_EQ(mood.depth, 4U);
}

class ResponseWorldTest : public ::testing::Test {
 protected:
  std::unique_ptr<World> Open(const std::string& kind, const std::string& population, const std::string& more = "") {
    std::ofstream(dir_ / "response_model.safetensors") << EncodeWeights(test::SmallModel(40, 60));
    std::ofstream(dir_ / "world.yaml") << "kind: " << kind << "\npopulation: " << population << '\n' << more << '\n';
    auto world = OpenWorld(dir_ / "world.yaml", 3, DefaultSettings().rewards());
    EXPECT_TRUE(world.has_value()) << world.error().message;
    return *std::move(world);
  }
  test::TempDir dir_;
};

TEST_F(ResponseWorldTest, ReactionsFollowTheTruth) {
  for (const char* kind : {"xmtf", "kuaisim"}) {
    const auto world = Open(kind, "{users: 40, items: 60, candidates: 20, exposed: 2}");
    const TrueResponse truth = world->Truth(7, 11);
    TrueResponse mean;
    Random random(1, "test", 0);
    constexpr int kTries = 200'000;
    for (int n = 0; n < kTries; ++n) {
      const Response response = world->React(7, 11, random);
      mean.click += response.click / double{kTries};
      mean.valid += response.valid / double{kTries};
      mean.like += response.like / double{kTries};
      mean.watch_s += static_cast<double>(response.watch_ms) / 1000 / kTries;
      mean.reward += response.reward / kTries;
      mean.satisfaction += response.satisfaction / kTries;
    }
    EXPECT_NEAR(mean.click, truth.click, 0.005) << kind;
    EXPECT_NEAR(mean.valid, truth.valid, 0.005) << kind;
    EXPECT_NEAR(mean.like, truth.like, 0.005) << kind;
    EXPECT_NEAR(mean.watch_s, truth.watch_s, 0.02 * truth.watch_s) << kind;
    EXPECT_NEAR(mean.reward, truth.reward, 0.02 * truth.reward) << kind;
    EXPECT_NEAR(mean.satisfaction, truth.satisfaction, 0.02 * truth.satisfaction) << kind;
  }
}

TEST_F(ResponseWorldTest, XmtfsRewardIsPlayTimeAndGoesIntoTheSettings) {
  const auto world = Open("xmtf", "{users: 40, items: 60, candidates: 20, exposed: 1}");
  const v1::Config config = SettingsFor(*world, DefaultSettings());
  EXPECT_DOUBLE_EQ(config.rewards().watch_second(), 1.0 / 400);
  EXPECT_EQ(config.rewards().like(), 0);
  EXPECT_EQ(config.learner().max_items(), 1) << "what is learned from is what was shown";
  ASSERT_OK_AND_ASSIGN(const auto played, Evaluate(*world, *world->StaticPolicy("arm"), 1));
  const auto totals = played.Summarise("arm").totals;
  ASSERT_GT(totals.sessions, 0U);
  EXPECT_NEAR(totals.reward, totals.watch_s / 400, 0.001 * totals.reward);
  EXPECT_LE(totals.requests, 50 * totals.sessions);
}

TEST_F(ResponseWorldTest, ASessionEndsWhenTheTemperIsGone) {
  const auto world = Open("kuaisim", "{users: 40, items: 60, candidates: 20, exposed: 6}", "kuaisim: {expected: 6}");
  ASSERT_OK_AND_ASSIGN(const auto played, Evaluate(*world, *world->StaticPolicy("arm"), 1));
  const auto totals = played.Summarise("arm").totals;
  ASSERT_GT(totals.sessions, 0U);
  EXPECT_EQ(totals.exposed, 6 * totals.requests);
  EXPECT_GE(totals.requests, 4 * totals.sessions);  // 20 can fall by 6 a request, to below 1.
}

TEST_F(ResponseWorldTest, WithoutItsModelItNamesTheCommand) {
  std::ofstream(dir_ / "world.yaml") << "kind: xmtf\n";
  const auto world = OpenWorld(dir_ / "world.yaml", 1, DefaultSettings().rewards());
  ASSERT_THAT(world, HasCode(Code::kNotFound));
  EXPECT_THAT(world.error().message, HasSubstr("fuseline world fit --data FOLDER --out"));
}

TEST_F(ResponseWorldTest, MoreUsersThanTheModelHoldsAreRefused) {
  std::ofstream(dir_ / "response_model.safetensors") << EncodeWeights(test::SmallModel(40, 60));
  std::ofstream(dir_ / "world.yaml") << "kind: kuaisim\npopulation: {users: 41, items: 60, candidates: 20}\n";
  EXPECT_THAT(OpenWorld(dir_ / "world.yaml", 1, DefaultSettings().rewards()), HasCode(Code::kInvalidInput));
}

}  // namespace
}  // namespace fuseline
