// What a test starts beside itself does what it is told, is found dead when it died, and never outlives the test. With
// real processes.

#include "fuseline/test_support/child_process.h"

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"

namespace fuseline::test {
namespace {

TEST(ChildProcessTest, OutputEnvironmentAndExitStatusReachTheTest) {
  const TempDir dir;
  ASSERT_OK_AND_ASSIGN(auto child, ChildProcess::Start({.command = {"sh", "-c", "echo $GREETING; echo two >&2; exit 7"},
                                                        .environment = {{"GREETING", "one"}},
                                                        .output_path = dir / "log"}));

  EXPECT_EQ(child.WaitForExit(10'000), 7);

  EXPECT_FALSE(child.running());
  EXPECT_EQ(TailOfFile(dir / "log", 5), "one\ntwo\n");
  EXPECT_EQ(TailOfFile(dir / "log", 1), "two\n");
}

TEST(ChildProcessTest, AProgramThatDoesNotExistIsAnErrorThatNamesIt) {
  const auto child = ChildProcess::Start({.command = {"/no/such/program"}, .environment = {}, .output_path = ""});

  EXPECT_THAT(child, HasCode(Code::kUnavailable));
  EXPECT_THAT(child, MessageNames("/no/such/program"));
}

TEST(ChildProcessTest, OneThatIgnoresTheSignalIsKilledOncePatienceEnds) {
  const TempDir dir;
  ASSERT_OK_AND_ASSIGN(
      auto child, ChildProcess::Start({.command = {"sh", "-c", "trap '' TERM; touch $0; while :; do sleep 1; done", dir / "deaf"},
                                       .environment = {},
                                       .output_path = ""}));
  ASSERT_THAT(WaitUntilReady(child, "", 10'000, [&] { return std::filesystem::exists(dir / "deaf"); }), IsOk());

  EXPECT_EQ(child.Stop(SIGTERM, /*patience_ms=*/50), 128 + SIGKILL);
}

TEST(ChildProcessTest, WaitingForOneThatEndedEarlySaysWhatItPrintedLast) {
  const TempDir dir;
  ASSERT_OK_AND_ASSIGN(auto child, ChildProcess::Start({.command = {"sh", "-c", "echo no port left; exit 1"},
                                                        .environment = {},
                                                        .output_path = dir / "log"}));

  const Status status = WaitUntilReady(child, dir / "log", 10'000, [] { return false; });

  EXPECT_THAT(status, HasCode(Code::kUnavailable));
  EXPECT_THAT(status, MessageNames("no port left"));
}

TEST(ChildProcessTest, ItDiesWithTheProcessThatStartedIt) {
  const TempDir dir;
  int alive[2];  // Its writing end is held by the grandchild alone, so that reading ends when that has died.
  ASSERT_EQ(pipe(alive), 0);
  const pid_t parent = fork();
  if (parent == 0) {
    close(alive[0]);
    auto grandchild = ChildProcess::Start({.command = {"sleep", "600"}, .environment = {}, .output_path = ""});
    if (grandchild && write(alive[1], "s", 1) == 1) kill(getpid(), SIGKILL);  // As when a test crashes: no destructor runs.
    _exit(1);
  }
  close(alive[1]);
  waitpid(parent, nullptr, 0);

  char started = 0;
  ASSERT_EQ(read(alive[0], &started, 1), 1);
  EXPECT_EQ(read(alive[0], &started, 1), 0);
  close(alive[0]);
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
