// The matchers accept what they name and refuse the rest, for Status and Result alike.

#include "fuseline/test_support/matchers.h"

#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

namespace fuseline {
namespace {

using ::testing::Not;

TEST(MatchersTest, OkAndErrorsAreToldApart) {
  const Status good;
  const Status bad = ErrorStatus(Code::kCorrupt, "digest differs", "part-3");
  const Result<int> value = 4;
  const Result<int> none = Error(Code::kNotFound, "no such version", 12);

  EXPECT_THAT(good, IsOk());
  EXPECT_THAT(bad, Not(IsOk()));
  EXPECT_THAT(value, IsOk());
  EXPECT_THAT(none, Not(IsOk()));
  EXPECT_THAT(good, HasCode(Code::kOk));
  EXPECT_THAT(bad, HasCode(Code::kCorrupt));
  EXPECT_THAT(bad, Not(HasCode(Code::kInternal)));
  EXPECT_THAT(none, HasCode(Code::kNotFound));
  EXPECT_THAT(bad, MessageNames("part-3"));
  EXPECT_THAT(none, Not(MessageNames("13")));
}

void AssignFrom(const Result<int>& result, int* out) { ASSERT_OK_AND_ASSIGN(*out, result); }

TEST(MatchersTest, AssigningTakesTheValueOrEndsTheTestWithTheMessage) {
  static int value;
  AssignFrom(7, &value);
  EXPECT_EQ(value, 7);

  static const Result<int> none = Error(Code::kUnavailable, "broker is gone");
  EXPECT_FATAL_FAILURE(AssignFrom(none, &value), "broker is gone");
  EXPECT_EQ(value, 7);
}

}  // namespace
}  // namespace fuseline
