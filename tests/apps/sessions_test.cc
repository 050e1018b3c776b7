// `fuseline sessions` as its users see it: files in, exact lines out.

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "fuseline/test_support/temp_dir.h"

namespace fuseline::test {
namespace {

// Exit code and standard output of `fuseline sessions ARGUMENTS` over a file of these lines.
std::pair<int, std::string> Sessions(const std::string& arguments, const std::string& lines) {
  TempDir dir;
  std::ofstream(dir / "events.jsonl") << lines;
  const char* bin = std::getenv("FUSELINE_BIN_DIR");
  const std::string command = std::string(bin == nullptr ? "." : bin) + "/fuseline sessions " + arguments + " " +
                              dir / "events.jsonl" + " 2>/dev/null";
  std::FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) return {-1, ""};
  std::string output;
  char buffer[4096];
  for (std::size_t n = 0; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) output.append(buffer, n);
  return {WEXITSTATUS(::pclose(pipe)), output};
}

std::string Click(const std::string& id, const std::string& user, int time_ms) {
  return R"({"event_id":")" + id + R"(","user_id":")" + user + R"(","event_time_ms":)" + std::to_string(time_ms) +
         R"(,"feedback":{"request_id":"r1","item_id":"i1","kind":"CLICK"}})" + "\n";
}

TEST(SessionsCommandTest, PrintsEachSessionAsItClosesAndThenTheAccount) {
  const auto [code, output] = Sessions(
      "--gap-ms 10 --lateness-ms 5",
      Click("e1", "u", 0) + Click("e1", "u", 0) + "not an event\n" + Click("e2", "v", 16) + Click("e3", "v", 10));

  EXPECT_EQ(code, 0);
  EXPECT_EQ(output,
            R"({"user_id":"u","first_ms":0,"last_ms":0,"events":1,"end":"terminated"})" "\n"
            R"({"user_id":"v","first_ms":16,"last_ms":16,"events":1,"end":"flushed"})" "\n"
            R"({"accounting":{"read":5,"used":0,"pending":0,"duplicate":1,"late":1,"orphan":2,"malformed":1,)"
            R"("quarantined":0,"control":0},"late_event_ids":["e3"]})" "\n");
}

TEST(SessionsCommandTest, AnEmptyFileHasAnEmptyAccount) {
  const auto [code, output] = Sessions("--gap-ms 0 --lateness-ms 0", "");

  EXPECT_EQ(code, 0);
  EXPECT_EQ(output, R"({"accounting":{"read":0,"used":0,"pending":0,"duplicate":0,"late":0,"orphan":0,"malformed":0,)"
                    R"("quarantined":0,"control":0},"late_event_ids":[]})" "\n");
}

TEST(SessionsCommandTest, ANegativeGapIsAUsageError) {
  EXPECT_EQ(Sessions("--gap-ms=-1 --lateness-ms 0", "").first, 2);
}

TEST(SessionsCommandTest, CutLinesTruncateOnlyWhenAskedFor) {
  const std::string lines = Click("e1", "u", 0) + Click("e2", "u", 10) + Click("e3", "u", 100);

  EXPECT_EQ(Sessions("--gap-ms 20 --lateness-ms 0", lines).second.find("truncated"), std::string::npos);
  EXPECT_NE(Sessions("--gap-ms 20 --lateness-ms 0 --cut-every-ms 10", lines).second.find("truncated"), std::string::npos);
}

}  // namespace
}  // namespace fuseline::test
