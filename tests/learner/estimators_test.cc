// Off-policy estimators and AUCs: three decisions worked out by hand, the identities that must hold between the estimators on random
// logs, how often the intervals hold the truth where it is known, and AUCs against all pairs.

#include "fuseline/learner/estimators.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/core/random.h"
#include "fuseline/test_support/matchers.h"

namespace fuseline {
namespace {

struct Decision {
  double ratio = 1, reward = 0, q = 0, v = 0;
};

OffPolicyEstimates Judge(const std::vector<Decision>& decisions, double clip = 10) {
  OffPolicyEstimator estimator(clip);
  for (const Decision& d : decisions) {
    estimator.Add(d.ratio, d.reward, d.q, d.v);
    estimator.CloseCluster();
  }
  return estimator.Finish();
}

std::vector<Decision> RandomLog(std::uint64_t seed, int decisions) {
  Random random(seed, "decisions", 0);
  std::vector<Decision> log;
  for (int i = 0; i < decisions; ++i) {
    log.push_back({.ratio = std::exp(random.NextNormal()), .reward = random.NextNormal() + 1, .q = random.NextNormal(),
                   .v = random.NextNormal()});
  }
  return log;
}

// Ratio 2, 0.2 and 9: sums 11.2, of squares 4 + 0.04 + 81 = 85.04.
const std::vector<Decision> kThree{{2, 1, 0.5, 0.4}, {0.2, 0, 0.2, 0.3}, {9, 2, 1, 1.5}};

TEST(EstimatorsTest, ThreeDecisionsGiveWhatTheirFormulasGiveByHand) {
  const OffPolicyEstimates found = Judge(kThree, /*clip=*/3);
  EXPECT_EQ(found.rows, 3U);
  EXPECT_NEAR(found.ips->value, 20.0 / 3, 1e-12);          // (2 + 0 + 18) / 3
  EXPECT_NEAR(found.snips->value, 20.0 / 11.2, 1e-12);
  EXPECT_NEAR(found.clipped_ips->value, 8.0 / 3, 1e-12);   // (2 + 0 + 3 * 2) / 3
  EXPECT_NEAR(found.dr->value, 12.16 / 3, 1e-12);          // 0.4 + 2 * 0.5, 0.3 + 0.2 * -0.2, 1.5 + 9 * 1
  EXPECT_NEAR(found.sndr->value, 2.2 / 3 + 9.96 / 11.2, 1e-12);
  EXPECT_NEAR(*found.ess, 125.44 / 85.04, 1e-12);
}

TEST(EstimatorsTest, StandardErrorsOfThreeDecisionsAreThoseWorkedOutByHand) {
  const OffPolicyEstimates found = Judge(kThree, /*clip=*/3);
  // 2, 0, 18: squared deviations from 20/3 sum to 1752/9; over n (n - 1) = 6.
  EXPECT_NEAR(*found.ips->standard_error, std::sqrt(1752.0 / 9 / 6), 1e-12);
  // w (r - 25/14) = -22/14, -5/14, 27/14; squares sum to 1238/196; divided by the mean ratio 11.2 / 3.
  EXPECT_NEAR(*found.snips->standard_error, std::sqrt(1238.0 / 196 / 6) / (11.2 / 3), 1e-12);
  // 1.4, 0.26, 10.5.
  const double mean = 12.16 / 3;
  const double squares = std::pow(1.4 - mean, 2) + std::pow(0.26 - mean, 2) + std::pow(10.5 - mean, 2);
  EXPECT_NEAR(*found.dr->standard_error, std::sqrt(squares / 6), 1e-12);
  // v - mean v + (w (r - q) - R w) / (mean w), R = 9.96 / 11.2.
  double sum = 0;
  for (const Decision& d : kThree)
    sum += std::pow(d.v - 2.2 / 3 + (d.ratio * (d.reward - d.q) - 9.96 / 11.2 * d.ratio) / (11.2 / 3), 2);
  EXPECT_NEAR(*found.sndr->standard_error, std::sqrt(sum / 6), 1e-12);
  const auto interval = Interval95(*found.ips);
  EXPECT_NEAR((*interval)[1] - (*interval)[0], 2 * 1.959963984540054 * std::sqrt(1752.0 / 54), 1e-12);
}

TEST(EstimatorsTest, WithoutAModelDoublyRobustIsImportanceSampling) {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    std::vector<Decision> log = RandomLog(seed, 200);
    for (Decision& d : log) d.q = d.v = 0;
    const OffPolicyEstimates found = Judge(log);
    EXPECT_NEAR(found.dr->value, found.ips->value, 1e-12) << "seed " << seed;
    EXPECT_NEAR(found.sndr->value, found.snips->value, 1e-12) << "seed " << seed;
    EXPECT_NEAR(*found.dr->standard_error, *found.ips->standard_error, 1e-12) << "seed " << seed;
    EXPECT_NEAR(*found.sndr->standard_error, *found.snips->standard_error, 1e-12) << "seed " << seed;
  }
}

TEST(EstimatorsTest, EqualDensitiesGiveTheMeanReward) {
  std::vector<Decision> log = RandomLog(3, 300);
  double mean = 0;
  for (Decision& d : log) {
    d.ratio = 1;
    d.v = d.q;
    mean += d.reward / 300;
  }
  const OffPolicyEstimates found = Judge(log);
  for (const auto& estimate : {found.ips, found.snips, found.clipped_ips, found.dr, found.sndr})
    EXPECT_NEAR(estimate->value, mean, 1e-12);
  EXPECT_NEAR(*found.ess, 300, 1e-9);
}

TEST(EstimatorsTest, TheOrderOfDecisionsDoesNotMatterAndNeitherDoesACommonFactorOfTheRatiosToTheSelfNormalised) {
  std::vector<Decision> log = RandomLog(4, 500);
  const OffPolicyEstimates before = Judge(log);
  std::ranges::sort(log, {}, &Decision::reward);
  const OffPolicyEstimates sorted = Judge(log);
  EXPECT_NEAR(sorted.ips->value, before.ips->value, 1e-12);
  EXPECT_NEAR(sorted.sndr->value, before.sndr->value, 1e-12);
  EXPECT_NEAR(*sorted.dr->standard_error, *before.dr->standard_error, 1e-12);
  for (Decision& d : log) d.ratio *= 1e6;
  const OffPolicyEstimates scaled = Judge(log);
  EXPECT_NEAR(scaled.snips->value, before.snips->value, 1e-12);
  EXPECT_NEAR(*scaled.snips->standard_error, *before.snips->standard_error, 1e-12);
  EXPECT_NEAR(*scaled.ess, *before.ess, 1e-9);
}

TEST(EstimatorsTest, WhatCannotBeSaidIsAbsent) {
  EXPECT_FALSE(Judge({}).ips);
  const OffPolicyEstimates one = Judge({{2, 3, 0, 0}});
  EXPECT_EQ(one.ips->value, 6);
  EXPECT_FALSE(Interval95(*one.ips)) << "one decision knows nothing about its own error";
  const OffPolicyEstimates unseen = Judge({{0, 1, 0, 0}, {0, 2, 0, 0}});
  EXPECT_EQ(unseen.ips->value, 0);
  EXPECT_FALSE(unseen.snips) << "no decision that the policy would make";
  EXPECT_EQ(unseen.ess, 0.0);
  EXPECT_FALSE(Judge({{1e308, 1e308, 0, 0}, {1, 1, 0, 0}}).ips) << "not finite";
  EXPECT_FALSE(Judge({{1e300, 1, 0, 0}, {1, 1, 0, 0}}).ess) << "a ratio whose square is not finite";
}

// Behaviour N(0, 1), target N(0.5, 1), reward a + noise: the target earns 0.5. Sessions of four share a part of their noise.
TEST(EstimatorsTest, IntervalsHoldTheTruthAboutAsOftenAsTheySay) {
  std::map<std::string, int> held;
  constexpr int kRuns = 400;
  for (std::uint64_t seed = 0; seed < kRuns; ++seed) {
    Random random(seed, "coverage", 0);
    OffPolicyEstimator estimator(100);
    for (int session = 0; session < 250; ++session) {
      const double shared = random.NextNormal();
      for (int t = 0; t < 4; ++t) {
        const double a = random.NextNormal();
        const double q = 0.8 * a;  // A model that is wrong.
        estimator.Add(std::exp(0.5 * a - 0.125), a + shared + random.NextNormal(), q, 0.8 * 0.5);
      }
      estimator.CloseCluster();
    }
    const OffPolicyEstimates found = estimator.Finish();
    const auto note = [&](const char* name, const Estimate& estimate) {
      const auto [low, high] = *Interval95(estimate);
      held[name] += low <= 0.5 && 0.5 <= high ? 1 : 0;
    };
    note("ips", *found.ips);
    note("snips", *found.snips);
    note("dr", *found.dr);
    note("sndr", *found.sndr);
  }
  for (const auto& [name, count] : held) {
    EXPECT_GE(count, 0.92 * kRuns) << name;
    EXPECT_LE(count, 0.98 * kRuns) << name;
  }
}

TEST(EstimatorsTest, ADensityThatIsNoneIsRefused) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity(), kNan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(DensityRatio(0.25, 0.5).value(), 2);
  EXPECT_EQ(DensityRatio(0.25, 0).value(), 0);
  for (const auto& [behaviour, target] : std::vector<std::pair<double, double>>{
           {0, 1}, {-1, 1}, {kNan, 1}, {kInfinity, 1}, {1, -0.1}, {1, kNan}, {1, kInfinity}, {1e-300, 1e300}}) {
    const auto ratio = DensityRatio(behaviour, target);
    ASSERT_FALSE(ratio) << behaviour << ' ' << target;
    EXPECT_EQ(ratio.error().code, Code::kInvalidInput);
  }
}

