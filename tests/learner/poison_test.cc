// What a hostile or broken client can report, through the whole learner: values that are no values, densities of nothing, features
// beyond measure, and one user in a hundred who says that one item is worth everything. No version that could be published may be
// touched by it. The world is a bandit whose best action is known.

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <iostream>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fuseline/fusion/policy_network.h"
#include "fuseline/learner/learner.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"
#include "learner_world.h"

namespace fuseline {
namespace {

using test::Action;

constexpr int kSessions = 4'200;

class PoisonTest : public testing::Test {
 protected:
  PoisonTest() : config_(test::SmallConfig()) {
    config_.mutable_rewards()->set_watch_second(1);
    config_.mutable_rewards()->set_valid(0);
    config_.mutable_policy()->set_box_lower(-0.5);
    config_.mutable_policy()->set_box_upper(0.5);
    v1::Learner& settings = *config_.mutable_learner();
    settings.clear_hidden();
    settings.set_actor_rate(0.001);
    settings.set_critic_rate(0.003);
    settings.set_batch(64);
    settings.set_replay_transitions(10'000);
    settings.set_steps_per_transition(0.5);
    settings.set_version_every_steps(1'500);
    settings.set_checkpoint_every_trajectories(1'000'000);
    config_.mutable_gate()->set_max_sessions(1'000);
    const auto ranges = ActionRangesOf(config_.policy(), SchemaOf(config_)).value();
    std::ranges::copy(ranges.static_action(), static_.begin());
    for (std::size_t d = 0; d < best_.size(); ++d) best_[d] = static_[d] + (d % 2 == 0 ? 0.25F : -0.25F);
  }

  double Distance(std::span<const float> a, std::span<const float> b) const {
    double sum = 0;
    for (std::size_t d = 0; d < a.size(); ++d) sum += std::pow(a[d] - b[d], 2);
    return std::sqrt(sum);
  }
  // 10 seconds of watching at the best action, less further away.
  std::int64_t Watch(const Action& action) const {
    return static_cast<std::int64_t>(1000 * watch_scale_ * std::max(0.0, 10 - slope_ * std::pow(Distance(action, best_), 2)));
  }

  struct Outcome {
    std::vector<PolicyVersion> versions;
    LearnerProgress progress;
    Action learned{};  // By the newest version that the gate accepted.
  };

  static double EngagementDeviation(const Outcome& outcome) {
    return outcome.versions.back().manifest.gate().figures().at("deviation_engagement");
  }

  // `corrupt` may change the step of session s, and says whether it did: the user is then another one.
  Outcome Run(const std::function<bool(int s, v1::Step&)>& corrupt) {
    const test::TempDir folder;
    Log log(Severity::kError);
    Metrics metrics;
    SystemClock clock;
    auto learner = Learner::Open(folder.path(), config_, "test build", log, metrics, clock).value();
    learner->ExpectPartitions(1);
    Random random(3, "bandit", 0);
    Outcome outcome;
    v1::TrajectoryName last;
    v1::Step probe;
    for (int s = 0; s < kSessions; ++s) {
      v1::Step step = test::ExploredStep(config_, random, 1, [&](const Action& action) { return Watch(action); });
      if (s == 0) probe = step;
      const bool hostile = corrupt(s, step);
      const std::string user = (hostile ? "x" : "u") + std::to_string(s);
      v1::TrajectoryRecord record;
      *record.mutable_trajectory() =
          test::Session(test::Name(0, s), s == 0 ? nullptr : &last, user, s, v1::TERMINATED, {step});
      EXPECT_THAT(learner->Offer(std::move(record)), IsOk());
      last = test::Name(0, s);
      do {
        auto made = learner->Advance();
        EXPECT_THAT(made, IsOk());
        if (!made || !*made) continue;
        EXPECT_THAT(learner->MarkStored((*made)->manifest.version()), IsOk());
        outcome.versions.push_back(**std::move(made));
      } while (!learner->idle());
    }
    outcome.progress = learner->progress();
    const auto accepted = std::find_if(outcome.versions.rbegin(), outcome.versions.rend(),
                                       [](const PolicyVersion& version) { return version.manifest.gate().passed(); });
    if (accepted == outcome.versions.rend()) {
      outcome.learned = static_;  // Nothing was published: the hand-set weights serve on.
      return outcome;
    }
    const PolicyNetwork network =
        PolicyNetwork::Create(accepted->manifest, DecodeWeights(accepted->weights).value()).value();
    ActorWorkspace workspace;
    const std::vector candidates{ViewOf(probe.exposure().items(0))};
    EXPECT_THAT(network.Act(ViewOf(probe.exposure().user_features()), ViewOf(probe.exposure().context_features()), candidates,
                            workspace, outcome.learned),
                IsOk());
    return outcome;
  }

  v1::Config config_;
  Action static_{}, best_{};
  double watch_scale_ = 1, slope_ = 4;
};

TEST_F(PoisonTest, ValuesThatAreNoneAreLeftOutWithAccountAndTeachNothing) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInfinity = std::numeric_limits<float>::infinity();
  const Outcome clean = Run([](int, v1::Step&) { return false; });
  const std::vector<std::function<void(v1::Step&)>> poisons{
      [&](v1::Step& step) { step.mutable_exposure()->mutable_user_features()->set_dense(0, kNan); },
      [&](v1::Step& step) { step.mutable_exposure()->mutable_user_features()->set_dense(0, 1e30F); },
      [&](v1::Step& step) { step.mutable_exposure()->mutable_items(0)->mutable_item_features()->set_dense(0, -1e30F); },
      [&](v1::Step& step) { step.mutable_exposure()->mutable_items(0)->set_task_scores(0, kInfinity); },
      [&](v1::Step& step) { step.mutable_exposure()->mutable_items(0)->set_executed_action(0, kNan); },
      [&](v1::Step& step) { step.mutable_exposure()->mutable_items(0)->set_baseline_action(0, 1e30F); },
      [&](v1::Step& step) { step.mutable_exposure()->set_log_density(-std::numeric_limits<double>::infinity()); },  // Density 0.
      [&](v1::Step& step) { step.mutable_exposure()->set_log_density(std::numeric_limits<double>::quiet_NaN()); },
      [&](v1::Step& step) { step.mutable_exposure()->set_log_density(-1e6); },
      [&](v1::Step& step) { step.mutable_rewards(0)->set_watch_ms(std::numeric_limits<std::int64_t>::min()); },
      [&](v1::Step& step) { step.mutable_rewards(0)->set_likes(std::numeric_limits<std::uint32_t>::max()); },
      [&](v1::Step& step) { step.mutable_rewards(0)->set_dislikes(std::numeric_limits<std::uint32_t>::max()); }};
  config_.mutable_learner()->set_reward_cap(1'000);
  config_.mutable_learner()->set_session_reward_cap(100);
  const Outcome poisoned = Run([&](int s, v1::Step& step) {
    if (s % 10 != 7) return false;  // From the first: while the normaliser is made, too.
    poisons[static_cast<std::size_t>(s / 10) % poisons.size()](step);
    return true;
  });

  for (const PolicyVersion& version : poisoned.versions) {
    EXPECT_THAT(DecodeWeights(version.weights), IsOk()) << "a tensor is not finite";
    EXPECT_TRUE(std::isfinite(version.manifest.metrics().at("critic_loss")));
  }
  EXPECT_EQ(poisoned.progress.steps_undone, 0U);
  for (const char* reason : {"features", "feature_magnitude", "actions", "density", "session_reward_capped"})
    EXPECT_GT(poisoned.progress.left_out.at(reason), 0U) << reason;
  const double before = Distance(static_, best_), after = Distance(poisoned.learned, best_);
  EXPECT_LT(Distance(clean.learned, best_), 0.5 * before);
  EXPECT_LT(after, 0.5 * before) << "from " << before << " to " << after;
}

// Whoever sees the item, which is where the first power is low, reports a thousand likes of it. The cap keeps that out of the
// critics; that the policy stands even without it is the gradient's largest norm, which a rare report can fill but not exceed.
TEST_F(PoisonTest, OneUserInAHundredWhoPraisesOneItemIsHeldBackByTheSessionsCap) {
  const auto attack = [&](int s, v1::Step& step) {
    if (s % 100 != 50) return false;
    if (step.exposure().items(0).executed_action(0) < static_[0]) step.mutable_rewards(0)->set_likes(1'000);
    return true;
  };
  config_.mutable_learner()->set_reward_cap(1'000);
  config_.mutable_learner()->set_session_reward_multiple(0);
  config_.mutable_learner()->set_session_reward_cap(1e12);
  const Outcome open = Run(attack);
  config_.mutable_learner()->set_session_reward_cap(30);  // Three times what an honest session earns.
  const Outcome capped = Run(attack);
  const double before = Distance(static_, best_);
  std::cout << "distance from the best action: static " << before << "; attacked without a cap " << Distance(open.learned, best_)
            << ", first power moved by " << open.learned[0] - static_[0] << ", deviation " << EngagementDeviation(open) << "; with one "
            << Distance(capped.learned, best_) << ", " << capped.learned[0] - static_[0] << ", " << EngagementDeviation(capped) << '\n';
  EXPECT_LT(Distance(capped.learned, best_), 0.7 * before);
  EXPECT_GT(capped.learned[0], static_[0]) << "towards the best action, away from the praised item";
  EXPECT_LT(EngagementDeviation(capped), EngagementDeviation(open) / 10) << "what the critics were made to believe";
  EXPECT_GT(capped.progress.left_out.at("session_reward_capped"), 0U);
}

// With the caps and the gate as they come. Whoever sees the item, which is where the first power is low, claims a thousand likes of it
// and the longest watch. The control has the caps taken away: there the same attack decides what the critics and the gate believe, and
// nothing good is learned.
TEST_F(PoisonTest, WithDefaultSettingsOneUserInAHundredChangesNoVersionThatIsPublished) {
  const v1::Config by_default = DefaultSettings();
  *config_.mutable_rewards() = by_default.rewards();
  *config_.mutable_gate() = by_default.gate();
  // Up to five minutes of watching at the best action.
  watch_scale_ = 30;
  slope_ = 8;
  const auto attack = [&](int s, v1::Step& step) {
    if (s % 100 != 50) return false;
    if (step.exposure().items(0).executed_action(0) < static_[0]) {
      step.mutable_rewards(0)->set_likes(1'000);
      step.mutable_rewards(0)->set_watch_ms(300'000);
    }
    return true;
  };
  const auto ncis = [](const Outcome& outcome) { return outcome.versions.back().manifest.gate().figures().at("ncis"); };
  const Outcome clean = Run([](int, v1::Step&) { return false; });
  const Outcome guarded = Run(attack);
  config_.mutable_learner()->set_reward_cap(1'000);  // No honest report comes near it.
  config_.mutable_learner()->set_session_reward_multiple(0);
  config_.mutable_learner()->set_user_reward_multiple(0);
  const Outcome open = Run(attack);

  const double before = Distance(static_, best_);
  for (const auto& [name, outcome] : {std::pair("clean", &clean), {"guarded", &guarded}, {"open", &open}}) {
    std::cout << name << ": distance from the best action " << Distance(outcome->learned, best_) << " of " << before << ", from the clean one "
              << Distance(outcome->learned, clean.learned) << ", NCIS " << ncis(*outcome) << ", deviation " << EngagementDeviation(*outcome)
              << ", accepted " << outcome->progress.versions_accepted << " of " << outcome->progress.versions << '\n';
  }
  ASSERT_GT(clean.progress.versions_accepted, 0U);
  ASSERT_LT(Distance(clean.learned, best_), 0.5 * before);
  EXPECT_GT(Distance(open.learned, clean.learned), 0.5 * before) << "or the test could not fail";
  EXPECT_GT(guarded.progress.left_out.at("reward_capped"), 0U);
  EXPECT_LT(Distance(guarded.learned, best_), 0.5 * before);
  EXPECT_GT(guarded.progress.versions_accepted, 0U);
  EXPECT_LT(Distance(guarded.learned, clean.learned), 0.35 * before) << "a good part of it is chance";
  EXPECT_NEAR(ncis(guarded), ncis(clean), 0.1 * ncis(clean)) << "what the gate believes";
  EXPECT_GT(std::abs(ncis(open) - ncis(clean)), 0.5 * ncis(clean)) << "or the test could not fail";
}

}  // namespace
}  // namespace fuseline
