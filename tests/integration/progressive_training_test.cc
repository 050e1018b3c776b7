// Progressive training through the whole program, a real broker, a real Redis and a live ranker: an accepted version is
// picked up, what the ranker then logs was explored around the new actor's own output for the logged state, and the
// actor is trained by that and by nothing older.

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/fusion/policy_network.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/policy_store/archive.h"
#include "fuseline/proto/settings.h"
#include "fuseline/serving_bridge/ranker.h"
#include "fuseline/test_support/matchers.h"
#include "loop_harness.h"

namespace fuseline::test {
namespace {

constexpr std::uint64_t kEvents = 10'000;  // Of a round.
constexpr const char* kTopic = "progressive.events";
constexpr std::int64_t kPatienceMs = 120'000;

// Of a version: what serves, but for the normaliser.
std::map<std::string, std::vector<float>> ActorOf(const PolicyVersion& version) {
  std::map<std::string, std::vector<float>> actor;
  const TensorMap tensors = DecodeWeights(version.weights).value();
  for (const auto& [name, tensor] : tensors)
    if (name.starts_with("actor.")) actor[name] = tensor.values;
  return actor;
}

// An hour later, so that every session before it is closed.
v1::Event CloserOf(const std::vector<v1::Event>& events) {
  v1::Event event;
  event.set_event_id("closer");
  event.set_user_id("closer");
  event.set_event_time_ms(events.back().event_time_ms() + 3'600'000);
  event.mutable_exposure()->set_request_id("closer");
  event.mutable_exposure()->add_items()->set_item_id("closer");
  return event;
}

class ProgressiveTrainingTest : public testing::Test {
 protected:
  PolicyVersion Archived(const LoopProcess& run, std::uint64_t version) {
    const auto found = Archive::OpenReadOnly(run.state() + "/policy", files_).Get(version);
    EXPECT_THAT(found, IsOk());
    return found ? found->version : PolicyVersion();
  }

  // Every explored exposure of `events` names `version`, and was explored around what its actor says of the logged
  // state.
  static void ExpectExploredAround(const PolicyVersion& version, const std::vector<v1::Event>& events) {
    ASSERT_OK_AND_ASSIGN(const PolicyNetwork actor,
                         PolicyNetwork::Create(version.manifest, DecodeWeights(version.weights).value()));
    const std::size_t width = actor.action_space().width();
    ActorWorkspace workspace;
    std::size_t explored = 0, items = 0;
    double moved = 0;
    for (const v1::Event& event : events) {
      const v1::Exposure& exposure = event.exposure();
      if (!event.has_exposure() || !exposure.has_log_density()) continue;  // The static arm's.
      ++explored;
      ASSERT_EQ(exposure.policy_version(), version.manifest.version());
      std::vector<CandidateView> candidates;
      for (const v1::ExposedItem& item : exposure.items()) candidates.push_back(ViewOf(item));
      std::vector<float> said(candidates.size() * width);
      ASSERT_THAT(
          actor.Act(ViewOf(exposure.user_features()), ViewOf(exposure.context_features()), candidates, workspace, said),
          IsOk());
      const auto static_action = actor.action_space().static_action();
      for (std::size_t j = 0; j < candidates.size(); ++j) {
        const v1::ExposedItem& item = exposure.items(static_cast<int>(j));
        for (std::size_t d = 0; d < width; ++d) {
          const int at = static_cast<int>(d);
          ASSERT_EQ(item.baseline_action(at), said[j * width + d])
              << event.event_id() << " item " << j << " dimension " << d;
          moved = std::max(moved, std::abs(static_cast<double>(item.baseline_action(at)) - static_action[d]));
        }
        ++items;
      }
    }
    EXPECT_GT(explored, kEvents / 20);
    EXPECT_GT(items, explored);
    EXPECT_GT(moved, 0.01) << "a baseline that never left the static action would prove nothing";
  }

