// What operators of experiments type: it changes nothing until told to, and wants to know why; no user is ever in two experiments; and
// `assign` puts users where GrowthBook does. Method: the program itself, a real redis-server, and the cases that GrowthBook publishes for
// authors of clients (github.com/growthbook/growthbook, packages/sdk-js/test/cases.json: "hash", "run", "stickyBucket").
#include <cstdlib>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "fuseline/core/child_process.h"
#include "fuseline/core/file.h"
#include "fuseline/fusion/policy_keys.h"
#include "fuseline/policy_store/experiments.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/redis_process.h"
#include "fuseline/test_support/temp_dir.h"

namespace fuseline {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

struct Answer {
  int code = 0;
  std::string output;
};

Answer RunProgram(std::vector<std::string> arguments) {
  static int runs = 0;
  static const test::TempDir files;
  arguments.insert(arguments.begin(), std::string(std::getenv("FUSELINE_BIN_DIR")) + "/fuseline");
  const std::string output = files / ("output" + std::to_string(++runs));
  auto child = ChildProcess::Start(arguments, output);
  if (!child) return {-1, child.error().message};
  const int code = child->Wait();
  return {code, ReadFile(output).value_or("no output")};
}

class ExperimentCommandsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(server_, test::RedisProcess::Start());
    ASSERT_OK_AND_ASSIGN(RedisConnection redis, RedisConnection::Connect({.address = "unix:" + server_->socket_path()}));
    redis_.emplace(std::move(redis));
  }
  Answer Experiment(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "experiment");
    arguments.insert(arguments.end(), {"--set", "redis.address=unix:" + server_->socket_path()});
    return RunProgram(std::move(arguments));
  }
  // `more`: further lines of the file.
  Answer Create(const std::string& name, const std::string& more = "") {
    const std::string file = files_ / (name + ".yaml");
    EXPECT_THAT(WriteFileAtomically(file, "name: " + name + "\narms:\n  - {name: control, share: 5000, static_weights: true}\n"
                                          "  - {name: other, share: 5000, static_weights: true, explore: true}\n" + more), IsOk());
    return Experiment({"create", file, "--reason", "a test", "--execute"});
  }
  v1::Experiment Stored(const std::string& name) { return ReadExperiments(*redis_, PolicyKeys("default")).value().at(name); }

  test::TempDir files_;
  std::unique_ptr<test::RedisProcess> server_;
  std::optional<RedisConnection> redis_;
};

