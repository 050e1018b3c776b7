// A version rebuilt from what changed is the version, bit for bit, or it is an error. Method: weights as training moves
// them and weights of any bits; every damage of one bit, every truncation; bytes of today.
#include "fuseline/fusion/version_delta.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "fuseline/core/digest.h"
#include "fuseline/core/random.h"
#include "fuseline/fusion/policy_keys.h"
#include "fuseline/test_support/matchers.h"

namespace fuseline {
namespace {

PolicyVersion VersionOf(std::uint64_t number, std::string weights, std::uint64_t part_bytes = 1'000) {
  PolicyVersion version;
  version.manifest.set_version(number);
  version.weights = std::move(weights);
  SealManifest(version.manifest, version.weights, part_bytes);
  return version;
}

std::string BytesOf(const std::vector<float>& values) { return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)}; }

// Weights, and what some updates make of them: each moves by about `step` of its size.
std::pair<PolicyVersion, PolicyVersion> Trained(std::size_t count, double step) {
  Random random(7, "trained", count);
  std::vector<float> before(count), after(count);
  for (std::size_t i = 0; i < count; ++i) {
    before[i] = static_cast<float>(random.NextNormal() * 0.1);
    after[i] = static_cast<float>(before[i] * (1 + step * random.NextNormal()));
  }
  return {VersionOf(4, BytesOf(before)), VersionOf(5, BytesOf(after))};
}

