// `fuseline config` and `fuseline events check`, as a person runs them: the real program, its output and exit code.

#include <cstdlib>

#include <gtest/gtest.h>

#include "fuseline/core/child_process.h"
#include "fuseline/core/file.h"
#include "fuseline/proto/event_codec.h"
#include "fuseline/proto/settings.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"

namespace fuseline {
namespace {

using testing::HasSubstr;
using testing::Not;

class ConfigEventsTest : public testing::Test {
 protected:
  struct Outcome {
    int code;
    std::string output;  // Both kinds.
  };

  Outcome Run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), std::string(std::getenv("FUSELINE_BIN_DIR")) + "/fuseline");
    const auto output = folder_ / ("output" + std::to_string(++runs_));  // A child appends.
    auto child = ChildProcess::Start(arguments, output);
    if (!child) return {-1, child.error().message};
    const int code = child->Wait();
    return {code, ReadFile(output).value_or("no output")};
  }
  std::string Write(const std::string& name, const std::string& text) {
    EXPECT_THAT(WriteFileAtomically(folder_ / name, text), IsOk());
    return folder_ / name;
  }

  test::TempDir folder_;
  int runs_ = 0;
};

TEST_F(ConfigEventsTest, InitWritesAFileThatChecksAndIsNeverOverwritten) {
  const auto file = folder_ / "fuseline.yaml";
  EXPECT_EQ(Run({"config", "init", "--out", file}).code, 0);
  EXPECT_EQ(ReadFile(file), PrintSettings(DefaultSettings(), true));

  const auto check = Run({"config", "check", "--config", file});
  EXPECT_EQ(check.code, 0) << check.output;
  EXPECT_THAT(check.output, HasSubstr("settings ok, digest "));

  EXPECT_EQ(Run({"config", "init", "--out", file}).code, 5);
}

TEST_F(ConfigEventsTest, PrintShowsWhatWasChangedAndResolvedShowsAll) {
  const auto file = Write("a.yaml", "sessionizer:\n  gap_ms: 60000\nschema:\n  tasks: [{name: buy, max: 1}]\n");

  const auto changed = Run({"config", "print", "--config", file, "--set", "learner.gamma=0.5"});
  EXPECT_EQ(changed.code, 0);
  EXPECT_EQ(changed.output, "sessionizer:\n  gap_ms: 60000\nlearner:\n  gamma: 0.5\nschema:\n  features:\n  tasks:\n"
                            "    - {name: \"buy\", min: 0, max: 1}\n");

  const auto resolved = Run({"config", "print", "--resolved", "--config", file});
  ASSERT_OK_AND_ASSIGN(const auto again, LoadSettings({.file = Write("b.yaml", resolved.output)}));
  ASSERT_OK_AND_ASSIGN(const auto given, LoadSettings({.file = file}));
  EXPECT_EQ(SettingsDigest(again), SettingsDigest(given));
}

TEST_F(ConfigEventsTest, AWrongSettingIsAUsageErrorWithItsPlace) {
  const auto file = Write("a.yaml", "sessionizer:\n  gap_m: 60000\n");
  const auto check = Run({"config", "check", "--config", file});
  EXPECT_EQ(check.code, 2);
  EXPECT_THAT(check.output, HasSubstr(file + ":2: unknown setting sessionizer.gap_m; did you mean sessionizer.gap_ms?"));
  EXPECT_EQ(Run({"config", "check", "--config", folder_ / "absent.yaml"}).code, 2);
  EXPECT_EQ(Run({"config"}).code, 2);
}

TEST_F(ConfigEventsTest, EventsCheckCountsByKindAndNamesLineAndField) {
  const auto file = Write("events.jsonl",
                          R"({"event_id":"e1","user_id":"u1","event_time_ms":0,"exposure":{"request_id":"r1","items":[{"item_id":"i7"}]}})" "\n"
                          R"({"event_id":"e2","user_id":"u1","event_time_ms":5,"feedback":{"request_id":"r1","item_id":"i7","kind":"CLICK"}})" "\n"
                          R"({"event_id":"e3","user_id":"u1","event_time_ms":5,"feedback":{"request_id":"r1","item_id":"i7","knd":"CLICK"}})" "\n"
                          R"({"event_id":"e4","user_id":"u1","event_time_ms":-5,"feedback":{"request_id":"r1","item_id":"i7"}})" "\n");

  const auto check = Run({"events", "check", "--errors", "1", file});

  EXPECT_EQ(check.code, 4);
  EXPECT_THAT(check.output, HasSubstr(file + ":3: feedback has an unknown key: knd\nand 1 more"));
  EXPECT_THAT(check.output, HasSubstr("records 4\nexposure 1\nfeedback 1\n  CLICK 1\ncontrol 0\nmalformed 2\n"));
}

TEST_F(ConfigEventsTest, EventsCheckReadsProtobufFramesAndIsContentWithGoodOnes) {
  v1::Event event;
  ASSERT_THAT(DecodeEvent(R"({"event_id":"e2","user_id":"u1","event_time_ms":5,)"
                          R"("feedback":{"request_id":"r1","item_id":"i7","kind":"LIKE"}})", {}, &event), IsOk());
  const auto bytes = event.SerializeAsString();
  ASSERT_LT(bytes.size(), 128U) << "its length is one byte of a varint";
  const auto frame = static_cast<char>(bytes.size()) + bytes;

  const auto check = Run({"events", "check", Write("events.pb", frame + frame)});

  EXPECT_EQ(check.code, 0) << check.output;
  EXPECT_EQ(check.output, "records 2\nexposure 0\nfeedback 2\n  LIKE 2\ncontrol 0\nmalformed 0\n");
}

TEST_F(ConfigEventsTest, EventsCheckOfAnAbsentFileIsAUsageError) {
  const auto check = Run({"events", "check", folder_ / "absent.jsonl"});
  EXPECT_EQ(check.code, 2);
  EXPECT_THAT(check.output, HasSubstr("absent.jsonl"));
}

}  // namespace
}  // namespace fuseline
