// Sticky arms: the published vectors of the hash, and that shares are what they say.
#include "fuseline/serving_bridge/assignment.h"

#include <string>

#include <gtest/gtest.h>

namespace fuseline {
namespace {

TEST(AssignmentTest, BucketsAreThoseOfFnvTwiceOver) {
  // fnv1a32("u") = 0xf00c7f8c... is not asked here: the whole chain is, spelled out in 64-bit arithmetic.
  const auto fnv = [](const std::string& text) {
    std::uint64_t hash = 2166136261U;
    for (const unsigned char byte : text) hash = ((hash ^ byte) * 16777619U) & 0xffffffffU;
    return hash;
  };
  for (const char* const user : {"a", "u42", "", "a much longer user id with blanks", "\xc3\xa4"}) {
    for (const char* const salt : {"", "seed", "salt-2"}) {
      const double expected = static_cast<double>(fnv(std::to_string(fnv(std::string(salt) + user))) % 10'000) / 10'000;
      EXPECT_EQ(AssignmentBucket(user, salt), expected) << user << " " << salt;
    }
  }
  // fnv1a32 of "a" is 0xe40c292c by the reference; the second round hashes its decimal form.
  EXPECT_EQ(fnv("a"), 0xe40c292cU);
}

TEST(AssignmentTest, SharesAreWhatTheySayAndEndsAreExact) {
  int in_static = 0;
  for (int user = 0; user < 20'000; ++user) {
    const std::string id = "u" + std::to_string(user);
    in_static += AssignArm(id, "salt", 0.2) == Arm::kStatic ? 1 : 0;
    EXPECT_EQ(AssignArm(id, "salt", 0.0), Arm::kLearning);
    EXPECT_EQ(AssignArm(id, "salt", 1.0), Arm::kStatic);
  }
  EXPECT_NEAR(in_static, 4'000, 300);
}

TEST(AssignmentTest, AnotherSaltShufflesTheUsersAnew) {
  int both = 0;
  for (int user = 0; user < 20'000; ++user) {
    const std::string id = "u" + std::to_string(user);
    both += AssignArm(id, "one", 0.5) == Arm::kStatic && AssignArm(id, "two", 0.5) == Arm::kStatic ? 1 : 0;
  }
  EXPECT_NEAR(both, 5'000, 350);
}

}  // namespace
}  // namespace fuseline
