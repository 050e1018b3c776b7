// The program as a person meets it: what each command answers to a wrong word, a missing neighbour, a file given twice. Exit codes are
// those that README.md promises; none of this needs Kafka or Redis.

#include <cstdlib>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/core/child_process.h"
#include "fuseline/core/file.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"

namespace fuseline {
namespace {

using testing::HasSubstr;

// An exposure, a click on it, a line that is no event, and the click again. One session, flushed at the end.
constexpr const char* kEvents =
    R"({"event_id":"e1","user_id":"u1","event_time_ms":1000,"exposure":{"request_id":"r1","items":[{"item_id":"i1"}]}})" "\n"
    R"({"event_id":"e2","user_id":"u1","event_time_ms":2000,"feedback":{"request_id":"r1","item_id":"i1","kind":"CLICK"}})" "\n"
    "not an event\n"
    R"({"event_id":"e2","user_id":"u1","event_time_ms":2000,"feedback":{"request_id":"r1","item_id":"i1","kind":"CLICK"}})" "\n";

class CommandsTest : public testing::Test {
 protected:
  struct Outcome {
    int code;
    std::string output;  // Both kinds.
  };

  Outcome Run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), std::string(std::getenv("FUSELINE_BIN_DIR")) + "/fuseline");
    const auto output = folder_ / ("output" + std::to_string(++runs_));
    auto child = ChildProcess::Start(arguments, output);
    if (!child) return {-1, child.error().message};
    const int code = child->Wait();
    return {code, ReadFile(output).value_or("no output")};
  }
  Outcome Replay(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"replay", "--set", "fuseline.log_level=error"});
    return Run(arguments);
  }
  std::string Write(const std::string& name, const std::string& text) {
    EXPECT_THAT(WriteFileAtomically(folder_ / name, text), IsOk());
    return folder_ / name;
  }

  test::TempDir folder_;
  int runs_ = 0;
};

TEST_F(CommandsTest, EachCommandExplainsItselfWithAnExample) {
  for (const std::vector<std::string>& command :
       std::vector<std::vector<std::string>>{{"run"}, {"replay"}, {"demo"}, {"compare"}, {"status"}, {"sessions"}, {"sessions", "show"}, {"config"}, {"config", "init"},
                                             {"config", "print"}, {"config", "check"}, {"events"}, {"events", "check"}, {"import"},
                                             {"import", "kuairand"}, {"broker"}, {"assign"}, {"experiment"}, {"experiment", "create"}, {"experiment", "ramp"}, {"experiment", "status"}, {"experiment", "stop"}, {"experiment", "explain"}, {"explain"}, {"evaluate"}, {"evaluate", "ope"}, {"evaluate", "gauc"}, {"evaluate", "policy"},
                                             {"deadletters"},
                                             {"deadletters", "list"}, {"deadletters", "show"}, {"deadletters", "requeue"}}) {
    std::vector<std::string> arguments = command;
    arguments.push_back("--help");
    const Outcome help = Run(arguments);
    EXPECT_EQ(help.code, 0) << help.output;
    EXPECT_THAT(help.output, HasSubstr("Example:\n  fuseline " + command[0]));
  }
}

TEST_F(CommandsTest, EvaluateReadsAFileOrAPipeAndNamesTheLineOfABadCell) {
  const std::string good = "reward,behaviour_density,target_density\n1,0.25,0.5\n0,0.5,0.5\n";
  const std::string file = Write("good.csv", good), program = std::string(std::getenv("FUSELINE_BIN_DIR")) + "/fuseline";
  const Outcome read = Run({"evaluate", "ope", file});
  EXPECT_EQ(read.code, 0);
  EXPECT_THAT(read.output, HasSubstr(R"({"n":2,"ips":1.0,"snips":0.6666666666666666,"clipped_ips":1.0,"dr":null,"sndr":null,"ess":1.8,)"));
  auto piped = ChildProcess::Start({"/bin/sh", "-c", "exec '" + program + "' evaluate ope - < '" + file + "'"}, folder_ / "piped");
  ASSERT_THAT(piped, IsOk());
  EXPECT_EQ(piped->Wait(), 0);
  EXPECT_EQ(ReadFile(folder_ / "piped").value(), read.output);

  const Outcome bad = Run({"evaluate", "ope", Write("bad.csv", good + "1,0,0.5\n")});
  EXPECT_EQ(bad.code, 4);
  EXPECT_THAT(bad.output, HasSubstr("bad.csv:4:"));
  EXPECT_EQ(Run({"evaluate", "gauc", file}).code, 4) << "other columns";
  EXPECT_EQ(Run({"evaluate", "ope", "bogus.csv"}).code, 2);
  EXPECT_EQ(Run({"evaluate", "ope", file, "--clip", "nan"}).code, 2);
}

