// Keys are as documented, and nothing that contradicts its digest passes as a version. Method: examples, every byte flipped.
#include "fuseline/fusion/policy_keys.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fuseline/core/digest.h"
#include "fuseline/proto/schema.h"
#include "fuseline/test_support/matchers.h"
#include "versions.h"

namespace fuseline {
namespace {

TEST(PolicyKeysTest, AllKeysOfAPolicyShareOneHashTag) {
  const PolicyKeys keys("feed");
  const std::string all = keys.epoch() + ' ' + keys.change() + ' ' + keys.aliases() + ' ' + keys.changes() + ' ' + keys.versions() +
                          ' ' + keys.left() + ' ' + keys.acks() + ' ' + keys.experiments() + ' ' + keys.manifest(7) + ' ' +
                          keys.part(7, 0) + ' ' + keys.delta(7);
  EXPECT_EQ(all,
            "fuseline:{feed}:epoch fuseline:{feed}:change fuseline:{feed}:aliases fuseline:{feed}:changes fuseline:{feed}:versions "
            "fuseline:{feed}:left fuseline:{feed}:acks fuseline:{feed}:experiments fuseline:{feed}:v:7:manifest "
            "fuseline:{feed}:v:7:parts:0 fuseline:{feed}:v:7:delta");
}

TEST(PolicyKeysTest, ANameThatWouldBreakTheHashTagIsRefused) {
  EXPECT_THAT(ValidatePolicyName("feed_home-2.1"), IsOk());
  for (const std::string& name : {std::string(), std::string("a}b"), std::string("a b"), std::string("a:b"), std::string(129, 'a')}) {
    EXPECT_THAT(ValidatePolicyName(name), HasCode(Code::kInvalidInput)) << name;
  }
}

TEST(PolicyKeysTest, AChangeIsNewerByEpochFirst) {
  const auto change = [](std::uint64_t epoch, std::uint64_t number) {
    v1::AliasChange result;
    result.set_epoch(epoch);
    result.set_change(number);
    return result;
  };
  EXPECT_TRUE(IsNewer(change(2, 1), change(1, 9)));
  EXPECT_TRUE(IsNewer(change(1, 10), change(1, 9)));
  EXPECT_FALSE(IsNewer(change(1, 9), change(1, 9)));
  EXPECT_FALSE(IsNewer(change(1, 99), change(2, 1)));
}

TEST(PolicyKeysTest, PartsAreTheWeightsAgainAndAnyFlippedBitIsSeen) {
  PolicyVersion version = MakeVersion(3, "plain", 100);
  SealManifest(version.manifest, version.weights, 40);
  ASSERT_EQ(version.manifest.parts_size(), 3);
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < 3; ++i) parts.emplace_back(PartOf(version.manifest, version.weights, i));
  ASSERT_OK_AND_ASSIGN(const PolicyVersion again, AssembleVersion(version.manifest, parts));
  EXPECT_EQ(again.weights, version.weights);

  for (std::size_t part = 0; part < parts.size(); ++part) {
    for (std::size_t at = 0; at < parts[part].size(); ++at) {
      std::vector<std::string> flipped = parts;
      flipped[part][at] ^= static_cast<char>(1 << (at % 8));
      EXPECT_THAT(AssembleVersion(version.manifest, flipped), HasCode(Code::kCorrupt)) << part << ' ' << at;
    }
  }
  EXPECT_THAT(AssembleVersion(version.manifest, {parts[0], parts[1]}), HasCode(Code::kCorrupt));
  EXPECT_THAT(AssembleVersion(version.manifest, {parts[1], parts[0], parts[2]}), HasCode(Code::kCorrupt));
}

TEST(PolicyKeysTest, AManifestIsTakenOnlyUnderItsDigestItsVersionAndTheLimit) {
  PolicyVersion version = MakeVersion(3, "plain", 100);
  SealManifest(version.manifest, version.weights, 40);
  const std::string bytes = CanonicalBytes(version.manifest);
  EXPECT_THAT(DecodeManifest(bytes, Sha256Of(bytes), 3), IsOk());
  EXPECT_THAT(DecodeManifest(bytes, Sha256Of("else"), 3), HasCode(Code::kCorrupt));
  EXPECT_THAT(DecodeManifest(bytes, {}, 4), HasCode(Code::kCorrupt));
  EXPECT_THAT(DecodeManifest(bytes, {}, 3, /*max_weights_bytes=*/99), HasCode(Code::kCorrupt));
  EXPECT_THAT(DecodeManifest("\xFF\xFF", {}, 3), HasCode(Code::kCorrupt));

  for (const std::uint64_t size : {std::uint64_t{0}, kPartBytesMax + 1, std::uint64_t{1} << 31, ~std::uint64_t{0}}) {
    v1::PolicyManifest hostile = version.manifest;
    hostile.mutable_parts(1)->set_size_bytes(size);
    EXPECT_THAT(DecodeManifest(CanonicalBytes(hostile), {}, 3), HasCode(Code::kCorrupt)) << size;
  }
  v1::PolicyManifest many = version.manifest;  // Each within the limit, their sum not, and not around it either.
  for (int i = 0; i < 4'096; ++i)
    *many.add_parts() = many.parts(0), many.mutable_parts()->rbegin()->set_size_bytes(kPartBytesMax);
  EXPECT_THAT(DecodeManifest(CanonicalBytes(many), {}, 3), HasCode(Code::kCorrupt));
}

}  // namespace
}  // namespace fuseline
