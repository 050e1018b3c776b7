// Proven by closed loops of the same users: there is something to learn in this world. Truth orders better than the best fixed
// weights, these better than the hand-set ones, each with its whole interval above zero; and the room is of a size met in practice.

#include "fuseline/simulator/bridge.h"
#include "fuseline/test_support/matchers.h"
#include "test_world.h"

namespace fuseline {
namespace {

constexpr double kPatience = 2;

TEST(OracleTest, BestWeightsBeatTheStaticOnesAndTruthBeatsBoth) {
  constexpr std::uint64_t kSeed = 21;
  constexpr double kDays = 2;
  const auto owned = test::MakeWorld(400, kSeed);
  const World& world = *owned;
  const auto space = test::DefaultSpace();
  const auto found = SearchFixedAction(world, space, world.segment_count(), kPatience, 200, 2);
  auto by_hand = test::StaticRanker(world);
  FixedActionRanker best(world, space, {found.action}, "best");
  OracleRanker oracle(world, kPatience, "oracle");

  ASSERT_OK_AND_ASSIGN(const auto of_static, Evaluate(world, by_hand, kDays));
  ASSERT_OK_AND_ASSIGN(const auto of_best, Evaluate(world, best, kDays));
  ASSERT_OK_AND_ASSIGN(const auto of_oracle, Evaluate(world, oracle, kDays));

  const auto a = of_static.Summarise("static"), b = of_best.Summarise("best"), c = of_oracle.Summarise("oracle");
  const auto lower_of = [](const ArmSummary& x, const ArmSummary& y) {
    double lower = 0, upper = 0;
    WelchInterval(x.mean_session_reward, x.variance, static_cast<double>(x.users), y.mean_session_reward, y.variance,
                  static_cast<double>(y.users), &lower, &upper);
    return lower;
  };
  EXPECT_GT(lower_of(b, a), 0) << "seed " << kSeed;
  EXPECT_GT(lower_of(c, b), 0) << "seed " << kSeed;
  const double gain = b.mean_session_reward / a.mean_session_reward - 1;
  EXPECT_GT(gain, 0.10) << "seed " << kSeed;
  EXPECT_LT(gain, 0.60) << "seed " << kSeed;
}

TEST(OracleTest, ASearchNeverDoesWorseThanWhereItBegan) {
  const auto owned = test::MakeWorld(100, 5);
  const World& world = *owned;
  const auto space = test::DefaultSpace();
  for (std::size_t segment = 0; segment <= world.segment_count(); ++segment) {
    const auto found = SearchFixedAction(world, space, segment, kPatience, 50, 1);
    EXPECT_GE(found.value, found.static_value) << "segment " << segment;
    EXPECT_GE(found.oracle_value, found.value) << "segment " << segment;
  }
}

}  // namespace
}  // namespace fuseline
