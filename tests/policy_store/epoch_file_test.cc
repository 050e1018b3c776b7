// An epoch is never given twice, and a damaged counter is no beginning. Method: examples.
#include "fuseline/policy_store/epoch_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fuseline/core/file.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"

namespace fuseline {
namespace {

using ::testing::AllOf;

TEST(EpochFileTest, CountsUpFromOne) {
  const test::TempDir folder;
  for (std::uint64_t expected = 1; expected <= 12; ++expected) {
    ASSERT_OK_AND_ASSIGN(const std::uint64_t epoch, NextEpoch(folder.path()));
    EXPECT_EQ(epoch, expected);
  }
}

TEST(EpochFileTest, AFileThatHoldsNoNumberIsAnErrorThatNamesIt) {
  for (const char* text : {"", "0\n", "7", "x\n", "-1\n", "7 8\n"}) {
    const test::TempDir folder;
    ASSERT_THAT(WriteFileAtomically(folder / "epoch", text), IsOk());
    EXPECT_THAT(NextEpoch(folder.path()), AllOf(HasCode(Code::kCorrupt), MessageNames("epoch"))) << text;
  }
}

}  // namespace
}  // namespace fuseline