// The share of (positive, negative) pairs in the right order, by looking at all of them; and the weights' sum.
std::array<double, 3> AllPairs(const std::vector<ScoredPair>& pairs) {
  double won = 0, both = 0, weight = 0;
  for (const ScoredPair& a : pairs) {
    weight += a.weight;
    for (const ScoredPair& b : pairs) {
      if (!a.positive || b.positive) continue;
      won += a.weight * b.weight * (a.score > b.score ? 1 : a.score == b.score ? 0.5 : 0);
      both += a.weight * b.weight;
    }
  }
  return {won, both, weight};
}

TEST(EstimatorsTest, AucsAreTheWeightedShareOfPairsInOrder) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Random random(seed, "gauc", 0);
    std::vector<ScoredPair> pairs;
    std::map<std::uint64_t, std::vector<ScoredPair>> users;
    for (int i = 0; i < 60; ++i) {
      pairs.push_back({.user = random.NextBelow(5), .score = static_cast<double>(random.NextBelow(6)),
                       .weight = random.NextBelow(4) == 0 ? 0.0 : random.NextUniform(0, 3), .positive = random.NextBelow(2) == 0});
      users[pairs.back().user].push_back(pairs.back());
    }
    double sum = 0, weights = 0;
    for (const auto& [user, own] : users) {
      const auto [won, both, weight] = AllPairs(own);
      if (both == 0) continue;
      sum += weight * won / both;
      weights += weight;
    }
    const RankingQuality quality = JudgeRanking(pairs);
    EXPECT_NEAR(quality.gauc->value, sum / weights, 1e-12) << "seed " << seed;
    const auto [won, both, weight] = AllPairs(pairs);
    EXPECT_NEAR(*quality.auc, won / both, 1e-12) << "seed " << seed;
  }
}

TEST(EstimatorsTest, AUserWithOneClassOrAClassWithoutWeightIsSkippedAndCounted) {
  const RankingQuality quality = JudgeRanking({{1, 0.5, 1, true}, {1, 0.4, 1, true},      // One class.
                                               {2, 1, 1, true},   {2, 0, 1, false},       // In order.
                                               {3, 1, 0, true},   {3, 0, 1, false}});     // A class without weight.
  EXPECT_EQ(quality.users_used, 1U);
  EXPECT_EQ(quality.users_skipped, 2U);
  EXPECT_EQ(quality.gauc->value, 1);
  EXPECT_FALSE(Interval95(*quality.gauc)) << "one user";
  EXPECT_FALSE(JudgeRanking({{1, 0.5, 1, true}}).auc);
  EXPECT_FALSE(JudgeRanking({}).gauc);
}

}  // namespace
}  // namespace fuseline
