// Our ranker, seen through its C header, decides what the conformance vectors say; and what it is told wrongly it answers with a reason.
#include <sys/stat.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "fuseline/serving_bridge/c_ranker.h"
#include "fuseline/test_support/temp_dir.h"

extern "C" double bucket_seen_from_c(const char* user_id, const char* salt);

namespace fuseline {
namespace {

using nlohmann::json;
using testing::HasSubstr;

constexpr double kTolerance = 1e-5;

double NumberOf(const json& value) {
  if (!value.is_string()) return value.get<double>();
  const std::string text = value.get<std::string>();
  const double infinity = std::numeric_limits<double>::infinity();
  return text == "NaN" ? std::numeric_limits<double>::quiet_NaN() : text == "Infinity" ? infinity : -infinity;
}

void Append(const json& array, std::vector<float>& to) {
  for (const json& value : array) to.push_back(static_cast<float>(NumberOf(value)));
}

// A request of the vectors; owns what its view borrows.
struct Request {
  explicit Request(const json& from) : described(from) {
    Append(from["user"]["dense"], user_dense);
    Append(from["context"]["dense"], context_dense);
    user_ids = from["user"]["ids"].get<std::vector<std::uint64_t>>();
    for (const json& item : from["items"]) {
      names.push_back(item["id"]);
      Append(item["dense"], dense);
      Append(item["scores"], scores);
      for (const json& id : item["ids"]) ids.push_back(id);
    }
    request_id = from["request_id"], user_id = from["user_id"];
    for (const std::string& name : names) pointers.push_back(name.c_str());
  }

  fuseline_request View() const {
    const std::size_t n = names.size(), each = n == 0 ? 1 : n;
    return {.request_id = request_id.c_str(), .user_id = user_id.c_str(), .surface = "feed", .event_time_ms = 1'000,
            .user = {user_dense.data(), user_dense.size(), user_ids.data(), user_ids.size()},
            .context = {context_dense.data(), context_dense.size(), nullptr, 0}, .candidates = n, .item_ids = pointers.data(),
            .item_dense = dense.data(), .item_dense_count = dense.size() / each, .item_features_ids = ids.data(),
            .item_id_count = ids.size() / each, .task_scores = scores.data(), .task_count = n == 0 ? 5 : scores.size() / each,
            .expose_count = described["expose"]};
  }

  const json& described;
  std::string request_id, user_id;
  std::vector<float> user_dense, context_dense, dense, scores;
  std::vector<std::uint64_t> user_ids, ids;
  std::vector<std::string> names;
  std::vector<const char*> pointers;
};

class ConformanceTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* const source = std::getenv("FUSELINE_SOURCE_DIR");
    ASSERT_NE(source, nullptr) << "run by ctest, or set FUSELINE_SOURCE_DIR";
    tests_ = std::filesystem::path(source) / "tests";
    std::ifstream file(tests_ / "conformance/ranker_vectors.json");
    vectors_ = json::parse(file);
    std::filesystem::copy_file(tests_ / "golden/policy_v1.manifest.pb", folder_ / "manifest.pb");
    std::filesystem::copy_file(tests_ / "golden/policy_v1.safetensors", folder_ / "weights.safetensors");
  }
  void TearDown() override {
    fuseline_reader_close(reader_);
    fuseline_ranker_close(ranker_);
  }

  int Open(const char* event_file = nullptr, std::vector<const char*> settings = {}) {
    const std::string folder = folder_.path();
    const fuseline_ranker_options options = {.config_file = nullptr, .settings = settings.data(), .settings_count = settings.size(),
                                             .name = "ranker-1", .version_folder = folder.c_str(), .event_file = event_file};
    const int opened = fuseline_ranker_open(&options, &ranker_);
    return opened == FUSELINE_OK ? fuseline_reader_open(ranker_, &reader_) : opened;
  }

  std::filesystem::path tests_;
  json vectors_;
  test::TempDir folder_;
  fuseline_ranker* ranker_ = nullptr;
  fuseline_reader* reader_ = nullptr;
};

void ExpectNear(const json& expected, const float* actual, std::size_t count) {
  ASSERT_EQ(expected.size(), count);
  for (std::size_t i = 0; i < count; ++i) {
    EXPECT_NEAR(actual[i], expected[i].get<double>(), kTolerance * (1 + std::abs(expected[i].get<double>()))) << "value " << i;
  }
}