TEST(VersionDeltaTest, TheRebuiltVersionIsTheSameBitForBitAndTheDeltaSmall) {
  for (const std::size_t count : {1U, 127U, 128U, 129U, 10'000U}) {
    const auto [base, next] = Trained(count, 1e-3);
    ASSERT_OK_AND_ASSIGN(const v1::VersionDelta delta, MakeDelta(base, next));
    ASSERT_OK_AND_ASSIGN(const PolicyVersion rebuilt, ApplyDelta(delta, base, next.manifest));
    EXPECT_EQ(rebuilt.weights, next.weights);
    EXPECT_EQ(rebuilt.manifest.SerializeAsString(), next.manifest.SerializeAsString());
    if (count == 10'000) {
      EXPECT_LT(delta.difference().size(), next.weights.size() * 6 / 10) << "a weight that moves by a thousandth keeps 10 of its 32 bits";
    }
  }
}

TEST(VersionDeltaTest, WhatDoesNotChangeCostsABitAWord) {
  const PolicyVersion base = VersionOf(1, std::string(4 * 12'800, 'x'));
  ASSERT_OK_AND_ASSIGN(const v1::VersionDelta delta, MakeDelta(base, VersionOf(2, base.weights)));
  EXPECT_EQ(delta.difference().size(), (12'800 + 100 * 5 + 7) / 8U);
}

TEST(VersionDeltaTest, FloatsOfEveryKindComeBack) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> some = {0.0F, -0.0F, 1.0F, -1.0F, nan, infinity, -infinity, 1e-45F, -3.4e38F};
  std::vector<float> others(some.rbegin(), some.rend());
  const PolicyVersion base = VersionOf(1, BytesOf(some)), next = VersionOf(2, BytesOf(others));
  ASSERT_OK_AND_ASSIGN(const v1::VersionDelta delta, MakeDelta(base, next));
  ASSERT_OK_AND_ASSIGN(const PolicyVersion rebuilt, ApplyDelta(delta, base, next.manifest));
  EXPECT_EQ(rebuilt.weights, next.weights);
}

RC_GTEST_PROP(VersionDeltaTest, AnyBytesOfOneSizeComeBack, ()) {
  const auto pairs = *rc::gen::arbitrary<std::vector<std::pair<char, char>>>();
  std::string before, after;
  for (const auto& [a, b] : pairs) before += a, after += b;
  const PolicyVersion base = VersionOf(1, before), next = VersionOf(2, after, /*part_bytes=*/7);
  const auto delta = MakeDelta(base, next);
  RC_ASSERT(delta.has_value());
  const auto rebuilt = ApplyDelta(*delta, base, next.manifest);
  RC_ASSERT(rebuilt.has_value());
  RC_ASSERT(rebuilt->weights == next.weights);
}

TEST(VersionDeltaTest, AnotherBaseAnotherResultAndAnotherSizeAreRefused) {
  const auto [base, next] = Trained(500, 1e-3);
  ASSERT_OK_AND_ASSIGN(const v1::VersionDelta delta, MakeDelta(base, next));
  PolicyVersion other = base;
  other.manifest.set_version(3);
  EXPECT_THAT(ApplyDelta(delta, other, next.manifest), HasCode(Code::kConflict));
  EXPECT_THAT(ApplyDelta(delta, VersionOf(4, std::string(base.weights.size(), 'x')), next.manifest), HasCode(Code::kConflict))
      << "the same number with other weights: the archive of another learner";
  EXPECT_THAT(ApplyDelta(delta, base, base.manifest), HasCode(Code::kConflict));
  EXPECT_THAT(MakeDelta(base, VersionOf(6, "short")), HasCode(Code::kInvalidInput));
  // A base whose bytes are not what its manifest says.
  PolicyVersion damaged = base;
  damaged.weights[100] = static_cast<char>(damaged.weights[100] ^ 1);
  EXPECT_THAT(ApplyDelta(delta, damaged, next.manifest), HasCode(Code::kCorrupt));
  damaged.weights.resize(damaged.weights.size() - 4);
  EXPECT_THAT(ApplyDelta(delta, damaged, next.manifest), HasCode(Code::kCorrupt));
  v1::VersionDelta newer = delta;
  newer.set_coding(2);
  EXPECT_THAT(ApplyDelta(newer, base, next.manifest), HasCode(Code::kCorrupt));
}

TEST(VersionDeltaTest, EveryFlippedBitAndEveryTruncationIsRefused) {
  const auto [base, next] = Trained(300, 1e-3);
  ASSERT_OK_AND_ASSIGN(const v1::VersionDelta delta, MakeDelta(base, next));
  const std::string& whole = delta.difference();
  for (std::size_t bit = 0; bit < 8 * whole.size(); ++bit) {
    v1::VersionDelta damaged = delta;
    (*damaged.mutable_difference())[bit / 8] = static_cast<char>(whole[bit / 8] ^ (1 << bit % 8));
    ASSERT_THAT(ApplyDelta(damaged, base, next.manifest), HasCode(Code::kCorrupt)) << "bit " << bit;
  }
  for (std::size_t size = 0; size < whole.size(); ++size) {
    v1::VersionDelta cut = delta;
    cut.mutable_difference()->resize(size);
    ASSERT_THAT(ApplyDelta(cut, base, next.manifest), HasCode(Code::kCorrupt)) << "bytes " << size;
  }
  v1::VersionDelta longer = delta;
  longer.mutable_difference()->push_back('\0');
  EXPECT_THAT(ApplyDelta(longer, base, next.manifest), HasCode(Code::kCorrupt));
}

TEST(VersionDeltaTest, TheCodingIsThatOfToday) {
  // Words 0, 1, -1, 300 and 2^31 apart, and a half word 1 apart: k = 0; 0, 110, 10, two escapes, 110.
  const std::string base(22, '\0');
  std::string next(22, '\0');
  const std::uint32_t words[] = {0, 1, 0xFFFF'FFFF, 300, 0x8000'0000};
  std::memcpy(next.data(), words, sizeof words);
  next[20] = 1;
  ASSERT_OK_AND_ASSIGN(const v1::VersionDelta delta, MakeDelta(VersionOf(1, base), VersionOf(2, next)));
  EXPECT_EQ(ToHex(delta.difference()), "c0faff7f2c010080ffffffffffff1f");
  EXPECT_EQ(delta.coding(), 1U);
}

}  // namespace
}  // namespace fuseline