TEST_F(CommandsTest, WrongWordsAreUsageErrorsThatNameTheWord) {
  EXPECT_EQ(Run({}).code, 2);
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"bogus"}, {"run", "--bogus"}, {"replay", "bogus.jsonl"}, {"sessions", "bogus.jsonl"}, {"events", "check", "bogus.jsonl"},
           {"run", "--from", "bogus"}, {"run", "--set", "learner.bogus=1"}, {"run", "--config", "bogus.yaml"}}) {
    const Outcome outcome = Run(arguments);
    EXPECT_EQ(outcome.code, 2) << outcome.output;
    EXPECT_THAT(outcome.output, HasSubstr("bogus"));
  }
  EXPECT_EQ(Run({"replay"}).code, 2);
  EXPECT_EQ(Run({"replay", "--topic", Write("events.jsonl", kEvents)}).code, 2);
}

TEST_F(CommandsTest, AWrongSettingIsNamedWithItsFileLineAndNearestKey) {
  const std::string file = Write("a.yaml", "sessionizer:\n  gap_mss: 5\n");

  const Outcome outcome = Run({"run", "--config", file});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_THAT(outcome.output, HasSubstr(file + ":2: unknown setting sessionizer.gap_mss; did you mean sessionizer.gap_ms?"));
}

TEST_F(CommandsTest, ANeighbourThatIsAwayIsExitCodeThree) {
  const std::vector<std::string> nobody = {"--set", "kafka.brokers=127.0.0.1:1", "--set", "kafka.connect_timeout_ms=300", "--set",
                                           "redis.address=127.0.0.1:1", "--set", "fuseline.state_dir=" + (folder_ / "state")};
  for (std::vector<std::string> arguments : std::vector<std::vector<std::string>>{{"run"}, {"run", "--dry-run"}, {"replay", "--topic"}}) {
    arguments.insert(arguments.end(), nobody.begin(), nobody.end());
    const Outcome outcome = Run(arguments);
    EXPECT_EQ(outcome.code, 3) << outcome.output;
    EXPECT_THAT(outcome.output, HasSubstr("no broker answers"));
  }
}

TEST_F(CommandsTest, AReplayEndsWithOneLineAndAgainOnTheSameStateWithTheSame) {
  const std::string events = Write("events.jsonl", kEvents);
  const std::string state = folder_ / "state";

  const Outcome once = Replay({events, "--state", state, "--json"});

  EXPECT_EQ(once.code, 0) << once.output;
  EXPECT_THAT(once.output, HasSubstr(R"({"accounting":{"read":4,"used":2,"pending":0,"duplicate":1,"late":0,"orphan":0,"malformed":1,)"
                                     R"("quarantined":0,"control":0},"sessions":1,"steps":0,"versions":0,"weights_sha256":")"));
  const Outcome again = Replay({events, "--state", state, "--json"});
  EXPECT_EQ(again.code, 0) << again.output;
  EXPECT_EQ(again.output, once.output);
  EXPECT_EQ(Replay({events, "--json"}).output, once.output) << "a temporary state says the same";
}

TEST_F(CommandsTest, SettingsThatAStateRefusesDoNotBecomeItsOwn) {
  const std::string events = Write("events.jsonl", kEvents);
  const std::string state = folder_ / "state";
  ASSERT_EQ(Replay({events, "--state", state}).code, 0);

  const Outcome other_seed = Replay({events, "--state", state, "--set", "fuseline.seed=5000"});
  const Outcome other_input = Replay({Write("other.jsonl", kEvents), "--state", state});

  EXPECT_EQ(other_seed.code, 4) << other_seed.output;
  EXPECT_EQ(other_input.code, 4) << other_input.output;
  const Outcome status = Run({"status", "--state", state});
  EXPECT_EQ(status.code, 0) << status.output;
  EXPECT_THAT(status.output, HasSubstr("not running"));
  EXPECT_THAT(status.output, HasSubstr("next_offset      partition 0  4"));
}

TEST_F(CommandsTest, StatusOfNoStateSaysWhichFolder) {
  const Outcome status = Run({"status", "--state", folder_ / "none"});
  EXPECT_EQ(status.code, 4);
  EXPECT_THAT(status.output, HasSubstr(folder_ / "none"));
}

TEST_F(CommandsTest, AFileMayFollowASetting) {
  const Outcome outcome = Run({"sessions", "--set", "ingest.batch_records=7", Write("events.jsonl", kEvents)});
  EXPECT_EQ(outcome.code, 0) << outcome.output;
  EXPECT_THAT(outcome.output, HasSubstr(R"("events":2)"));
}

}  // namespace
}  // namespace fuseline