  DiskFileSystem files_;
  Log log_{Severity::kError};
  Metrics metrics_;
  SystemClock clock_;
};

TEST_F(ProgressiveTrainingTest, AnAcceptedVersionBecomesTheBaselineOfExploration) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  ASSERT_OK_AND_ASSIGN(const auto redis, RedisProcess::Start());

  // Given a first round, explored around the static weights, and a learner whose box term counts the incumbent's own
  // round alone
  ASSERT_OK_AND_ASSIGN(auto first, SimulatedEvents(/*seed=*/7, kEvents));
  first.push_back(CloserOf(first));
  ASSERT_THAT(MakeEventsTopic(*kafka, kTopic, /*partitions=*/1, first), IsOk());
  LoopProcess run(*kafka, *redis, kTopic,
                  {"fuseline.log_level=error", "sessionizer.gap_ms=120000", "learner.box_rounds=0",
                   "learner.actor_delay_steps=0", "learner.actor_rate=0.001", "learner.warmup_transitions=100",
                   "learner.steps_per_transition=1", "learner.version_every_steps=100",
                   "gate.max_ensemble_deviation=1e9", "gate.gauc_tolerance=1", "gate.ncis_tolerance=10",
                   "gate.static_gauc_tolerance=1", "gate.static_ncis_tolerance=10",
                   "gate.max_outside_share=1", "policy_store.keep_versions=1000"});
  ASSERT_THAT(run.Start(), IsOk());
  ASSERT_THAT(run.WaitUntilLearned(first.size(), kPatienceMs), IsOk());
  std::uint64_t live = 0;
  const auto all_published = [&](const nlohmann::json& status) {
    live = status["live_version"];
    return live > 0 && status["learner"]["incumbent"] == live && status["learner"]["versions"] == live;
  };
  ASSERT_THAT(run.WaitUntil(all_published, kPatienceMs), IsOk());
  ASSERT_GE(live, 3U);

  // and a ranker that picked the newest version up
  v1::Config config = DefaultSettings();
  config.mutable_redis()->set_address("unix:" + redis->socket_path());
  ASSERT_OK_AND_ASSIGN(RankerOptions options, RankerOptionsOf(config));
  options.name = "live";
  ASSERT_OK_AND_ASSIGN(const auto ranker, Ranker::Open(std::move(options), log_, metrics_, clock_));
  const auto picked_up = [&](const nlohmann::json&) { return ranker->status().version == live; };
  ASSERT_THAT(run.WaitUntil(picked_up, kPatienceMs), IsOk());

  // When it serves a second round
  const std::int64_t begin_ms = first.back().event_time_ms() + 1;
  ASSERT_OK_AND_ASSIGN(const auto second, EventsRankedBy(*ranker, /*seed=*/8, begin_ms, kEvents));

  // Then the round was explored around that version
  const PolicyVersion baseline = Archived(run, live);
  ASSERT_NO_FATAL_FAILURE(ExpectExploredAround(baseline, second));

  // and the actor, which had stood still since the first version was accepted, learns from it
  ASSERT_THAT(AppendEvents(*kafka, kTopic, second), IsOk());
  ASSERT_THAT(run.WaitUntilLearned(first.size() + second.size(), kPatienceMs), IsOk());
  ASSERT_EQ(run.Interrupt(), 130) << run.log();
  const PolicyVersion before = Archived(run, live - 1), after = Archived(run, live + 1);
  EXPECT_EQ(baseline.manifest.metrics().at("box_term_share"), 0) << "all transitions were of an older round";
  EXPECT_EQ(ActorOf(baseline), ActorOf(before));
  EXPECT_EQ(after.manifest.lineage().parent(), live);
  EXPECT_GT(after.manifest.metrics().at("box_term_share"), 0);
  EXPECT_NE(ActorOf(after), ActorOf(baseline));
}

}  // namespace
}  // namespace fuseline::test
