// Proven with the program itself, on the made-up log: what it writes is read back, what it says is counted, and its exit codes.

#include <cstdlib>
#include <fstream>

#include "fuseline/core/child_process.h"
#include "fuseline/core/file.h"
#include "fuseline/datasets/kuairand.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"

namespace fuseline {
namespace {

using ::testing::HasSubstr;

class ImportTest : public ::testing::Test {
 protected:
  int Run(const std::string& log, const std::vector<std::string>& more) {
    const std::string data = std::string(std::getenv("FUSELINE_SOURCE_DIR")) + "/tests/datasets/data/";
    std::vector<std::string> arguments = {std::string(std::getenv("FUSELINE_BIN_DIR")) + "/fuseline", "import", "kuairand",
                                          "--log", data + log, "--users", data + "kuairand_users.csv", "--videos",
                                          data + "kuairand_videos.csv"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    auto program = ChildProcess::Start(arguments, folder_ / "output");
    EXPECT_THAT(program, IsOk());
    return program->Wait();
  }
  std::string Output() { return ReadFile(folder_ / "output").value_or(""); }
  test::TempDir folder_;
};

TEST_F(ImportTest, WritesEventsAndTheirSettingsAndCounts) {
  EXPECT_EQ(Run("kuairand_log.csv", {"--out", folder_ / "e.jsonl", "--config-out", folder_ / "k.yaml", "--json"}), 0);

  EXPECT_THAT(Output(), HasSubstr(R"("rows":600,"bad_rows":0,"duplicate_rows":10)"));
  EXPECT_EQ(ReadFile(folder_ / "k.yaml").value_or(""), KuaiRandSettings());
  std::ifstream events(folder_ / "e.jsonl");
  std::size_t lines = 0;
  for (std::string line; std::getline(events, line);) ++lines;
  EXPECT_THAT(Output(), HasSubstr(R"("events":)" + std::to_string(lines) + ","));
}

TEST_F(ImportTest, ADryRunWritesNothing) {
  EXPECT_EQ(Run("kuairand_log.csv", {"--dry-run", "--out", folder_ / "e.jsonl"}), 0);
  EXPECT_THAT(ReadFile(folder_ / "e.jsonl"), HasCode(Code::kNotFound));
}

TEST_F(ImportTest, ABadRowEndsItWithInvalidDataAndNoFile) {
  EXPECT_EQ(Run("kuairand_bad_log.csv", {"--out", folder_ / "e.jsonl"}), 4);
  EXPECT_THAT(Output(), HasSubstr("kuairand_bad_log.csv:6"));
  EXPECT_THAT(ReadFile(folder_ / "e.jsonl"), HasCode(Code::kNotFound));
  EXPECT_EQ(Run("kuairand_bad_log.csv", {"--out", folder_ / "e.jsonl", "--skip-bad-rows"}), 0);
}

TEST_F(ImportTest, AnUnknownFormOrNoOutputIsAUsageError) {
  EXPECT_EQ(Run("kuairand_log.csv", {"--out", folder_ / "e.csv"}), 2);
  EXPECT_EQ(Run("kuairand_log.csv", {}), 2);
}

}  // namespace
}  // namespace fuseline
