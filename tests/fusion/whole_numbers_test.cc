// Proven by round trips at the ends of what a part can be, and by what no writer writes.

#include "fuseline/fusion/whole_numbers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fuseline/test_support/matchers.h"

namespace fuseline {
namespace {

TEST(WholeNumbersTest, IdsComeBackBitForBitThroughTheFile) {
  const std::vector<std::uint64_t> ids = {0, 1, 0xFFFF, 0x10000, 0x0123'4567'89AB'CDEF, UINT64_MAX};
  TensorMap written;
  written["ids"] = TensorOfIds(ids, 3);
  EXPECT_THAT(written["ids"].shape, ::testing::ElementsAre(2, 12));

  ASSERT_OK_AND_ASSIGN(const TensorMap read, DecodeWeights(EncodeWeights(written)));

  ASSERT_OK_AND_ASSIGN(const auto back, IdsOf(read.at("ids")));
  EXPECT_EQ(back, ids);
}

TEST(WholeNumbersTest, BytesComeBack) {
  const std::string bytes("\0a\xFF\x80", 4);
  ASSERT_OK_AND_ASSIGN(const std::string back, BytesOf(TensorOfBytes(bytes)));
  EXPECT_EQ(back, bytes);
}

TEST(WholeNumbersTest, WhatIsNoPartOfANumberIsRefused) {
  for (const float bad : {-1.0F, 0.5F, 65'536.0F}) EXPECT_THAT(IdsOf({{1, 4}, {0, 0, 0, bad}}), HasCode(Code::kCorrupt)) << bad;
  EXPECT_THAT(IdsOf({{1, 3}, {0, 0, 0}}), HasCode(Code::kCorrupt));
  for (const float bad : {-1.0F, 0.5F, 256.0F}) EXPECT_THAT(BytesOf({{1}, {bad}}), HasCode(Code::kCorrupt)) << bad;
}

}  // namespace
}  // namespace fuseline
