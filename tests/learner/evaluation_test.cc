// NCIS against what can be said by hand.

#include "evaluation.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

namespace fuseline {
namespace {

TEST(EvaluationTest, NcisLeansTowardsRequestsNearThePolicy) {
  std::vector<LoggedRequest> requests;
  for (std::size_t i = 0; i < 100; ++i)
    requests.push_back({.session = i / 4, .log_density = 1, .squared_distance = i % 2 == 0 ? 0.0 : 0.25, .reward = i % 2 == 0 ? 1.0 : 0.0});
  const NcisResult result = Ncis(requests, 0.3, 10);
  const double far = std::exp(-0.25 / (2 * 0.09));
  EXPECT_NEAR(result.reward.value, 1 / (1 + far), 1e-9);
  EXPECT_NEAR(result.effective, 50 * (1 + far) * (1 + far) / (1 + far * far), 1e-6);
  EXPECT_NEAR(result.lower, result.reward.value, 1e-9) << "every session earned the same";
  EXPECT_EQ(result.capped_share, 0);
}

TEST(EvaluationTest, NcisCapsWhatWouldOutweighAllOthers) {
  std::vector<LoggedRequest> requests;
  for (std::size_t i = 0; i < 100; ++i) requests.push_back({.session = i, .log_density = i == 0 ? -10.0 : 0.0, .reward = i == 0 ? 1.0 : 0.0});
  EXPECT_GT(Ncis(requests, 0.3, 1e9).reward.value, 0.99);
  const NcisResult capped = Ncis(requests, 0.3, 10);
  EXPECT_NEAR(capped.capped_share, 0.01, 1e-12);
  EXPECT_LT(capped.lower, capped.reward.value);
}

}  // namespace
}  // namespace fuseline