TEST_F(ConformanceTest, EveryDecisionIsTheOneThatTheVectorsSay) {
  ASSERT_EQ(Open(), FUSELINE_OK) << fuseline_last_error();
  ASSERT_GE(vectors_["requests"].size(), 20U);
  for (const json& described : vectors_["requests"]) {
    SCOPED_TRACE(described["about"].get<std::string>() + ", " + described["request_id"].get<std::string>());
    const Request request(described);
    const fuseline_request view = request.View();
    fuseline_decision decision;
    ASSERT_EQ(fuseline_rank(reader_, &view, &decision), FUSELINE_OK) << fuseline_last_error();

    const json& expected = described["expected"];
    ASSERT_EQ(std::vector<std::size_t>(decision.order, decision.order + decision.count), expected["order"].get<std::vector<std::size_t>>());
    for (std::size_t i = 0; i < decision.count; ++i) {
      const double score = expected["fused_scores"][i];
      EXPECT_NEAR(decision.fused_scores[i], score, kTolerance * (1 + std::abs(score)));
    }
    ExpectNear(expected["baseline_actions"], decision.baseline_actions, decision.count * decision.action_width);
    ExpectNear(expected["executed_actions"], decision.executed_actions, decision.count * decision.action_width);
    EXPECT_EQ(decision.has_log_density == 1, !expected["log_density"].is_null());
    if (decision.has_log_density == 1) {
      EXPECT_NEAR(decision.log_density, expected["log_density"].get<double>(), 10 * kTolerance);
    }
    EXPECT_EQ(decision.policy_version, expected["policy_version"].get<std::uint64_t>());
    EXPECT_EQ(decision.arm, expected["arm"].get<std::string>());
    EXPECT_EQ(decision.fell_back == 1, expected["fell_back"].get<bool>());
  }
}

TEST_F(ConformanceTest, EveryUserStandsWhereTheVectorsSay) {
  ASSERT_GE(vectors_["buckets"].size(), 10U);
  for (const json& one : vectors_["buckets"]) {
    EXPECT_EQ(fuseline_bucket(one["user"].get<std::string>().c_str(), one["salt"].get<std::string>().c_str()), one["bucket"].get<double>());
  }
}

TEST_F(ConformanceTest, TheHeaderIsC) { EXPECT_EQ(bucket_seen_from_c("u1", "salt"), fuseline_bucket("u1", "salt")); }

TEST_F(ConformanceTest, WhatIsWrongHasAnAnswerThatSaysSo) {
  ASSERT_EQ(Open(nullptr, {"ranker.max_candidates=39"}), FUSELINE_OK) << fuseline_last_error();
  const Request request(vectors_["requests"][2]);
  fuseline_decision decision;
  fuseline_request view = request.View();
  EXPECT_EQ(fuseline_rank(reader_, &view, &decision), FUSELINE_INVALID_INPUT);
  EXPECT_THAT(fuseline_last_error(), HasSubstr("ranker.max_candidates"));
  view.candidates = 39;
  EXPECT_EQ(fuseline_rank(reader_, &view, &decision), FUSELINE_OK);
  view.task_count = 4;
  EXPECT_EQ(fuseline_rank(reader_, &view, &decision), FUSELINE_INVALID_INPUT);
  EXPECT_THAT(fuseline_last_error(), HasSubstr("task scores"));
  view.task_count = 5, view.item_dense_count = 8;
  EXPECT_EQ(fuseline_rank(reader_, &view, &decision), FUSELINE_INVALID_INPUT);
  EXPECT_THAT(fuseline_last_error(), HasSubstr("scope item"));
  view.item_dense_count = 9, view.user_id = nullptr;
  EXPECT_EQ(fuseline_rank(reader_, &view, &decision), FUSELINE_INVALID_INPUT);
  EXPECT_THAT(fuseline_last_error(), HasSubstr("user_id"));
  view.user_id = "u1", view.item_ids = nullptr;
  EXPECT_EQ(fuseline_rank(reader_, &view, &decision), FUSELINE_INVALID_INPUT);
  EXPECT_THAT(fuseline_last_error(), HasSubstr("item_ids"));
  view.candidates = 0;
  EXPECT_EQ(fuseline_rank(reader_, &view, &decision), FUSELINE_OK);
  EXPECT_EQ(decision.count, 0U);
  std::string metrics(fuseline_ranker_metrics(ranker_, nullptr, 0) + 1, ' ');
  fuseline_ranker_metrics(ranker_, metrics.data(), metrics.size());
  for (const char* const line :
       {"refused_total{reason=\"candidates\"} 1\n", "refused_total{reason=\"schema\"} 2\n",
        "refused_total{reason=\"identity\"} 1\n", "refused_total{reason=\"argument\"} 1\n", "empty_total 1\n"}) {
    EXPECT_THAT(metrics, HasSubstr(std::string("fuseline_serving_bridge_requests_") + line));
  }
  EXPECT_EQ(fuseline_rank(reader_, nullptr, &decision), FUSELINE_INVALID_INPUT);
  EXPECT_EQ(fuseline_log_exposure(reader_, &view), FUSELINE_INVALID_INPUT);
  EXPECT_EQ(Open(nullptr, {"ranker.max_candidate=39"}), FUSELINE_INVALID_INPUT);
  EXPECT_THAT(fuseline_last_error(), HasSubstr("max_candidates"));  // The nearest key.
}

