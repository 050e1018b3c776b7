// What a test needs around a server: it waits as long as needed and no longer, and leaves nothing
// behind.

#include "fuseline/test_support/server.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"

namespace fuseline::test {
namespace {

TEST(WaitUntilReadyTest, AServerThatEndsWhileStartingIsAnErrorWithItsLastLines) {
  const TempDir dir;
  ASSERT_OK_AND_ASSIGN(auto server,
                       ChildProcess::Start({"sh", "-c", "echo no port left; exit 1"}, dir / "log"));

  const Status status = WaitUntilReady(server, dir / "log", 10'000, [] { return false; });

  EXPECT_THAT(status, HasCode(Code::kUnavailable));
  EXPECT_THAT(status, MessageNames("no port left"));
}

TEST(WaitUntilReadyTest, AServerThatNeverGetsReadyIsGivenUp) {
  ASSERT_OK_AND_ASSIGN(auto server, ChildProcess::Start({"sleep", "600"}));

  EXPECT_THAT(WaitUntilReady(server, "", /*patience_ms=*/20, [] { return false; }),
              MessageNames("not ready in time"));
  EXPECT_TRUE(server.running());
}

TEST(WaitUntilReadyTest, ItAsksUntilTheAnswerIsYes) {
  ASSERT_OK_AND_ASSIGN(auto server, ChildProcess::Start({"sleep", "600"}));
  int asked = 0;

  EXPECT_THAT(WaitUntilReady(server, "", /*patience_ms=*/10'000, [&] { return ++asked == 3; }),
              IsOk());
  EXPECT_EQ(asked, 3);
}

TEST(TailOfFileTest, ItHasTheLastLinesOrNothing) {
  const TempDir dir;
  std::ofstream(dir / "log") << "one\ntwo\nthree\n";

  EXPECT_EQ(TailOfFile(dir / "log", 2), "two\nthree\n");
  EXPECT_EQ(TailOfFile(dir / "log", 9), "one\ntwo\nthree\n");
  EXPECT_EQ(TailOfFile(dir / "absent", 9), "");
}

TEST(TempDirTest, ItIsFreshAndGoesWithEverythingInIt) {
  std::string first_path;
  {
    const TempDir first;
    const TempDir second;
    EXPECT_NE(first.path(), second.path());
    std::ofstream(first / "file") << "content";
    first_path = first.path();
    EXPECT_TRUE(std::filesystem::exists(first_path + "/file"));
  }
  EXPECT_FALSE(std::filesystem::exists(first_path));
}

}  // namespace
}  // namespace fuseline::test
