// Welford's statistics against the two-pass formula, and what Apply does with columns at the edges.
#include "fuseline/fusion/normaliser.h"

#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/core/random.h"

namespace fuseline {
namespace {

TEST(NormaliserStatisticsTest, MeanAndDeviationAreThoseOfTwoPasses) {
  // given: columns of very different size, one of them far from zero, where one-pass sums of squares fail
  Random random(11, "normaliser", 0);
  std::vector<std::vector<float>> rows(1'000, std::vector<float>(3));
  for (auto& row : rows) {
    row = {static_cast<float>(random.NextNormal()), static_cast<float>(1e6 + random.NextNormal()),
           static_cast<float>(1e-3 * random.NextUniform())};
  }

  // when
  NormaliserStatistics statistics({true, true, true});
  for (const auto& row : rows) statistics.Add(row);
  const Normaliser normaliser = statistics.Finish();

  // then
  EXPECT_EQ(statistics.count(), rows.size());
  for (std::size_t column = 0; column < 3; ++column) {
    double mean = 0;
    for (const auto& row : rows) mean += row[column] / static_cast<double>(rows.size());
    double variance = 0;
    for (const auto& row : rows) variance += (row[column] - mean) * (row[column] - mean) / static_cast<double>(rows.size());
    EXPECT_NEAR(normaliser.mean[column], mean, 1e-6 * std::abs(mean) + 1e-9);
    EXPECT_NEAR(normaliser.scale[column] * std::sqrt(variance), 1.0, 1e-6);
  }
}

TEST(NormaliserStatisticsTest, ConstantAndOneHotColumnsKeepTheirScale) {
  NormaliserStatistics statistics({true, false});
  for (int i = 0; i < 10; ++i) statistics.Add(std::vector<float>{0.1F, i % 2 == 0 ? 1.0F : 0.0F});
  const Normaliser normaliser = statistics.Finish();

  std::vector<float> state{0.1F, 1.0F};
  normaliser.Apply(state);
  EXPECT_EQ(state, (std::vector<float>{0.0F, 1.0F}));
  EXPECT_EQ(normaliser.scale, (std::vector<float>{1.0F, 1.0F}));
}

TEST(NormaliserStatisticsTest, WithoutStatesItChangesNothing) {
  std::vector<float> state{3.0F, -4.0F};
  NormaliserStatistics({true, true}).Finish().Apply(state);
  EXPECT_EQ(state, (std::vector<float>{3.0F, -4.0F}));
}

TEST(NormaliserStatisticsTest, RestoredStatisticsGoOnToTheBit) {
  // given
  Random random(12, "restore", 0);
  NormaliserStatistics whole({true, true});
  NormaliserStatistics first({true, true});
  NormaliserStatistics second({true, true});

  // when
  for (int i = 0; i < 100; ++i) {
    const std::vector<float> row{static_cast<float>(random.NextNormal()), static_cast<float>(random.NextUniform())};
    whole.Add(row);
    if (i == 50) second.Restore(first.count(), first.means(), first.squares());
    (i < 50 ? first : second).Add(row);
  }

  // then
  EXPECT_EQ(second.count(), whole.count());
  EXPECT_EQ(second.means(), whole.means());
  EXPECT_EQ(second.squares(), whole.squares());
}

TEST(NormaliserTest, AppliesToAPartOfTheColumnsAndCutsWhatIsFar) {
  const Normaliser normaliser{{0.0F, 1.0F, 2.0F}, {1.0F, 2.0F, 100.0F}};
  std::vector<float> part{1.5F, 3.0F};
  normaliser.Apply(part, 1);
  EXPECT_EQ(part, (std::vector<float>{1.0F, kNormalisedMax}));

  std::vector<float> all{std::numeric_limits<float>::max(), 1.0F, -std::numeric_limits<float>::max()};
  normaliser.Apply(all);
  EXPECT_EQ(all, (std::vector<float>{kNormalisedMax, 0.0F, -kNormalisedMax}));
}

}  // namespace
}  // namespace fuseline
