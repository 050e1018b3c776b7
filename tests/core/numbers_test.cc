// Digests and random numbers are parts of formats: they have published answers, and those of today must stay.

#include <array>
#include <cmath>
#include <set>

#include <gtest/gtest.h>

#include "fuseline/core/digest.h"
#include "fuseline/core/random.h"
#include "fuseline/test_support/matchers.h"

namespace fuseline {
namespace {

TEST(DigestTest, Sha256HasItsStandardsAnswersHoweverItIsFed) {
  EXPECT_EQ(ToHex(Sha256Of("")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(ToHex(Sha256Of("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  Sha256 hash;
  hash.Update("a");
  hash.Update("");
  hash.Update("bc");
  EXPECT_EQ(hash.Finish(), Sha256Of("abc"));
}

TEST(DigestTest, Fnv1aHasItsAuthorsAnswers) {
  EXPECT_EQ(Fnv1a64(""), 0xcbf29ce484222325ULL);
  EXPECT_EQ(Fnv1a64("a"), 0xaf63dc4c8601ec8cULL);
  EXPECT_EQ(Fnv1a64("foobar"), 0x85944171f73967e8ULL);
}

TEST(DigestTest, HexIsReadBackAndAnythingElseRefused) {
  std::string bytes;
  for (int i = 0; i < 256; ++i) bytes.push_back(static_cast<char>(i));
  EXPECT_EQ(FromHex(ToHex(bytes)), bytes);
  EXPECT_EQ(FromHex("0aFF"), std::string("\x0a\xff"));
  for (const auto* wrong : {"0", "0g", " 0", "0x"}) EXPECT_THAT(FromHex(wrong), HasCode(Code::kInvalidInput)) << wrong;
}

TEST(RandomTest, IsSplitMix64) {
  auto random = Random::FromState(0);
  EXPECT_EQ(random.NextU64(), 0xe220a8397b1dcdafULL);
  EXPECT_EQ(random.NextU64(), 0x6e789e6aa1b965f4ULL);
  EXPECT_EQ(random.NextU64(), 0x06c45d188009454fULL);
}

TEST(RandomTest, GoesOnFromItsState) {
  Random random(1, "replay", 2);
  random.NextNormal();
  auto again = Random::FromState(random.state());
  for (int i = 0; i < 10; ++i) EXPECT_EQ(random.NextU64(), again.NextU64());
}

TEST(RandomTest, SeedPurposeAndCounterEachGiveAnotherStream) {
  std::set<std::uint64_t> first_draws;
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    for (const auto* purpose : {"", "explore", "replay"}) {
      for (std::uint64_t counter = 0; counter < 30; ++counter) first_draws.insert(Random(seed, purpose, counter).NextU64());
    }
  }
  EXPECT_EQ(first_draws.size(), 30U * 3 * 30);
  EXPECT_EQ(Random(5, "replay", 6).NextU64(), Random(5, "replay", 6).NextU64());
}

TEST(RandomTest, NeighbouringStreamsAreNotCorrelated) {
  double sum = 0;
  constexpr int kDraws = 20'000;
  for (int i = 0; i < kDraws; ++i) {
    Random a(1, "noise", static_cast<std::uint64_t>(i)), b(1, "noise", static_cast<std::uint64_t>(i) + 1);
    sum += (a.NextUniform() - 0.5) * (b.NextUniform() - 0.5);
  }
  EXPECT_NEAR(sum / kDraws, 0, 5.0 / 12 / std::sqrt(kDraws)) << "five standard deviations";
}

TEST(RandomTest, BelowNIsUniformAndNeverReachesN) {
  Random random(3, "dice", 0);
  constexpr int kDraws = 60'000;
  std::array<int, 6> seen{};
  for (int i = 0; i < kDraws; ++i) ++seen.at(random.NextBelow(6));
  double chi_square = 0;
  for (const int count : seen) chi_square += (count - kDraws / 6.0) * (count - kDraws / 6.0) / (kDraws / 6.0);
  EXPECT_LT(chi_square, 25.7) << "p = 1e-4 with 5 degrees of freedom";
  EXPECT_EQ(random.NextBelow(1), 0U);
}

TEST(RandomTest, UniformAndNormalHaveTheirMoments) {
  Random random(4, "moments", 0);
  constexpr int kDraws = 100'000;
  double uniform = 0, normal = 0, square = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double u = random.NextUniform(-1, 3);
    ASSERT_TRUE(u >= -1 && u < 3);
    uniform += u;
    const double n = random.NextNormal();
    ASSERT_TRUE(std::isfinite(n));
    normal += n;
    square += n * n;
  }
  EXPECT_NEAR(uniform / kDraws, 1, 0.02);
  EXPECT_NEAR(normal / kDraws, 0, 0.02);
  EXPECT_NEAR(square / kDraws, 1, 0.03);
}

}  // namespace
}  // namespace fuseline