TEST_F(ConformanceTest, AVersionWhoseWeightsWereChangedIsNotOpened) {
  std::fstream weights(folder_ / "weights.safetensors", std::ios::in | std::ios::out | std::ios::binary);
  weights.seekp(20'000);
  weights.put('\x7f');
  weights.close();
  EXPECT_EQ(Open(), FUSELINE_CORRUPT);
  EXPECT_THAT(fuseline_last_error(), HasSubstr("weights"));
  std::filesystem::remove(folder_ / "manifest.pb");
  EXPECT_EQ(Open(), FUSELINE_NOT_FOUND);
}

// Nobody reads the pipe: it takes 64 KiB, what waits is at most what the setting allows, and the rest is dropped.
TEST_F(ConformanceTest, EventsThatNobodyTakesWaitInTheQueueOfTheSettings) {
  const std::string pipe = folder_ / "events.fifo";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  ASSERT_EQ(Open(pipe.c_str(), {"ranker.event_log_queue=16"}), FUSELINE_OK) << fuseline_last_error();
  const fuseline_feedback feedback = {.event_id = "f1", .user_id = "u1", .event_time_ms = 2'000, .request_id = "r1",
                                      .item_id = "i1", .kind = "WATCH", .watch_ms = 12'000, .item_duration_ms = 0};
  int refused = 0;
  for (int i = 0; i < 5'000; ++i) refused += fuseline_log_feedback(ranker_, &feedback) == FUSELINE_OK ? 0 : 1;
  fuseline_state state;
  ASSERT_EQ(fuseline_ranker_state(ranker_, &state), FUSELINE_OK);
  EXPECT_GT(state.events_dropped, 1'000U) << refused;
  EXPECT_NE(fuseline_ranker_close_events(ranker_, 10), FUSELINE_OK) << "what still waits is lost, and it says so";
}

TEST_F(ConformanceTest, ExposuresAndFeedbackReachTheFile) {
  const std::string file = folder_ / "events.jsonl";
  ASSERT_EQ(Open(file.c_str()), FUSELINE_OK) << fuseline_last_error();
  const Request request(vectors_["requests"][2]);
  const fuseline_request view = request.View();
  fuseline_decision decision;
  ASSERT_EQ(fuseline_rank(reader_, &view, &decision), FUSELINE_OK);
  ASSERT_EQ(fuseline_log_exposure(reader_, &view), FUSELINE_OK) << fuseline_last_error();
  fuseline_feedback feedback = {.event_id = "f1", .user_id = view.user_id, .event_time_ms = 2'000, .request_id = view.request_id,
                                .item_id = view.item_ids[decision.order[0]], .kind = "WATCH", .watch_ms = 12'000, .item_duration_ms = 0};
  ASSERT_EQ(fuseline_log_feedback(ranker_, &feedback), FUSELINE_OK) << fuseline_last_error();
  feedback.kind = "STARE";
  EXPECT_EQ(fuseline_log_feedback(ranker_, &feedback), FUSELINE_INVALID_INPUT);
  EXPECT_THAT(fuseline_last_error(), HasSubstr("STARE"));
  EXPECT_EQ(fuseline_ranker_close_events(ranker_, 10'000), FUSELINE_OK) << fuseline_last_error();
  EXPECT_EQ(fuseline_log_exposure(reader_, &view), FUSELINE_UNAVAILABLE) << "closed";
  fuseline_state state;
  ASSERT_EQ(fuseline_ranker_state(ranker_, &state), FUSELINE_OK);
  EXPECT_EQ(state.events_written, 2U);
  EXPECT_EQ(state.events_dropped, 1U);
  fuseline_reader_close(std::exchange(reader_, nullptr));
  fuseline_ranker_close(std::exchange(ranker_, nullptr));

  std::ifstream lines(file);
  std::string line;
  ASSERT_TRUE(std::getline(lines, line));
  const json exposure = json::parse(line);
  EXPECT_EQ(exposure["exposure"]["items"].size(), 5U) << line;
  EXPECT_EQ(exposure["exposure"]["items"][0]["item_id"], feedback.item_id);
  ASSERT_TRUE(std::getline(lines, line));
  EXPECT_EQ(json::parse(line)["feedback"]["watch_ms"], 12'000) << line;
}

}  // namespace
}  // namespace fuseline
