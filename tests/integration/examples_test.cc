// Proven: the examples, built and installed as a user would from what is installed, rank with a version that the loop has published.
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/core/child_process.h"
#include "fuseline/core/file.h"
#include "fuseline/test_support/matchers.h"
#include "loop_harness.h"

namespace fuseline::test {
namespace {

constexpr std::uint64_t kEvents = 12'000;

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

TEST_F(ExamplesTest, BothRankWithThePublishedVersionAndAgree) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  ASSERT_OK_AND_ASSIGN(const auto events, SimulatedEvents(/*seed=*/7, kEvents));
  ASSERT_THAT(MakeEventsTopic(*kafka, "examples.events", /*partitions=*/1, events), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto redis, RedisProcess::Start());
  LoopProcess loop(*kafka, *redis, "examples.events",
                   {"fuseline.log_level=error", "sessionizer.gap_ms=120000", "learner.warmup_transitions=100", "learner.version_every_steps=10"});
  ASSERT_THAT(loop.Start(), IsOk());
  ASSERT_THAT(loop.WaitUntil([](const nlohmann::json& status) { return status["live_version"] > 0; }, /*patience_ms=*/60'000), IsOk());
  ASSERT_THAT(loop.WaitUntilLearned(kEvents, /*patience_ms=*/60'000), IsOk());
  const std::string source = std::getenv("FUSELINE_SOURCE_DIR"), build = std::string(std::getenv("FUSELINE_BIN_DIR")) + "/..";
  const std::string settings = dir_ / "fuseline.yaml", prefix = dir_ / "prefix", example = dir_ / "example";
  ASSERT_THAT(WriteFileAtomically(settings, "redis:\n  address: unix:" + redis->socket_path() + "\nranker:\n  exploration: none\n"), IsOk());

  // when
  Run({"cmake", "--install", build, "--component", "ranker", "--prefix", prefix});
  Run({"cmake", "-S", source + "/examples/ranker_cpp", "-B", example, "-DCMAKE_PREFIX_PATH=" + prefix, "-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"});
  Run({"cmake", "--build", example});
  Run({source + "/serving_bridge/python/build_wheel.sh", prefix + "/lib/libfuseline_ranker.so", dir_ / "wheel", "0.1.0"});
  Run({"sh", "-c", "/usr/bin/python3 -m pip install --quiet --no-index --no-deps --target " + (dir_ / "site") + " " + (dir_ / "wheel") + "/*.whl"});
  const std::string cpp = Run({example + "/ranker_example", settings});
  const std::string python = Run({"env", "PYTHONPATH=" + (dir_ / "site"), "/usr/bin/python3", source + "/examples/ranker_python/ranker.py", settings});

  // then
  EXPECT_THAT(cpp, testing::MatchesRegex("version [1-9][0-9]*, best first: [abc]=.* [abc]=.* [abc]=.*\n"));
  EXPECT_EQ(python.substr(0, python.find(':')), cpp.substr(0, cpp.find(':')));
  ASSERT_OK_AND_ASSIGN(const std::string acks, redis->Command({"HKEYS", "fuseline:{default}:acks"}));
  EXPECT_THAT(acks, testing::AllOf(testing::HasSubstr("example-cpp"), testing::HasSubstr("example-python")));
}

}  // namespace
}  // namespace fuseline::test
