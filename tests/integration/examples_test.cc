// Proven: the examples, built and installed as a user would from what is installed, rank with a version of the running demo.
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/core/child_process.h"
#include "fuseline/core/file.h"
#include "fuseline/redis/connection.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"

namespace fuseline::test {
namespace {

constexpr int kTries = 200;  // A second apart at most.

class ExamplesTest : public testing::Test {
 protected:
  // Runs a command to its end; its output if that was a success.
  std::string Run(const std::vector<std::string>& command) {
    const std::string output = dir_ / "output";
    std::filesystem::remove(output);
    auto process = ChildProcess::Start(command, output);
    if (!process) return process.error().message;
    const int status = process->Wait();
    const std::string said = ReadFile(output).value_or("");
    EXPECT_EQ(status, 0) << command[0] << ": " << said;
    return said;
  }

  TempDir dir_;
};

TEST_F(ExamplesTest, BothRankWithAVersionOfTheDemoAndAgree) {
  const std::string source = std::getenv("FUSELINE_SOURCE_DIR"), binaries = std::getenv("FUSELINE_BIN_DIR"), build = binaries + "/..";
  const std::string socket = dir_ / "demo/redis/redis.sock";
  ASSERT_OK_AND_ASSIGN(ChildProcess demo, ChildProcess::Start({binaries + "/fuseline", "demo", "--state", dir_ / "demo", "--events", "1000000000",
                                                               "--seconds-max", "600"}, dir_ / "demo.log"));
  const std::string settings = dir_ / "fuseline.yaml", prefix = dir_ / "prefix", example = dir_ / "example";
  ASSERT_THAT(WriteFileAtomically(settings, "redis:\n  address: unix:" + socket + "\nranker:\n  exploration: none\n"), IsOk());

  // when
  Run({"cmake", "--install", build, "--component", "ranker", "--prefix", prefix});
  Run({"cmake", "-S", source + "/examples/ranker_cpp", "-B", example, "-DCMAKE_PREFIX_PATH=" + prefix, "-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"});
  Run({"cmake", "--build", example});
  Run({source + "/serving_bridge/python/build_wheel.sh", prefix + "/lib/libfuseline_ranker.so", dir_ / "wheel", "0.1.0"});
  Run({"sh", "-c", "/usr/bin/python3 -m pip install --quiet --no-index --no-deps --target " + (dir_ / "site") + " " + (dir_ / "wheel") + "/*.whl"});
  const auto has_version = [&] {
    auto redis = RedisConnection::Connect({.address = "unix:" + socket});
    const auto there = redis ? redis->Command({"HEXISTS", "fuseline:{default}:aliases", "live"}) : tl::unexpected(redis.error());
    return there && there->integer == 1;
  };
  const auto wait = [] { std::this_thread::sleep_for(std::chrono::seconds(1)); };
  for (int i = 0; i < kTries && demo.running() && !has_version(); ++i) wait();
  std::string cpp, python;
  const auto version_of = [](const std::string& said) { return said.substr(0, said.find(',')); };
  for (int i = 0; i < kTries && demo.running(); ++i) {  // The demo goes on: until both have met the same version.
    cpp = Run({example + "/ranker_example", settings});
    python = Run({"env", "PYTHONPATH=" + (dir_ / "site"), "/usr/bin/python3", source + "/examples/ranker_python/ranker.py", settings});
    if (HasFailure() || version_of(cpp) == version_of(python)) break;
  }

  // then
  ASSERT_TRUE(demo.running()) << ReadFile(dir_ / "demo.log").value_or("");
  EXPECT_THAT(cpp, testing::MatchesRegex("version [1-9][0-9]*, best first: [abc]=.* [abc]=.* [abc]=.*\n"));
  EXPECT_EQ(python.substr(0, python.find(':')), cpp.substr(0, cpp.find(':')));
  ASSERT_OK_AND_ASSIGN(RedisConnection redis, RedisConnection::Connect({.address = "unix:" + socket}));
  for (const char* ranker : {"example-cpp", "example-python"}) {
    ASSERT_OK_AND_ASSIGN(const RedisReply said, redis.Command({"HEXISTS", "fuseline:{default}:acks", ranker}));
    EXPECT_EQ(said.integer, 1) << ranker;
  }
  EXPECT_EQ(demo.Stop(/*patience_ms=*/60'000), 130);
}

}  // namespace
}  // namespace fuseline::test
