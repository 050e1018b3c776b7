// What the person on call types, over files: dead letters are listed once, shown with their bytes and never put back
// by accident; a closed session is explained by its name; two reward specifications are compared over the same
// trajectories.

#include <cstdlib>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "fuseline/core/child_process.h"
#include "fuseline/core/file.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"

namespace fuseline {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

// u1's session: request r1 with a liked and a watched item; closed, with everything else, by the end of the input.
// u2's has no exposure.
constexpr const char* kEvents =
    R"({"event_id":"e1","user_id":"u1","event_time_ms":1000,"exposure":{"request_id":"r1","policy_version":"4","arm":"live",)"
    R"("items":[{"item_id":"i1"},{"item_id":"i2","position":1}]}})"
    "\n"
    R"({"event_id":"e2","user_id":"u1","event_time_ms":2000,"feedback":{"request_id":"r1","item_id":"i1","kind":"LIKE"}})"
    "\n"
    "not an event\n"
    R"({"event_id":"e3","user_id":"u2","event_time_ms":2500,"feedback":{"request_id":"r9","item_id":"i9","kind":"CLICK"}})"
    "\n"
    R"({"event_id":"e4","user_id":"u1","event_time_ms":40000,"feedback":{"request_id":"r1","item_id":"i2","kind":"WATCH","watch_ms":30000}})"
    "\n"
    R"({"event_id":"","user_id":"u1","event_time_ms":40000,"feedback":{"request_id":"r1","item_id":"i2","kind":"CLICK"}})"
    "\n"
    R"({"event_id":"e2","user_id":"u1","event_time_ms":2000,"feedback":{"request_id":"r1","item_id":"i1","kind":"LIKE"}})"
    "\n";
constexpr const char* kName = "0-7-0";  // Seven records, then the end.

class OnCallTest : public testing::Test {
 protected:
  struct Outcome {
    int code;
    std::string output;  // Both kinds.

    json Line(std::size_t number) const {
      std::size_t at = 0;
      for (std::size_t i = 0; i < number; ++i) at = output.find('\n', at) + 1;
      return json::parse(output.substr(at, output.find('\n', at) - at), nullptr, /*allow_exceptions=*/false);
    }
  };

  Outcome Run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), std::string(std::getenv("FUSELINE_BIN_DIR")) + "/fuseline");
    const auto output = folder_ / ("output" + std::to_string(++runs_));
    auto child = ChildProcess::Start(arguments, output);
    if (!child) return {-1, child.error().message};
    const int code = child->Wait();
    return {code, ReadFile(output).value_or("no output")};
  }
  std::string Write(const std::string& name, const std::string& text) {
    EXPECT_THAT(WriteFileAtomically(folder_ / name, text), IsOk());
    return folder_ / name;
  }
  // Of a replay of kEvents, which keeps its dead letters in a file.
  std::string Letters() {
    const std::string letters = folder_ / "letters.jsonl";
    EXPECT_EQ(Run({"replay", events_, "--set", "ingest.dead_letters_file=" + letters}).code, 0);
    return letters;
  }

  test::TempDir folder_;
  int runs_ = 0;
  const std::string events_ = Write("events.jsonl", kEvents);
};

TEST_F(OnCallTest, DeadLettersAreListedOnceWithTheCountsOfTheirReasons) {
  const std::string letters = Letters();
  // A crash kept one a second time and left half a line.
  const std::string kept = ReadFile(letters).value();
  const std::string doubled = Write("doubled.jsonl", kept + kept.substr(0, kept.find('\n') + 1) + "{\"source\":\"ev");

  const Outcome table = Run({"deadletters", "list", "--file", doubled});
  EXPECT_EQ(table.code, 0) << table.output;
  EXPECT_THAT(table.output, HasSubstr("0:2 "));
  EXPECT_THAT(table.output, HasSubstr("0:5 "));
  EXPECT_THAT(table.output, HasSubstr("2 letters, the newest 2 shown, 1 repeats not shown"));
  EXPECT_THAT(table.output, HasSubstr("1 records are no dead letters"));

  const Outcome filtered = Run({"deadletters", "list", "--file", letters, "--json", "--reason", "event_id"});
  EXPECT_EQ(filtered.Line(0)["position"], "0:5");
  EXPECT_EQ(filtered.Line(0)["source"], events_);
  EXPECT_EQ(filtered.Line(1)["letters"], 1) << filtered.output;
  EXPECT_THAT(Run({"deadletters", "list", "--file", letters, "--partition", "1"}).output, HasSubstr("0 letters"));
  EXPECT_THAT(Run({"deadletters", "list", "--file", letters, "--limit", "1"}).output, Not(HasSubstr("0:2 ")));
}

