// The whole program judges an experiment: events of users in two arms, one of which earns a fifth less, go through a real broker into `fuseline
// run`, which is killed on the way; it ends the experiment in a real Redis, and has counted every session once.

#include <algorithm>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/core/file.h"
#include "fuseline/core/random.h"
#include "fuseline/rollout/experiment.h"
#include "fuseline/test_support/matchers.h"
#include "loop_harness.h"

namespace fuseline::test {
namespace {

constexpr int kUsers = 3'000, kSessions = 9'000, kItems = 3;
constexpr std::int64_t kBeginMs = 1'704'067'200'000, kBetweenMs = 1'000;

constexpr const char* kExperiment = R"(
name: planted
arms:
  - {name: control, share: 5000, static_weights: true}
  - {name: worse, share: 5000, static_weights: true, explore: true}
coverage: 10000
guardrails:
  - {metric: VALID, action: ROLLBACK}
)";

// Session i is of user i mod kUsers: nobody comes back within the gap. An item is a valid consumption with probability 0.5, or 0.4.
std::vector<v1::Event> PlantedEvents(const ArmChooser& chooser) {
  Random random(3, "planted", 0);
  std::vector<v1::Event> events;
  for (int i = 0; i <= kSessions; ++i) {
    const bool closes = i == kSessions;  // A day later, so that all others are closed.
    const std::string user = closes ? "closer" : "u" + std::to_string(i % kUsers);
    const int arm = chooser.Choose(user);
    v1::Event shown;
    shown.set_event_id("e" + std::to_string(i));
    shown.set_user_id(user);
    shown.set_event_time_ms(kBeginMs + i * kBetweenMs + (closes ? 86'400'000 : 0));
    v1::Exposure& exposure = *shown.mutable_exposure();
    exposure.set_request_id("r" + std::to_string(i));
    if (!closes) {
      exposure.set_experiment("planted");
      exposure.set_arm(arm == 0 ? "control" : "worse");
      exposure.set_experiment_coverage(10'000);
    }
    for (int item = 0; item < kItems; ++item) exposure.add_items()->set_item_id("i" + std::to_string(item));
    events.push_back(shown);
    for (int item = 0; item < kItems && !closes; ++item) {
      v1::Event watched;
      watched.set_event_id("w" + std::to_string(i) + '-' + std::to_string(item));
      watched.set_user_id(user);
      watched.set_event_time_ms(shown.event_time_ms() + 10 + item);
      v1::Feedback& feedback = *watched.mutable_feedback();
      feedback.set_request_id(exposure.request_id());
      feedback.set_item_id("i" + std::to_string(item));
      feedback.set_kind(v1::Feedback::WATCH);
      feedback.set_watch_ms(random.NextUniform() < (arm == 0 ? 0.5 : 0.4) ? 20'000 : 2'000);
      events.push_back(watched);
    }
  }
  return events;
}

TEST(ExperimentLoopTest, APlantedWorseArmEndsItsExperimentAndNoSessionCountsTwice) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  ASSERT_OK_AND_ASSIGN(const auto redis, RedisProcess::Start());
  const TempDir folder;
  ASSERT_THAT(WriteFileAtomically(folder / "planted.yaml", kExperiment), IsOk());
  const std::string address = "redis.address=unix:" + redis->socket_path();
  std::string output;

  // Given an experiment that somebody began, after looking at what it would be
  ASSERT_EQ(RunFuseline({"experiment", "create", folder / "planted.yaml", "--set", address}, &output), 0);
  EXPECT_EQ(RunFuseline({"experiment", "status", "planted", "--set", address}, &output), 2) << "a dry run writes nothing";
  ASSERT_EQ(RunFuseline({"experiment", "create", folder / "planted.yaml", "--execute", "--reason", "a test", "--set", address}, &output), 0);
  EXPECT_EQ(RunFuseline({"experiment", "create", folder / "planted.yaml", "--execute", "--reason", "a test", "--set", address}, &output), 5);

  // and the events of its users
  v1::Experiment definition;
  definition.set_name("planted");
  definition.set_coverage(kWholeShare);
  for (const char* const name : {"control", "worse"}) {
    v1::Arm& arm = *definition.add_arms();
    arm.set_name(name);
    arm.set_share(kWholeShare / 2);
    arm.set_static_weights(true);
  }
  const auto events = PlantedEvents(*ArmChooser::Create(definition));
  ASSERT_THAT(MakeEventsTopic(*kafka, "planted.events", /*partitions=*/1, events), IsOk());

  // When the program learns from them, killed on the way
  LoopProcess run(*kafka, *redis, "planted.events",
                  {"fuseline.log_level=error", "sessionizer.gap_ms=60000", "learner.checkpoint_every_trajectories=500"});
  ASSERT_THAT(run.Start(), IsOk());
  ASSERT_THAT(run.WaitUntil([](const nlohmann::json& status) { return status["accounting"]["read"] > 4'000; }, /*patience_ms=*/120'000), IsOk());
  run.Kill();
  run.Wait();
  ASSERT_THAT(run.Start(), IsOk());
  ASSERT_THAT(run.WaitUntilLearned(events.size(), /*patience_ms=*/120'000), IsOk());

  // Then every session was counted once, and the arm was found
  nlohmann::json judged;
  ASSERT_THAT(run.WaitUntil(
                  [&](const nlohmann::json&) {
                    if (RunFuseline({"experiment", "status", "planted", "--json", "--set", address}, &output) != 0) return false;
                    judged = nlohmann::json::parse(output);
                    return judged["arms"][0]["sessions"].get<int>() + judged["arms"][1]["sessions"].get<int>() == kSessions;
                  },
                  /*patience_ms=*/60'000),
              IsOk())
      << output;
  EXPECT_EQ(run.Interrupt(), 130) << run.log();
  EXPECT_EQ(judged["state"], "ROLLED_BACK");
  EXPECT_EQ(judged["crossed"], 0);
  EXPECT_EQ(judged["left_out_of_all"], 0);
  EXPECT_LT(judged["arms"][1]["valid"]["upper"].get<double>(), 0) << output;
  EXPECT_EQ(RunFuseline({"experiment", "status", "planted", "--set", address}, &output), 0);
  EXPECT_THAT(output, testing::HasSubstr("by guardrail: VALID of arm worse"));
  const std::size_t said = output.find("by guardrail");
  std::cout << output.substr(said, output.find('\n', said) - said) << '\n';
  EXPECT_EQ(RunFuseline({"experiment", "ramp", "planted", "--execute", "--reason", "a test", "--set", address}, &output), 5) << "it has ended";
  EXPECT_EQ(RunFuseline({"experiment", "explain", "u42", "--set", address}, &output), 0);
  EXPECT_THAT(output, testing::HasSubstr("ROLLED_BACK"));
}

}  // namespace
}  // namespace fuseline::test
