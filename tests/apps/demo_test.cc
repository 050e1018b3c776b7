// The demo, proven with the program itself: short, with its own Redis and Kafka, in worlds that are named, on a made-up log.

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "fuseline/core/child_process.h"
#include "fuseline/core/file.h"
#include "fuseline/core/random.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"

namespace fuseline {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// 1,800 impressions of 30 users and 40 videos; clicks hang on both.
std::string MadeUpLog() {
  std::ostringstream log;
  log << "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
         "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab\n";
  Random random(3, "log", 0);
  for (int i = 0; i < 1'800; ++i) {
    const std::uint64_t user = random.NextBelow(30), video = random.NextBelow(40);
    const bool click = random.NextUniform() < 0.1 + 0.02 * static_cast<double>(user) + 0.005 * static_cast<double>(video);
    const bool like = click && random.NextBelow(8) == 0;
    const std::uint64_t play_ms = click ? 2'000 + random.NextBelow(1'000 * (video + 5)) : 0;
    log << user << ',' << video << ",20231115,0," << 1'700'000'000'000 + i * 240'000LL << ',' << click << ',' << like << ",0,0,0,0,"
        << (play_ms >= 18'000) << ',' << play_ms << ",30000,0,0,0,0," << user % 3 << '\n';
  }
  return log.str();
}

class DemoTest : public ::testing::Test {
 protected:
  DemoTest() {
    std::ofstream(folder_ / "log.csv") << MadeUpLog();
    std::ofstream(folder_ / "world.yaml") << "kind: kuairand\npopulation: {users: 30, items: 40, candidates: 20, exposed: 4}\n"
                                             "kuaisim: {temper: 5}\n";
  }

  int Demo(const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {std::string(std::getenv("FUSELINE_BIN_DIR")) + "/fuseline", "demo", "--seed", "5"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    output_ = folder_ / ("output" + std::to_string(++runs_));
    auto program = ChildProcess::Start(arguments, output_);
    EXPECT_THAT(program, IsOk());
    return program->Wait();
  }
  int DemoOfLog(const std::vector<std::string>& more) {
    const std::string tables = std::string(std::getenv("FUSELINE_SOURCE_DIR")) + "/tests/datasets/data/";
    std::vector<std::string> arguments = {"--world", folder_ / "world.yaml", "--data", folder_ / "", "--log", "log.csv",
                                          "--users", tables + "kuairand_users.csv", "--videos", tables + "kuairand_videos.csv"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return Demo(arguments);
  }
  std::string Output() { return ReadFile(output_).value_or(""); }  // Of the last one.

  test::TempDir folder_;
  std::string output_;
  int runs_ = 0;
};

TEST_F(DemoTest, AWorldThatIsNamedIsPlayedIn) {
  ASSERT_EQ(Demo({"--world", "synthetic", "--events", "8000", "--set", "simulator.static_share=0.5"}), 0) << Output();
  EXPECT_THAT(Output(), AllOf(HasSubstr("(balanced)"), HasSubstr("(all)"), Not(HasSubstr("response model"))));
}

TEST_F(DemoTest, AResponseModelIsFittedToTheLogThatIsNamed) {
  ASSERT_EQ(DemoOfLog({"--events", "8000", "--state", folder_ / "state"}), 0) << Output();
  EXPECT_THAT(Output(), AllOf(HasSubstr("fitted to 1350 rows"), HasSubstr("(balanced)"), HasSubstr("(all)")));

  // What was fitted serves the next demo.
  const std::string model = folder_ / "state/response_model.safetensors";
  ASSERT_EQ(Demo({"--world", folder_ / "world.yaml", "--response-model", model, "--events", "8000"}), 0) << Output();
  EXPECT_THAT(Output(), AllOf(Not(HasSubstr("fitted")), HasSubstr("(balanced)")));
}

TEST_F(DemoTest, WhatAWorldNeedsIsAskedForBeforeAnythingBegins) {
  EXPECT_EQ(Demo({"--world", "nowhere"}), 2);
  EXPECT_THAT(Output(), HasSubstr("kuairand"));
  EXPECT_EQ(Demo({"--world", folder_ / "world.yaml"}), 2);
  EXPECT_THAT(Output(), AllOf(HasSubstr("--data FOLDER"), HasSubstr("--response-model FILE"), Not(HasSubstr("metrics"))));
  EXPECT_EQ(Demo({"--world", "kuairand", "--data", folder_ / "nothing"}), 2);
  EXPECT_THAT(Output(), HasSubstr("nothing/log_w1.csv.gz"));
  EXPECT_EQ(Demo({"--data", folder_ / ""}), 2) << "the default world needs none";
  EXPECT_EQ(Demo({"--world", "kuairand", "--data", "a", "--response-model", "b"}), 2);
}

}  // namespace
}  // namespace fuseline
