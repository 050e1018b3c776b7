// What is started beside us does what it is told, is found dead when it died, and never outlives
// us. With real processes.

#include "fuseline/core/child_process.h"

#include <csignal>
#include <filesystem>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/server.h"
#include "fuseline/test_support/temp_dir.h"

namespace fuseline {
namespace {

using test::TempDir;

TEST(ChildProcessTest, ItsOutputAndExitStatusReachTheOwner) {
  const TempDir dir;
  ASSERT_OK_AND_ASSIGN(
      auto child, ChildProcess::Start({"sh", "-c", "echo one; echo two >&2; exit 7"}, dir / "log"));

  EXPECT_EQ(child.Wait(), 7);

  EXPECT_FALSE(child.running());
  EXPECT_EQ(test::TailOfFile(dir / "log", 5), "one\ntwo\n");
}

TEST(ChildProcessTest, AProgramThatDoesNotExistIsAnErrorThatNamesIt) {
  const auto child = ChildProcess::Start({"/no/such/program"});

  EXPECT_THAT(child, HasCode(Code::kNotFound));
  EXPECT_THAT(child, MessageNames("/no/such/program"));
}

TEST(ChildProcessTest, OneThatIgnoresTheRequestToEndIsKilledOncePatienceEnds) {
  const TempDir dir;
  ASSERT_OK_AND_ASSIGN(
      auto child,
      ChildProcess::Start(
          {"sh", "-c", "trap '' TERM; touch $0; while :; do sleep 1; done", dir / "deaf"}));
  ASSERT_THAT(test::WaitUntilReady(child, "", 10'000,
                                   [&] { return std::filesystem::exists(dir / "deaf"); }),
              IsOk());

  EXPECT_EQ(child.Stop(/*patience_ms=*/50), 128 + SIGKILL);
}

TEST(ChildProcessTest, ItDiesWithTheProcessThatStartedIt) {
  const TempDir dir;
  int alive[2];  // Its writing end is held by the grandchild alone, so that reading ends when that
                 // has died.
  ASSERT_EQ(pipe(alive), 0);
  const pid_t parent = fork();
  if (parent == 0) {
    close(alive[0]);
    auto grandchild = ChildProcess::Start({"sleep", "600"});
    if (grandchild && write(alive[1], "s", 1) == 1)
      kill(getpid(), SIGKILL);  // As when a test crashes: no destructor runs.
    _exit(1);
  }
  close(alive[1]);
  waitpid(parent, nullptr, 0);

  char started = 0;
  ASSERT_EQ(read(alive[0], &started, 1), 1);
  EXPECT_EQ(read(alive[0], &started, 1), 0);
  close(alive[0]);
}

}  // namespace
}  // namespace fuseline
