// Proven: members of `fuseline sessionize`, killed with SIGKILL again and again while events flow, and some of them
// robbed of their state, say exactly what a member says that is left alone: every trajectory, none twice, byte for
// byte, under the same names, with the same account (so what was late before a kill is late after it). Method: the soak
// of soak.h, small; `make soak` runs the long one.

#include <iostream>

#include <gtest/gtest.h>

#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"
#include "soak.h"

namespace fuseline::test {
namespace {

TEST(SessionizeCrashTest, TwentyKillsAtRandomMomentsChangeNothing) {
  const TempDir dir;
  const auto seed = static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
  std::cout << "seed of the moments: " << seed << '\n';
  FUSELINE_KAFKA_OR_SKIP(
      const auto soak,
      Soak::Open({.folder = dir / "soak", .events = 100'000, .kills = 20, .for_ms = 540'000, .seed = seed}));

  ASSERT_OK_AND_ASSIGN(const SoakReport report, soak->Run());

  ASSERT_TRUE(report.finished) << "not in time";
  std::cout << report.trajectories << " trajectories, " << report.repeats << " repeats dropped; account "
            << report.account << '\n';
  EXPECT_EQ(report.lost, 0u);
  EXPECT_EQ(report.twice, 0u);
  EXPECT_EQ(report.altered, 0u);
  EXPECT_EQ(report.gaps, 0u);
  EXPECT_EQ(report.account, report.undisturbed_account);
  // There was something to go wrong.
  EXPECT_GT(report.trajectories, 1'000u);
  for (const char* fate : {"late", "duplicate", "orphan", "malformed", "used", "used_over_max_events"})
    EXPECT_GT(report.account[fate], 50) << fate;
}

}  // namespace
}  // namespace fuseline::test
