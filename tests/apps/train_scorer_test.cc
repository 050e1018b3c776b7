// Proven with the program itself, on a made-up log of six days: what it writes, that it goes on after an
// interruption to the same bytes, and its exit codes.

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <thread>

#include <nlohmann/json.hpp>

#include "fuseline/core/child_process.h"
#include "fuseline/core/file.h"
#include "fuseline/core/random.h"
#include "fuseline/v1/policy.pb.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"

namespace fuseline {
namespace {

using ::testing::HasSubstr;

constexpr std::int64_t kDayMs = 86'400'000;

class TrainScorerTest : public ::testing::Test {
 protected:
  TrainScorerTest() { std::ofstream(folder_ / "log.csv") << Log(); }

  // 1,800 impressions in six local days; clicks hang on the user and the video.
  static std::string Log() {
    std::ostringstream log;
    log << "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
           "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab\n";
    Random random(3, "log", 0);
    for (int i = 0; i < 1'800; ++i) {
      const std::uint64_t user = random.NextBelow(30), video = random.NextBelow(40);
      const int click = random.NextUniform() < 0.1 + 0.02 * static_cast<double>(user) + 0.005 * static_cast<double>(video) ? 1 : 0;
      const int long_view = click != 0 && random.NextBelow(2) != 0 ? 1 : 0;
      log << user << ',' << video << ",20231115,0," << 57'600'000 + i * (6 * kDayMs / 1'800) << ',' << click << ",0,0,0,0,0," << long_view
          << ",3000,8000,0,0,0,0,1\n";
    }
    return log.str();
  }

  std::vector<std::string> Command(const std::string& out, const std::vector<std::string>& more) {
    const std::string tables = std::string(std::getenv("FUSELINE_SOURCE_DIR")) + "/tests/datasets/data/";
    std::vector<std::string> arguments = {std::string(std::getenv("FUSELINE_BIN_DIR")) + "/fuseline", "train-scorer", "--data", folder_ / "",
                                          "--log", "log.csv", "--users", tables + "kuairand_users.csv", "--videos",
                                          tables + "kuairand_videos.csv", "--out", folder_ / out, "--set", "scorer.epochs=2",
                                          "--set", "scorer.batch=64"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  int Run(const std::string& out, const std::vector<std::string>& more) {
    auto program = ChildProcess::Start(Command(out, more), folder_ / "output");
    EXPECT_THAT(program, IsOk());
    return program->Wait();
  }
  // When a file was written; nothing: it is not there.
  static std::optional<std::filesystem::file_time_type> WrittenAt(const std::string& file) {
    std::error_code error;
    const auto time = std::filesystem::last_write_time(file, error);
    return error ? std::nullopt : std::optional(time);
  }
  // Until the file is another than that of `before`, or the program has ended, or a minute has gone by.
  static void WaitForAnother(const std::string& file, std::optional<std::filesystem::file_time_type> before, ChildProcess& program) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (WrittenAt(file) == before && program.running() && std::chrono::steady_clock::now() < deadline)
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  std::string Text(const std::string& name) { return ReadFile(folder_ / name).value_or(""); }
  test::TempDir folder_;
};

TEST_F(TrainScorerTest, WritesAVersionAndItsFiguresAndGoesOnWhereItIsDone) {
  ASSERT_EQ(Run("s", {"--backbones", "mmoe,esmm", "--weights", "none,linear", "--seeds", "2"}), 0) << Text("output");

  EXPECT_THAT(Text("output"), HasSubstr("1080 (4 local days), 120 to stop by, 600 to judge by"));
  EXPECT_THAT(Text("output"), HasSubstr("| esmm, linear |"));
  const auto results = nlohmann::json::parse(Text("s/results.json"));
  ASSERT_EQ(results.at("runs").size(), 8U);
  EXPECT_GT(results.at("smoothed_rates").at("progressive").at("click").at("AUC").get<double>(), 0.5);
  EXPECT_GT(results.at("runs")[0].at("frozen").at("click").at("auc").get<double>(), 0.4);
  EXPECT_FALSE(Text("s/mmoe-linear-2/weights.safetensors").empty());
  EXPECT_FALSE(Text("s/mmoe-linear-2/manifest.pb").empty());

  // Again: nothing is trained, the results are the same.
  const std::string before = Text("s/results.json");
  ASSERT_EQ(Run("s", {"--backbones", "mmoe,esmm", "--weights", "none,linear", "--seeds", "2"}), 0);
  EXPECT_EQ(Text("s/results.json"), before);
  EXPECT_EQ(Run("s", {"--backbones", "mmoe", "--set", "scorer.rate=0.01"}), 5);
}

TEST_F(TrainScorerTest, AnImportTakesItsScoresOfLaterRowsAlone) {
  ASSERT_EQ(Run("s", {}), 0) << Text("output");
  const std::string tables = std::string(std::getenv("FUSELINE_SOURCE_DIR")) + "/tests/datasets/data/";
  const auto import = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {std::string(std::getenv("FUSELINE_BIN_DIR")) + "/fuseline", "import", "kuairand", "--log",
                                          folder_ / "log.csv", "--users", tables + "kuairand_users.csv", "--videos",
                                          tables + "kuairand_videos.csv", "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    auto program = ChildProcess::Start(arguments, folder_ / "output");
    EXPECT_THAT(program, IsOk());
    return program->Wait();
  };

  ASSERT_EQ(import({"--out", folder_ / "plain.jsonl"}), 0) << Text("output");
  ASSERT_EQ(import({"--out", folder_ / "scored.jsonl", "--scorer", folder_ / "s/mmoe-none-1"}), 0) << Text("output");

  EXPECT_THAT(Text("output"), HasSubstr(R"("rows_of_the_scorer":1200)"));
  const auto exposures = [&](const std::string& name) {
    std::ifstream file(folder_ / name);
    std::map<std::string, nlohmann::json> scores;
    for (std::string line; std::getline(file, line);) {
      const auto event = nlohmann::json::parse(line);
      if (!event.contains("exposure")) continue;
      scores[event.at("event_id")] = event.at("exposure").at("items")[0].at("task_scores");
    }
    return scores;
  };
  const auto plain = exposures("plain.jsonl"), scored = exposures("scored.jsonl");
  EXPECT_EQ(plain.size(), 1'800U);
  EXPECT_EQ(scored.size(), 600U);
  std::size_t differ = 0;
  for (const auto& [id, scores] : scored) {
    differ += scores[0] != plain.at(id)[0] && scores[1] != plain.at(id)[1] ? 1 : 0;
    for (const std::size_t task : {2U, 3U, 4U, 5U}) EXPECT_EQ(scores[task], plain.at(id)[task]);  // Rates, of all the past.
  }
  EXPECT_GT(differ, 590U);
  EXPECT_EQ(import({"--out", folder_ / "x.jsonl", "--scorer", folder_ / "nothing"}), 2);

  // One that does not say until when it learned, as the stream's do, may know every row.
  v1::PolicyManifest manifest;
  ASSERT_TRUE(manifest.ParseFromString(Text("s/mmoe-none-1/manifest.pb")));
  manifest.mutable_scorer()->mutable_lineage()->clear_known_until_ms();
  ASSERT_THAT(WriteFileAtomically(folder_ / "s/mmoe-none-1/manifest.pb", manifest.SerializeAsString()), IsOk());
  EXPECT_EQ(import({"--out", folder_ / "x.jsonl", "--scorer", folder_ / "s/mmoe-none-1"}), 2);
  EXPECT_THAT(Text("output"), HasSubstr("until when it learned"));
}

// 1,000 steps are left behind the first checkpoint: the signal comes in time.
TEST_F(TrainScorerTest, InterruptedItGoesOnToTheSameBytes) {
  const std::vector<std::string> longer = {"--set", "scorer.epochs=60", "--set", "scorer.patience=100000", "--set",
                                           "scorer.checkpoint_every_steps=20"};
  const std::string checkpoint = folder_ / "pieces/mmoe-none-1/checkpoint";
  ASSERT_EQ(Run("whole", longer), 0) << Text("output");
  auto program = ChildProcess::Start(Command("pieces", longer), folder_ / "output");
  ASSERT_THAT(program, IsOk());
  WaitForAnother(checkpoint, {}, *program);
  ASSERT_TRUE(std::filesystem::exists(checkpoint)) << Text("output");
  program->Signal(SIGINT);
  EXPECT_EQ(program->Wait(), 130) << Text("output");
  EXPECT_TRUE(Text("pieces/mmoe-none-1/weights.safetensors").empty());

  ASSERT_EQ(Run("pieces", longer), 0) << Text("output");

  EXPECT_EQ(Text("pieces/mmoe-none-1/weights.safetensors"), Text("whole/mmoe-none-1/weights.safetensors"));
}

// 1,530 steps through all phases, killed at each checkpoint that is new.
TEST_F(TrainScorerTest, KilledAgainAndAgainItGoesOnToTheSameBytes) {
  const std::vector<std::string> longer = {"--weights", "linear", "--set", "scorer.epochs=40", "--set", "scorer.patience=100000", "--set",
                                           "scorer.critic_settled=0", "--set", "scorer.checkpoint_every_steps=150"};
  const std::string checkpoint = folder_ / "killed/mmoe-linear-1/checkpoint";
  ASSERT_EQ(Run("whole", longer), 0) << Text("output");

  constexpr int kKilled = 128 + SIGKILL;
  int kills = 0, code = kKilled;
  for (; code == kKilled; kills += code == kKilled ? 1 : 0) {
    auto program = ChildProcess::Start(Command("killed", longer), folder_ / "output");
    ASSERT_THAT(program, IsOk());
    const auto before = WrittenAt(checkpoint);
    WaitForAnother(checkpoint, before, *program);
    ASSERT_TRUE(!program->running() || WrittenAt(checkpoint) != before) << "it neither ends nor writes a checkpoint: " << Text("output");
    code = program->Kill();
  }

  EXPECT_EQ(code, 0) << Text("output");
  EXPECT_GE(kills, 3);
  EXPECT_FALSE(Text("whole/mmoe-linear-1/weights.safetensors").empty());
  EXPECT_EQ(Text("killed/mmoe-linear-1/weights.safetensors"), Text("whole/mmoe-linear-1/weights.safetensors"));
}

TEST_F(TrainScorerTest, UnknownNamesAndAbsentFilesAreUsageErrorsAndTooFewDaysBadData) {
  EXPECT_EQ(Run("s", {"--backbones", "towers"}), 2);
  EXPECT_THAT(Text("output"), HasSubstr("shared_bottom"));
  EXPECT_EQ(Run("s", {"--weights", "heavy"}), 2);
  EXPECT_EQ(Run("s", {"--set", "scorer.tasks=click,share"}), 2);
  EXPECT_EQ(Run("s", {"--log", "absent.csv"}), 2);
  EXPECT_EQ(Run("s", {"--test-days", "6"}), 4);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "s"));
}

}  // namespace
}  // namespace fuseline
