// The demo, proven with the program itself: short, with its own Redis and Kafka, in worlds that are named, on a made-up
// log; what it leaves in its state is read back. On the real log, found through FUSELINE_DATA_DIR, it is run once.

#include <cstdlib>
#include <fstream>
#include <regex>
#include <sstream>

#include "fuseline/core/child_process.h"
#include "fuseline/core/clock.h"
#include "fuseline/core/file.h"
#include "fuseline/core/log.h"
#include "fuseline/core/metrics.h"
#include "fuseline/core/random.h"
#include "fuseline/fusion/scorer_network.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/policy_store/archive.h"
#include "fuseline/proto/settings.h"
#include "fuseline/sessionizer/sessionizer.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"

namespace fuseline {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// 30,000 impressions of 30 users and 40 videos; clicks hang on both, and how long is watched on the video.
std::string MadeUpLog() {
  std::ostringstream log;
  log << "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
         "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab\n";
  Random random(3, "log", 0);
  for (int i = 0; i < 30'000; ++i) {
    const std::uint64_t user = random.NextBelow(30), video = random.NextBelow(40);
    const bool click = random.NextUniform() < 0.05 + 0.45 * static_cast<double>(user % 2) + 0.45 * static_cast<double>(video % 2);
    const bool like = click && random.NextBelow(8) == 0;
    const std::uint64_t play_ms = click ? 2'000 + random.NextBelow(1'000 * (video + 5)) : 0;
    log << user << ',' << video << ",20231115,0," << 1'700'000'000'000 + i * 15'000LL << ',' << click << ',' << like << ",0,0,0,0,"
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
    std::vector<std::string> arguments = {std::string(std::getenv("FUSELINE_BIN_DIR")) + "/fuseline", "demo", "--seed", "5", "--seconds-max", "400"};
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
  // The numbers of the first match of `pattern` in the output; -1 each where there is none.
  std::vector<int> Numbers(const std::string& pattern) {
    const std::string output = Output();
    std::smatch found;
    const bool is_there = std::regex_search(output, found, std::regex(pattern));
    std::vector<int> numbers;
    for (std::size_t i = 1; i <= std::regex(pattern).mark_count(); ++i) numbers.push_back(is_there ? std::stoi(found[i]) : -1);
    return numbers;
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
  EXPECT_THAT(Output(), AllOf(HasSubstr("fitted to 22500 rows"), HasSubstr("(balanced)"), HasSubstr("(all)")));

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

// Made, accepted, in use at the end.
constexpr const char* kPolicyVersions = R"(\nversions +made (\d+), accepted (\d+), in use at the end: (\d+))";
constexpr const char* kScorerVersions = R"(\nscorer .*versions made (\d+), accepted (\d+), in use at the end: (\d+))";
constexpr const char* kUnscored = R"((\d+) of (\d+) requests came before its first version)";

// Every exposure of the sessions that were still open when the demo ended, by user.
std::vector<std::pair<std::string, v1::Exposure>> OpenExposures(const std::filesystem::path& state) {
  Log log(Severity::kError);
  Metrics metrics;
  const SystemClock clock;
  const auto sessions = Sessionizer::OpenReadOnly(state / "sessions", DefaultSettings().sessionizer(), clock, log, metrics);
  EXPECT_THAT(sessions, IsOk());
  std::vector<std::pair<std::string, v1::Exposure>> exposures;
  for (int user = 0; sessions && user < 30; ++user) {
    const auto shown = (*sessions)->Show(std::to_string(user)).value();
    for (const ShownSession& session : shown) {
      for (const ShownEvent& event : session.events) {
        v1::Exposure exposure;
        if (event.is_exposure && exposure.ParseFromString(event.body)) exposures.emplace_back(std::to_string(user), exposure);
      }
    }
  }
  return exposures;
}

// The task scores of an exposure's items, made anew by the version that it names.
std::vector<float> ScoresAnew(const std::filesystem::path& archive, const std::string& user, const v1::Exposure& exposure) {
  DiskFileSystem files;
  const auto found = Archive::OpenReadOnly(archive, files).Get(exposure.scorer_version());
  EXPECT_THAT(found, IsOk());
  const auto network = ScorerNetwork::Create(found->version.manifest, DecodeWeights(found->version.weights).value());
  EXPECT_THAT(network, IsOk());
  std::vector<CandidateView> items;
  std::vector<std::string_view> ids;
  for (const v1::ExposedItem& item : exposure.items()) {
    items.push_back(ViewOf(item));
    ids.push_back(item.item_id());
  }
  std::vector<float> scores(items.size() * 6);
  ScorerWorkspace workspace;
  EXPECT_THAT(network->Score(ViewOf(exposure.user_features()), ViewOf(exposure.context_features()), user, items, ids, workspace, scores),
              IsOk());
  return scores;
}

// Gates as wide as they go: which version becomes the next in use is not for the noise of so few sessions to say.
const std::vector<std::string> kWideGates = {"--set", "scorer.gate_tolerance=10", "--set", "gate.max_outside_share=1", "--set",
                                             "gate.gauc_tolerance=1", "--set", "gate.static_gauc_tolerance=1", "--set",
                                             "gate.ncis_tolerance=10", "--set", "gate.static_ncis_tolerance=10"};

// Some seven versions of the policy and ten of the scorer are made; beyond the first of each has to come into use.
TEST_F(DemoTest, AScorerAndAPolicyLearnFromTheSameSessionsAndBothAdvanceInUse) {
  std::vector<std::string> arguments = {"--scorer", "rmtl", "--events", "30000", "--state", folder_ / "state", "--set", "scorer.batch=64",
                                        "--set", "scorer.version_every_steps=25", "--set", "scorer.pretraining_impressions=1500", "--set",
                                        "scorer.critic_impressions=1500", "--set", "scorer.gate_min_impressions=50", "--set",
                                        "learner.version_every_steps=25"};
  arguments.insert(arguments.end(), kWideGates.begin(), kWideGates.end());
  ASSERT_EQ(DemoOfLog(arguments), 0) << Output();

  EXPECT_THAT(Output(), AllOf(HasSubstr("(balanced)"), HasSubstr("(all)"), HasSubstr("weights of the losses: linear"),
                              HasSubstr("phase at the end: weighted training")));
  const auto policy = Numbers(kPolicyVersions), scorer = Numbers(kScorerVersions), unscored = Numbers(kUnscored);
  EXPECT_GE(policy[2], 2) << Output();
  EXPECT_GE(scorer[2], 2) << Output();
  EXPECT_GT(unscored[0], 0) << Output();
  EXPECT_LT(unscored[0], unscored[1]) << Output();

  const auto exposures = OpenExposures(folder_ / "state");
  ASSERT_GT(exposures.size(), 0U);
  for (const auto& [user, exposure] : exposures) {
    ASSERT_GT(exposure.scorer_version(), 0U) << "the last sessions";
    const auto anew = ScoresAnew(std::filesystem::path(folder_ / "state") / "scorer", user, exposure);
    std::vector<float> logged;
    for (const v1::ExposedItem& item : exposure.items()) logged.insert(logged.end(), item.task_scores().begin(), item.task_scores().end());
    EXPECT_EQ(logged, anew) << user;
  }
}

TEST_F(DemoTest, OnTheRealLogBothVersionsAdvance) {
  const char* data = std::getenv("FUSELINE_DATA_DIR");
  if (data == nullptr) GTEST_SKIP() << "SKIPPED: FUSELINE_DATA_DIR is not set; no demo was played with users of the real log";
  std::vector<std::string> arguments = {"--world", "kuairand", "--data", std::string(data) + "/kuairand", "--scorer", "rmtl", "--events",
                                        "90000", "--set", "scorer.pretraining_impressions=5000", "--set",
                                        "scorer.critic_impressions=5000", "--set", "scorer.version_every_steps=25", "--set",
                                        "learner.version_every_steps=60"};
  arguments.insert(arguments.end(), kWideGates.begin(), kWideGates.end());
  ASSERT_EQ(Demo(arguments), 0) << Output();
  EXPECT_THAT(Output(), AllOf(HasSubstr("(balanced)"), HasSubstr("(all)")));
  EXPECT_GE(Numbers(kPolicyVersions)[2], 2) << Output();
  EXPECT_GE(Numbers(kScorerVersions)[2], 2) << Output();
}

}  // namespace
}  // namespace fuseline
