// MTF-GAUC and NCIS against what can be said by hand, and MTF-GAUC against all pairs.

#include "evaluation.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include <gtest/gtest.h>

#include "fuseline/core/random.h"

namespace fuseline {
namespace {

TEST(EvaluationTest, GaucIsTheWeightedShareOfPairsInOrder) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Random random(seed, "gauc", 0);
    std::vector<ScoredPair> pairs;
    for (int i = 0; i < 60; ++i) {
      pairs.push_back({.user = random.NextBelow(5), .score = static_cast<double>(random.NextBelow(6)),
                       .reward = random.NextUniform(-1, 3), .positive = random.NextBelow(2) == 0});
    }
    std::map<std::uint64_t, std::array<double, 3>> users;  // Won, pairs, weight.
    const auto weight = [](const ScoredPair& pair) { return std::max(pair.reward, 0.0) + 0.01; };
    for (const ScoredPair& a : pairs) {
      users[a.user][2] += weight(a);
      for (const ScoredPair& b : pairs) {
        if (a.user != b.user || !a.positive || b.positive) continue;
        users[a.user][0] += weight(a) * weight(b) * (a.score > b.score ? 1 : a.score == b.score ? 0.5 : 0);
        users[a.user][1] += weight(a) * weight(b);
      }
    }
    double sum = 0, weights = 0;
    for (const auto& [user, figures] : users) {
      if (figures[1] == 0) continue;
      sum += figures[2] * figures[0] / figures[1];
      weights += figures[2];
    }
    EXPECT_NEAR(MtfGauc(pairs).value, sum / weights, 1e-12) << "seed " << seed;
  }
}

TEST(EvaluationTest, AUserWithOneClassIsSkippedAndCounted) {
  const GaucResult result = MtfGauc({{1, 0.5, 1, true}, {1, 0.4, 1, true}, {2, 1, 1, true}, {2, 0, 1, false}});
  EXPECT_EQ(result.users, 1U);
  EXPECT_EQ(result.skipped_users, 1U);
  EXPECT_EQ(result.value, 1);
}

TEST(EvaluationTest, NcisLeansTowardsRequestsNearThePolicy) {
  std::vector<LoggedRequest> requests;
  for (std::size_t i = 0; i < 100; ++i)
    requests.push_back({.session = i / 4, .log_density = 1, .squared_distance = i % 2 == 0 ? 0.0 : 0.25, .reward = i % 2 == 0 ? 1.0 : 0.0});
  const NcisResult result = Ncis(requests, 0.3, 10);
  const double far = std::exp(-0.25 / (2 * 0.09));
  EXPECT_NEAR(result.value, 1 / (1 + far), 1e-9);
  EXPECT_NEAR(result.effective, 50 * (1 + far) * (1 + far) / (1 + far * far), 1e-6);
  EXPECT_NEAR(result.lower, result.value, 1e-9) << "every session earned the same";
  EXPECT_EQ(result.capped_share, 0);
}

TEST(EvaluationTest, NcisCapsWhatWouldOutweighAllOthers) {
  std::vector<LoggedRequest> requests;
  for (std::size_t i = 0; i < 100; ++i) requests.push_back({.session = i, .log_density = i == 0 ? -10.0 : 0.0, .reward = i == 0 ? 1.0 : 0.0});
  EXPECT_GT(Ncis(requests, 0.3, 1e9).value, 0.99);
  const NcisResult capped = Ncis(requests, 0.3, 10);
  EXPECT_NEAR(capped.capped_share, 0.01, 1e-12);
  EXPECT_LT(capped.lower, capped.value);
}

}  // namespace
}  // namespace fuseline
