// `fuseline compare` as a person meets it, with few sessions: the same inputs give the same run file, what is finished is not made again,
// a stop leaves what is finished, other settings are refused, and the tables say what the run files say.
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/comparison/run_record.h"
#include "fuseline/core/child_process.h"
#include "fuseline/core/file.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"
#include "fuseline/test_support/well_formed.h"

namespace fuseline {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr auto kDeadline = std::chrono::seconds(120);

// A response model of one expert and towers of one column. Items of a higher number please more in some ways and less
// in others, so which weights the tasks have matters.
TensorMap SmallModel(std::uint32_t users, std::uint32_t items) {
  constexpr std::uint32_t kHeads = 7, kColumns = 1 + kHeads;  // The expert, then a gate for each head.
  const auto tensor = [](std::vector<std::uint32_t> shape, float value) {
    std::size_t size = 1;
    for (const std::uint32_t side : shape) size *= side;
    return Tensor{std::move(shape), std::vector<float>(size, value)};
  };
  TensorMap model{{"user.first", tensor({users, kColumns}, 0)},      {"item.first", tensor({items, kColumns}, 0)},
                  {"first.bias", tensor({kColumns}, 0.1F)},          {"tower.hidden.weight", tensor({kHeads, 1, 1}, 1)},
                  {"tower.hidden.bias", tensor({kHeads, 1}, 0)},     {"tower.out.weight", tensor({kHeads, 1}, 1)},
                  {"tower.out.bias", tensor({kHeads}, -1)},          {"user.profile", tensor({users, 1}, 0)},
                  {"item.profile", tensor({items, 1}, 0)},           {"user.play_s", tensor({users}, 2'000)},
                  {"item.duration_s", tensor({items}, 20)},          {"watch.spread", tensor({1}, 0.5F)}};
  for (std::uint32_t user = 0; user < users; ++user)
    model["user.first"].values[user * kColumns] = model["user.profile"].values[user] = 0.1F * static_cast<float>(user % 5);
  for (std::uint32_t item = 0; item < items; ++item) {
    model["item.first"].values[item * kColumns] = model["item.profile"].values[item] = 0.03F * static_cast<float>(item);
  }
  model["tower.out.bias"].values = {0, -2, -3, -3, -3, -1, 1.5F};  // Clicks often, the rest seldom; watches some seconds.
  model["tower.out.weight"].values = {1, -1, 0.5F, 0.5F, -0.5F, 1, 0.5F};  // Not every task rises with the others.
  return model;
}

class CompareTest : public testing::Test {
 protected:
  struct Outcome {
    int code;
    std::string output;  // Both kinds.
  };

  // The synthetic world with few users and candidates: most of a short run's time is its judgement.
  std::string SmallWorld() {
    std::string text = ReadFile(std::string(std::getenv("FUSELINE_SOURCE_DIR")) + "/lab/worlds/synthetic.yaml").value_or("");
    for (const auto& [from, to] : {std::pair<std::string, std::string>{"users: 2000", "users: 400"}, {"candidates: 100", "candidates: 20"}})
      text.replace(text.find(from), from.size(), to);
    const std::string path = folder_ / "synthetic.yaml";
    EXPECT_THAT(WriteFileAtomically(path, text), IsOk());
    return path;
  }
  // A world of a response model, with few users, items and candidates and short sessions.
  std::string SmallResponseWorld(const std::string& kind, const std::string& more) {
    const std::string path = folder_ / (kind + ".yaml");
    const std::string text = "kind: " + kind + "\npolicy: {static_powers: [1, 1, 1, 1, 1, 1]}\n" + more + "\n";
    EXPECT_THAT(WriteFileAtomically(folder_ / "response_model.safetensors", EncodeWeights(SmallModel(40, 60))), IsOk());
    EXPECT_THAT(WriteFileAtomically(path, text), IsOk());
    return path;
  }
  // A comparison that learns a little and makes versions within a few sessions.
  std::vector<std::string> Command(const std::string& out, const std::string& algorithms, const std::string& seeds) {
    return CommandIn(SmallWorld(), out, algorithms, seeds);
  }
  std::vector<std::string> CommandIn(const std::string& world, const std::string& out, const std::string& algorithms,
                                     const std::string& seeds) {
    return {std::string(std::getenv("FUSELINE_BIN_DIR")) + "/fuseline", "compare", "--world", world,
            "--algorithms", algorithms, "--seeds", seeds, "--sessions", "800", "--points", "3", "--out", folder_ / out,
            "--set", "learner.warmup_transitions=100",
            "--set", "learner.steps_per_transition=0.05", "--set", "learner.version_every_steps=8", "--set", "learner.actor_delay_steps=4"};
  }
  Outcome Run(std::vector<std::string> command, const std::vector<std::string>& more = {}) {
    command.insert(command.end(), more.begin(), more.end());
    const std::string output = folder_ / ("output" + std::to_string(++runs_));
    auto child = ChildProcess::Start(command, output);
    if (!child) return {-1, child.error().message};
    const int code = child->Wait();
    return {code, ReadFile(output).value_or("no output")};
  }
  std::string FileOf(const std::string& out, const std::string& run) { return folder_ / (out + "/runs/" + run + ".json"); }
  RunRecord Record(const std::string& out, const std::string& run) {
    const auto record = ParseRunRecord(ReadFile(FileOf(out, run)).value_or("absent"));
    EXPECT_THAT(record, IsOk()) << run;
    return record.value_or(RunRecord());
  }
  static std::string WithoutWallTime(RunRecord record) {
    record.wall_s = 0;
    return PrintRunRecord(record);
  }

  test::TempDir folder_;
  int runs_ = 0;
};

TEST_F(CompareTest, TheSameInputsGiveTheSameRunFileButForTheWallTime) {
  // when: one after another, and both at once
  const Outcome one = Run(Command("one", "integrated_rl", "1")), two = Run(Command("two", "enhanced_rl,integrated_rl", "1"), {"--jobs", "2"});

  // then
  ASSERT_EQ(one.code, 0) << one.output;
  ASSERT_EQ(two.code, 0) << two.output;
  const RunRecord record = Record("one", "integrated_rl-1");
  EXPECT_EQ(WithoutWallTime(record), WithoutWallTime(Record("two", "integrated_rl-1")));
  EXPECT_EQ(record.curve.size(), 3U);
  EXPECT_GE(record.curve.back().sessions, 800U);
  EXPECT_GT(record.steps, 0U);
  EXPECT_GT(record.versions, 0U);
  EXPECT_GT(record.best.mean_return, record.fixed.mean_return) << "the world's optimum must be better than its hand-set weights";
  // The references of a seed do not depend on who learned beside them.
  const RunRecord other = Record("two", "enhanced_rl-1");
  EXPECT_EQ(other.best.mean_return, record.best.mean_return);
  EXPECT_EQ(other.fixed.mean_return, record.fixed.mean_return);
  EXPECT_NE(other.weights_sha256, record.weights_sha256);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "one/work/integrated_rl-1")) << "the stages' state goes with the run";
}

TEST_F(CompareTest, InTheWorldsOfAResponseModelItLearnsAndJudgesToo) {
  for (const auto& [kind, more] : {
           std::pair("xmtf", "population: {users: 40, items: 60, candidates: 20, exposed: 1}\nxmtf: {requests_max: 6}"),
           std::pair("kuaisim", "population: {users: 40, items: 60, candidates: 20, exposed: 6}\nkuaisim: {temper: 6}")}) {
    // when
    const std::string out = std::string("of_") + kind;
    const Outcome outcome = Run(CommandIn(SmallResponseWorld(kind, more), out, "integrated_rl", "1"));

    // then
    ASSERT_EQ(outcome.code, 0) << kind << ": " << outcome.output;
    const RunRecord record = Record(out, "integrated_rl-1");
    EXPECT_EQ(record.curve.size(), 3U) << kind;
    EXPECT_GE(record.curve.back().sessions, 800U) << kind;
    EXPECT_GT(record.steps, 0U) << kind;
    EXPECT_GT(record.versions, 0U) << kind;
    EXPECT_GT(record.fixed.mean_return, 0) << kind;
    EXPECT_GE(record.best.mean_return, record.fixed.mean_return) << kind;
    EXPECT_GT(record.learned.mean_return, 0) << kind;
  }
}

TEST_F(CompareTest, WhatIsFinishedIsNotMadeAgainAndTheTablesHoldBoth) {
  // given
  ASSERT_EQ(Run(Command("out", "integrated_rl", "2")).code, 0);
  ASSERT_OK_AND_ASSIGN(const std::string before, ReadFile(FileOf("out", "integrated_rl-2")));

  // when
  const Outcome planned = Run(Command("out", "integrated_rl", "2,5"), {"--dry-run"});
  const Outcome more = Run(Command("out", "integrated_rl", "2,5"));

  // then
  EXPECT_EQ(planned.code, 0);
  EXPECT_THAT(planned.output, HasSubstr("1 runs are finished"));
  EXPECT_THAT(planned.output, HasSubstr("1 are to be made: integrated_rl:5\n"));
  ASSERT_EQ(more.code, 0) << more.output;
  ASSERT_OK_AND_ASSIGN(const std::string after, ReadFile(FileOf("out", "integrated_rl-2")));
  EXPECT_EQ(after, before) << "not even its wall time changed";

  // The table, by hand: of two values m -+ 12.7062 |a - b| / 2.
  const RunRecord a = Record("out", "integrated_rl-2"), b = Record("out", "integrated_rl-5");
  const auto by_hand = [](double one, double two) {
    char text[96];
    const double mean = (one + two) / 2, half = 12.706204736432 * std::abs(one - two) / 2;
    std::snprintf(text, sizeof text, "%.2f [%.2f, %.2f]", mean, mean - half, mean + half);
    return std::string(text);
  };
  const auto gap = [](const RunRecord& run) {
    return 100 * (run.learned.mean_return - run.fixed.mean_return) / (run.best.mean_return - run.fixed.mean_return);
  };
  EXPECT_THAT(more.output, HasSubstr("| integrated_rl | " + by_hand(a.learned.mean_return, b.learned.mean_return) + " | " +
                                     by_hand(a.learned.valid, b.learned.valid) + " | "));
  EXPECT_THAT(more.output, HasSubstr(" | " + by_hand(gap(a), gap(b)) + " | "));
  for (const char* chart : {"curves.svg", "gap_closed.svg"}) {
    EXPECT_EQ(test::WhyNotWellFormed(ReadFile(folder_ / (std::string("out/") + chart)).value_or("")), "") << chart;
  }
  EXPECT_THAT(ReadFile(folder_ / "out/runs.csv").value_or(""), HasSubstr("\nintegrated_rl,5,"));
}

TEST_F(CompareTest, RunsOfOtherSettingsAreRefusedByNameAndNotMixed) {
  // given
  ASSERT_EQ(Run(Command("out", "integrated_rl", "1")).code, 0);

  // when
  const Outcome other = Run(Command("out", "integrated_rl", "1"), {"--set", "learner.gamma=0.625"});

  // then
  EXPECT_EQ(other.code, 5) << other.output;
  EXPECT_THAT(other.output, HasSubstr(FileOf("out", "integrated_rl-1")));
  EXPECT_THAT(other.output, HasSubstr("--out"));
}

TEST_F(CompareTest, AStopLeavesWhatIsFinishedAndTheNextTimeGoesOn) {
  // given: more than it will be let make
  auto child = ChildProcess::Start(Command("out", "integrated_rl", "1-40"), folder_ / "log");
  ASSERT_THAT(child, IsOk());
  const auto give_up = std::chrono::steady_clock::now() + kDeadline;
  while (!std::filesystem::exists(FileOf("out", "integrated_rl-1"))) {
    ASSERT_LT(std::chrono::steady_clock::now(), give_up) << ReadFile(folder_ / "log").value_or("");
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }

  // when
  child->Signal(SIGINT);
  const int code = child->Wait();

  // then
  EXPECT_EQ(code, 130);
  EXPECT_THAT(Record("out", "integrated_rl-1").curve, Not(testing::IsEmpty()));
  EXPECT_THAT(ReadFile(folder_ / "out/comparison.md").value_or(""), HasSubstr("| integrated_rl | "));
  EXPECT_FALSE(std::filesystem::exists(FileOf("out", "integrated_rl-40")));
  EXPECT_EQ(Run(Command("out", "integrated_rl", "1-2")).code, 0);
  EXPECT_TRUE(std::filesystem::exists(FileOf("out", "integrated_rl-2")));
}

TEST_F(CompareTest, WhatCannotBeIsSaidBeforeAnythingRuns) {
  const auto replaced = [&](const std::string& option, const std::string& value) {
    auto command = Command("out", "integrated_rl", "1");
    *(std::find(command.begin(), command.end(), option) + 1) = value;
    return Run(command, {"--dry-run"});
  };
  const Outcome world = replaced("--world", "nowhere"), algorithm = replaced("--algorithms", "integrated_rl,sorcery"), seeds = replaced("--seeds", "3-1"),
                lone = replaced("--seeds", "101"), twice = replaced("--algorithms", "integrated_rl,integrated_rl");
  for (const Outcome& outcome : {world, algorithm, seeds, lone, twice}) EXPECT_EQ(outcome.code, 2) << outcome.output;
  EXPECT_THAT(world.output, HasSubstr("synthetic"));
  EXPECT_THAT(algorithm.output, HasSubstr("sorcery"));
  EXPECT_THAT(algorithm.output, HasSubstr("enhanced_rl"));
  EXPECT_THAT(seeds.output, HasSubstr("3-1"));
  EXPECT_THAT(lone.output, HasSubstr("101-101"));
  EXPECT_THAT(twice.output, HasSubstr("integrated_rl"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out"));
}

}  // namespace
}  // namespace fuseline