TEST_F(OnCallTest, ADeadLetterIsShownWithItsBytesAndWhatTheDecoderSays) {
  const std::string letters = Letters();

  const Outcome page = Run({"deadletters", "show", "0:2", "--file", letters});
  EXPECT_EQ(page.code, 0) << page.output;
  EXPECT_THAT(page.output, HasSubstr("letter    0:2 of " + events_ + ", line 3\n"));
  EXPECT_THAT(page.output, HasSubstr("00000000  6e 6f 74 20 61 6e 20 65 76 65 6e 74              |not an event|\n"));
  EXPECT_THAT(page.output, HasSubstr("decodes   no: "));

  const json shown = Run({"deadletters", "show", "0:5", "--file", letters, "--json"}).Line(0);
  EXPECT_EQ(shown["decodes"], false);
  EXPECT_EQ(shown["decode_error"], shown["reason"]);

  EXPECT_EQ(Run({"deadletters", "show", "0:3", "--file", letters}).code, 4);
  EXPECT_EQ(Run({"deadletters", "show", "0-3", "--file", letters}).code, 2);
  EXPECT_EQ(Run({"deadletters", "list", "--file", folder_ / "none"}).code, 2);
  EXPECT_EQ(Run({"deadletters", "list", "--file", letters, "--since", "2022-04-24"}).code, 2)
      << "a file keeps no times";
}

TEST_F(OnCallTest, ARequeueAsksWhichLettersBeforeItLooksForABroker) {
  for (const std::vector<std::string>& which : std::vector<std::vector<std::string>>{{}, {"--all", "0:2"}}) {
    std::vector<std::string> arguments = {"deadletters", "requeue", "--file", "unused", "--execute"};
    arguments.insert(arguments.end(), which.begin(), which.end());
    const Outcome outcome = Run(arguments);
    EXPECT_EQ(outcome.code, 2);
    EXPECT_THAT(outcome.output, HasSubstr("say which letters"));
  }
}

TEST_F(OnCallTest, ASessionIsExplainedByItsNameFromTheFilesThatItCameFrom) {
  const std::string state = folder_ / "state";
  ASSERT_EQ(Run({"replay", events_, "--state", state, "--set", "fuseline.log_level=error"}).code, 0);

  const Outcome page = Run({"explain", kName, events_, "--state", state});

  EXPECT_EQ(page.code, 0) << page.output;
  EXPECT_THAT(page.output, HasSubstr("trajectory    0-7-0, built again from offsets 0"));
  EXPECT_THAT(
      page.output,
      HasSubstr("session       1970-01-01T00:00:01.000Z to 1970-01-01T00:00:40.000Z, 39000 ms, 3 events, flushed\n"));
  EXPECT_THAT(page.output, HasSubstr("learned       not yet"));
  EXPECT_THAT(page.output, HasSubstr("session engagement 3  watch 0.6\n"))
      << "a like and a valid consumption; 30 s at 0.02";
  EXPECT_THAT(page.output, HasSubstr("i1  reward engagement 2  watch 0  likes 1\n"));
  EXPECT_THAT(page.output, HasSubstr("i2  reward engagement 1  watch 0.6  watch_ms 30000\n"));
  EXPECT_THAT(page.output, HasSubstr("offset 4  e4  WATCH of i2 in request r1, watched 30000 ms\n"));
  EXPECT_THAT(page.output, HasSubstr("offset 6  e2  LIKE of i1 in request r1  (repeat)\n"));

  const json line = Run({"explain", kName, events_, "--state", state, "--json", "--set", "rewards.like=9"}).Line(0);
  EXPECT_EQ(line["session_reward"]["engagement"], 10);
  EXPECT_EQ(line["steps"][0]["policy_version"], 4);
  EXPECT_EQ(line["events"].size(), 4U);
  EXPECT_TRUE(line["learned_by"].is_null());
}