TEST_F(ExperimentCommandsTest, WhatChangesSomethingIsToldToAndSaysWhy) {
  ASSERT_EQ(Create("first").code, 0);
  for (const std::vector<std::string>& command : {std::vector<std::string>{"ramp", "first"}, {"stop", "first"}}) {
    SCOPED_TRACE(command[0]);
    EXPECT_THAT(Experiment(command).output, HasSubstr("would be"));
    std::vector<std::string> without_reason = command;
    without_reason.emplace_back("--execute");
    const Answer refused = Experiment(without_reason);
    EXPECT_EQ(refused.code, 2);
    EXPECT_THAT(refused.output, HasSubstr("--reason"));
    EXPECT_EQ(Stored("first").revision(), 1U);
  }
  EXPECT_EQ(Experiment({"create", files_ / "first.yaml", "--execute"}).code, 2);
  EXPECT_EQ(Experiment({"ramp", "first", "--to", "20", "--reason", "no harm seen", "--execute"}).code, 0);
  const v1::Experiment ramped = Stored("first");
  EXPECT_EQ(ramped.coverage(), 2'000U);
  EXPECT_EQ(ramped.history(1).why(), "no harm seen");
  EXPECT_THAT(ramped.history(1).who(), HasSubstr("@"));
  EXPECT_EQ(Experiment({"ramp", "first", "--to", "10", "--reason", "less", "--execute"}).code, 5) << "it never shrinks";
  EXPECT_THAT(Experiment({"explain", "u42"}).output, AllOf(HasSubstr("experiment first: bucket 0."), HasSubstr("salt first, hash version 2")));
}

TEST_F(ExperimentCommandsTest, NoUserIsEverInTwoExperiments) {
  ASSERT_EQ(Create("first", "within: {name: feed, begin: 0, end: 0.5}\n").code, 0);
  for (const char* const within : {"", "within: {name: feed, begin: 0.4, end: 1}\n", "within: {name: search, begin: 0.5, end: 1}\n"}) {
    const Answer refused = Create("second", within);
    EXPECT_EQ(refused.code, 5) << within;
    EXPECT_THAT(refused.output, AllOf(HasSubstr("within"), HasSubstr("first"))) << within;
  }
  EXPECT_EQ(Create("second", "within: {name: feed, begin: 0.5, end: 1}\n").code, 0);
  // When both have ended, their users are free.
  for (const char* const name : {"first", "second"}) EXPECT_EQ(Experiment({"stop", name, "--reason", "decided", "--execute"}).code, 0);
  EXPECT_EQ(Create("third").code, 0);
  EXPECT_EQ(Create("first").code, 5) << "a name is used once";
}

// [{"user", "bucket", "arm"}]
std::vector<json> Assigned(std::vector<std::string> arguments, const std::vector<std::string>& users) {
  arguments.insert(arguments.begin(), "assign");
  arguments.insert(arguments.end(), users.begin(), users.end());
  const Answer answer = RunProgram(std::move(arguments));
  EXPECT_EQ(answer.code, 0) << answer.output;
  std::vector<json> lines;
  std::istringstream text(answer.output);
  for (std::string line; std::getline(text, line);) lines.push_back(json::parse(line));
  EXPECT_EQ(lines.size(), users.size()) << answer.output;
  return lines;
}

TEST(AssignTest, UsersAreInTheArmsThatGrowthBookPublished) {
  struct Case {
    const char *hash_version, *salt, *weights, *coverage;
    std::vector<std::string> users;
    std::vector<int> arms;
  };
  const std::vector<std::string> nine = {"1", "2", "3", "4", "5", "6", "7", "8", "9"};
  const Case cases[] = {
      {"1", "my-test", "0.5,0.5", "1", nine, {1, 0, 0, 1, 1, 1, 0, 1, 0}},           // default weights
      {"1", "my-test", "0.1,0.9", "1", nine, {1, 1, 0, 1, 1, 1, 0, 1, 1}},           // uneven weights
      {"1", "my-test", "0.5,0.5", "0.4", nine, {-1, 0, 0, -1, 1, -1, 0, 1, -1}},     // coverage
      {"1", "my-test", "0.333333,0.333333,0.333334", "1", nine, {2, 0, 0, 2, 1, 2, 0, 1, 0}},  // three way test
      {"1", "my-test-3", "0.5,0.5", "1", {"1"}, {0}},                                // test name
      {"1", "feature", "0.25,0.25,0.25,0.25", "1", {"123"}, {3}},
      {"2", "feature-exp", "0.3334,0.3333,0.3333", "1", {"d123", "i123"}, {1, 2}},
  };
  for (const Case& c : cases) {
    const auto lines = Assigned({"--salt", c.salt, "--weights", c.weights, "--coverage", c.coverage, "--hash-version", c.hash_version}, c.users);
    ASSERT_EQ(lines.size(), c.users.size());
    for (std::size_t i = 0; i < lines.size(); ++i) {
      EXPECT_EQ(lines[i]["user"], c.users[i]);
      EXPECT_EQ(lines[i]["arm"], c.arms[i]) << c.salt << " weights " << c.weights << " coverage " << c.coverage << " user " << c.users[i];
    }
  }
}

TEST(AssignTest, BucketsArePrintedAsGrowthBookPublishedThemByteForByte) {
  const std::tuple<const char*, const char*, const char*, const char*> vectors[] = {
      {"2", "seed", "a", "0.0505"},    {"2", "foo", "ab", "0.2575"},      {"2", "()**(%$##$%#$#", "___)((*\":&", "0.0128"},
      {"2", "feature-exp", "d123", "0.6468"}, {"1", "b", "a", "0.946"},   {"1", "asdf", "8952klfjas09ujk", "0.549"},
      {"1", "feature", "123", "0.863"},
  };
  for (const auto& [version, salt, user, bucket] : vectors) {
    const Answer answer = RunProgram({"assign", "--salt", salt, "--weights", "0.5,0.5", "--coverage", "0", "--hash-version", version, "--", user});
    EXPECT_EQ(answer.output, "{\"user\":" + json(user).dump() + ",\"bucket\":" + bucket + ",\"arm\":-1}\n");
  }
  EXPECT_EQ(RunProgram({"assign", "--salt", "s", "--weights", "0.5,0.5", "--hash-version", "3", "u"}).code, 2);
  EXPECT_EQ(RunProgram({"assign", "--salt", "s", "--weights", "0.5,0.4", "u"}).code, 2);
}

}  // namespace
}  // namespace fuseline
