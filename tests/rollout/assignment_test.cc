// Assignment agrees with GrowthBook: the published vectors of its SDK (github.com/growthbook/growthbook, packages/sdk-js/test/cases.json:
// "hash", "getBucketRange", "chooseVariation", "inNamespace"), and a ramp that moves nobody out, on random experiments.
#include "fuseline/rollout/assignment.h"

#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "fuseline/test_support/matchers.h"

namespace fuseline {
namespace {

TEST(AssignmentTest, BucketsAreTheHashesThatGrowthBookPublished) {
  struct Vector {
    const char* seed;
    const char* value;
    std::int64_t version;
    double expected;
  };
  const Vector vectors[] = {
      {"", "a", 1, 0.22},
      {"", "b", 1, 0.077},
      {"b", "a", 1, 0.946},
      {"ef", "d", 1, 0.652},
      {"asdf", "8952klfjas09ujk", 1, 0.549},
      {"", "123", 1, 0.011},
      {"", "___)((*\":&", 1, 0.563},
      {"seed", "a", 2, 0.0505},
      {"seed", "b", 2, 0.2696},
      {"foo", "ab", 2, 0.2575},
      {"foo", "def", 2, 0.2019},
      {"89123klj", "8952klfjas09ujkasdf", 2, 0.124},
      {"90850943850283058242805", "123", 2, 0.7516},
      {"()**(%$##$%#$#", "___)((*\":&", 2, 0.0128},
  };
  for (const Vector& v : vectors) {
    EXPECT_EQ(BucketOf(v.value, v.seed, *HashVersionOf(v.version)), v.expected) << v.seed << ' ' << v.value;
  }
  EXPECT_THAT(HashVersionOf(0), HasCode(Code::kInvalidInput));
  EXPECT_THAT(HashVersionOf(3), HasCode(Code::kInvalidInput));
}

TEST(AssignmentTest, RangesAreThoseThatGrowthBookPublished) {
  struct Vector {
    std::vector<double> weights;
    double coverage;
    std::vector<BucketRange> expected;
  };
  const Vector vectors[] = {
      {{0.5, 0.5}, 1, {{0, 0.5}, {0.5, 1}}},
      {{0.5, 0.5}, 0.5, {{0, 0.25}, {0.5, 0.75}}},
      {{0.5, 0.5}, 0, {{0, 0}, {0.5, 0.5}}},
      {{0.25, 0.25, 0.25, 0.25}, 1, {{0, 0.25}, {0.25, 0.5}, {0.5, 0.75}, {0.75, 1}}},
      {{0.4, 0.6}, 1, {{0, 0.4}, {0.4, 1}}},
      {{0.2, 0.3, 0.5}, 1, {{0, 0.2}, {0.2, 0.5}, {0.5, 1}}},
      {{0.2, 0.3, 0.5}, 0.2, {{0, 0.04}, {0.2, 0.26}, {0.5, 0.6}}},
      {{0.4, 0.5999}, 1, {{0, 0.4}, {0.4, 0.9999}}},
  };
  for (const Vector& v : vectors) {
    const auto ranges = BucketRangesOf(v.weights, v.coverage);
    ASSERT_THAT(ranges, IsOk());
    ASSERT_EQ(ranges->size(), v.expected.size());
    for (std::size_t i = 0; i < ranges->size(); ++i) {
      EXPECT_DOUBLE_EQ((*ranges)[i].begin, v.expected[i].begin);
      EXPECT_DOUBLE_EQ((*ranges)[i].end, v.expected[i].end);
    }
  }
}

TEST(AssignmentTest, WhereGrowthBookWouldFallBackOnEqualWeightsWeRefuse) {
  using Weights = std::vector<double>;
  EXPECT_THAT(BucketRangesOf(Weights{0.4, 0.1}, 1), HasCode(Code::kInvalidInput));
  EXPECT_THAT(BucketRangesOf(Weights{0.7, 0.6}, 1), HasCode(Code::kInvalidInput));
  EXPECT_THAT(BucketRangesOf(Weights{1.5, -0.5}, 1), HasCode(Code::kInvalidInput));
  EXPECT_THAT(BucketRangesOf(Weights{}, 1), HasCode(Code::kInvalidInput));
  EXPECT_THAT(BucketRangesOf(Weights{0.5, 0.5}, -0.2), HasCode(Code::kInvalidInput));
  EXPECT_THAT(BucketRangesOf(Weights{0.5, 0.5}, 1.5), HasCode(Code::kInvalidInput));
  EXPECT_THAT(BucketRangesOf(Weights{0.5, std::nan("")}, 1), HasCode(Code::kInvalidInput));
}

TEST(AssignmentTest, ABucketBelongsToTheArmWhoseRangeHoldsIt) {
  const std::vector<BucketRange> even = {{0, 0.5}, {0.5, 1}}, reduced = {{0, 0.25}, {0.5, 0.75}}, zero = {{0, 0.5}, {0.5, 0.5}, {0.5, 1}};
  EXPECT_EQ(ArmOfBucket(0.2, even), 0);
  EXPECT_EQ(ArmOfBucket(0.6, even), 1);
  EXPECT_EQ(ArmOfBucket(0.5, even), 1);
  EXPECT_EQ(ArmOfBucket(0.4, reduced), kNoArm);
  EXPECT_EQ(ArmOfBucket(0.8, reduced), kNoArm);
  EXPECT_EQ(ArmOfBucket(0.25, reduced), kNoArm);
  EXPECT_EQ(ArmOfBucket(0.5, reduced), 1);
  EXPECT_EQ(ArmOfBucket(0.5, zero), 2);
}

TEST(AssignmentTest, NamespacesAreThoseThatGrowthBookPublished) {
  for (const char* const user : {"1", "2"}) {
    EXPECT_FALSE(IsInNamespace(user, "namespace1", {0, 0.4})) << user;
    EXPECT_TRUE(IsInNamespace(user, "namespace1", {0.4, 1})) << user;
  }
  EXPECT_FALSE(IsInNamespace("1", "namespace2", {0, 0.4}));
  EXPECT_TRUE(IsInNamespace("1", "namespace2", {0.4, 1}));
}

TEST(AssignmentTest, ACoverageThatGrowsMovesNobodyOut) {
  rc::check("whoever is in an arm stays in it, and weights are kept at every coverage", [] {
    const int arms = *rc::gen::inRange(1, 6);
    std::vector<double> weights;
    double sum = 0;
    for (int i = 0; i < arms; ++i) weights.push_back(*rc::gen::inRange(1, 1'000));
    for (const double weight : weights) sum += weight;
    for (double& weight : weights) weight /= sum;
    const HashVersion version = *rc::gen::element(HashVersion::kOne, HashVersion::kTwo);
    const std::string salt = *rc::gen::arbitrary<std::string>();
    std::vector<double> stages = {0.01, 0.05, 0.1, 0.25, 0.5, 1};
    if (*rc::gen::arbitrary<bool>()) stages = {*rc::gen::inRange(0, 5'000) / 10'000.0, *rc::gen::inRange(5'000, 10'001) / 10'000.0};
    std::vector<int> arm_of(200, kNoArm);
    for (const double stage : stages) {
      const auto ranges = *BucketRangesOf(weights, stage);
      for (std::size_t user = 0; user < arm_of.size(); ++user) {
        const int arm = ArmOfBucket(BucketOf("u" + std::to_string(user), salt, version), ranges);
        if (arm_of[user] != kNoArm) RC_ASSERT(arm == arm_of[user]);
        arm_of[user] = arm;
      }
    }
  });
}

TEST(AssignmentTest, SharesAreWhatTheySayAndAnotherSaltShufflesTheUsersAnew) {
  const auto ranges = *BucketRangesOf(std::vector<double>{0.2, 0.8}, 1);
  int first = 0, both = 0;
  for (int user = 0; user < 20'000; ++user) {
    const std::string id = "u" + std::to_string(user);
    const bool one = ArmOfBucket(BucketOf(id, "one", HashVersion::kTwo), ranges) == 0;
    first += one ? 1 : 0;
    both += one && ArmOfBucket(BucketOf(id, "two", HashVersion::kTwo), ranges) == 0 ? 1 : 0;
  }
  EXPECT_NEAR(first, 4'000, 300);  // Five standard deviations.
  EXPECT_NEAR(both, 800, 140);
}

}  // namespace
}  // namespace fuseline