TEST_F(OnCallTest, ASessionIsBuiltAgainByTheRulesThatItWasMadeBy) {
  const std::string state = folder_ / "state";
  ASSERT_EQ(Run({"replay", events_, "--state", state}).code, 0);
  // The rules of a state are those that it was begun with, whatever the settings say later.
  ASSERT_EQ(Run({"replay", events_, "--state", state, "--gap-ms", "1000"}).code, 0);

  const Outcome page = Run({"explain", kName, events_, "--state", state});

  EXPECT_EQ(page.code, 0) << page.output;
  EXPECT_THAT(page.output, HasSubstr(" 39000 ms, 3 events, flushed\n"));
}

TEST_F(OnCallTest, SessionsOfAUserNeedAStateAndSessionsOfFilesAFile) {
  const Outcome show = Run({"sessions", "show", "u1", "--state", folder_ / "none"});
  EXPECT_EQ(show.code, 4);
  EXPECT_THAT(show.output, HasSubstr(folder_ / "none"));
  const Outcome neither = Run({"sessions"});
  EXPECT_EQ(neither.code, 2);
  EXPECT_THAT(neither.output, HasSubstr("sessions show USER"));
}

TEST_F(OnCallTest, ANameThatTheLogDoesNotGiveIsInvalidAndAWrongSpellingAUsageError) {
  EXPECT_EQ(Run({"explain", "0-6-0", events_, "--state", folder_ / "none"}).code, 4);
  EXPECT_EQ(Run({"explain", "0/7/0", events_}).code, 2);
}

TEST_F(OnCallTest, AReplayUnderOtherRewardsSaysWhatTheSameSessionsAreWorth) {
  const std::string other = Write("other.yaml", "rewards:\n  like: 9\n");

  const json line =
      Run({"replay", events_, "--rewards", other, "--json", "--set", "fuseline.log_level=error"}).Line(0);

  const json& rewards = line["rewards"];
  EXPECT_EQ(rewards["sessions"], 1) << line;
  EXPECT_EQ(rewards["sessions_changed"], 1);
  EXPECT_EQ(rewards["in_force"]["mean_session_reward"]["engagement"], 3);
  EXPECT_EQ(rewards["proposed"]["mean_session_reward"]["engagement"], 10);
  EXPECT_EQ(rewards["proposed"]["mean_session_reward"]["watch"], rewards["in_force"]["mean_session_reward"]["watch"]);
  EXPECT_NE(rewards["in_force"]["rewards_sha256"], rewards["proposed"]["rewards_sha256"]);
  EXPECT_EQ(rewards["in_force"]["weights_sha256"], line["weights_sha256"]);

  const Outcome table = Run({"replay", events_, "--rewards", other});
  EXPECT_THAT(table.output, HasSubstr("1 sessions, of these 1 with another reward"));
}

TEST_F(OnCallTest, ARewardSpecificationThatIsMoreOrLessIsAUsageError) {
  const Outcome more =
      Run({"replay", events_, "--rewards", Write("more.yaml", "rewards:\n  like: 9\nlearner:\n  gamma: 0.5\n")});
  EXPECT_EQ(more.code, 2);
  EXPECT_THAT(more.output, HasSubstr("more.yaml:3: a reward specification has the section rewards alone"));
  EXPECT_EQ(Run({"replay", events_, "--rewards", folder_ / "none.yaml"}).code, 2);
  EXPECT_EQ(
      Run({"replay", events_, "--state", folder_ / "state", "--rewards", Write("good.yaml", "rewards:\n  like: 9\n")})
          .code,
      2);
}

}  // namespace
}  // namespace fuseline
