// What the stream says of experiments: sums equal to those of a slow and obvious way, false alarms as rare as promised over many looks at
// heavy-tailed sessions of users who come back, and a worse arm that is found.
#include "fuseline/rollout/evaluation.h"

#include <algorithm>
#include <cmath>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/rollout/judgement.h"
#include "fuseline/test_support/matchers.h"
#include "simulated_sessions.h"

namespace fuseline {
namespace {

v1::Rollout Rule() {
  v1::Rollout rule;
  rule.set_look_every_sessions(100);
  rule.set_min_users(200);
  rule.set_best_at_users(5'000);
  rule.set_alpha(0.05);
  rule.set_sample_ratio_alpha(0.01);
  rule.set_max_users(1'000'000);
  return rule;
}

// P(X >= hits) for X binomial: how likely so many false alarms are if each has probability `p`.
double TailOf(int trials, int hits, double p) {
  double tail = 0;
  for (int k = hits; k <= trials; ++k) {
    tail += std::exp(std::lgamma(trials + 1.0) - std::lgamma(k + 1.0) - std::lgamma(trials - k + 1.0) + k * std::log(p) +
                     (trials - k) * std::log1p(-p));
  }
  return tail;
}

TEST(EvaluationTest, FalseAlarmsOverFiftyLooksAreAsRareAsPromised) {
  constexpr int kExperiments = 1'000, kLooks = 50, kSessionsPerLook = 80;
  const v1::Rollout rule = Rule();
  int effects = 0, ratios = 0, rollbacks = 0, fixed = 0;
  for (int run = 0; run < kExperiments; ++run) {
    const std::string salt = "salt-" + std::to_string(run);
    v1::Experiment experiment = TwoArms(salt);
    SimulatedSessions sessions(/*seed=*/static_cast<std::uint64_t>(run), /*users=*/2'000);
    ExperimentEvaluation evaluation(1'000'000);
    bool effect = false, ratio = false, rollback = false, fixed_sample = false;
    for (int look = 0; look < kLooks; ++look) {
      // A third goes through all stages of the ramp, three looks each; the others begin with everybody.
      const std::size_t stage = run % 3 == 0 ? static_cast<std::size_t>(look) / 3 : std::size(kRampStages);
      experiment.set_coverage(kRampStages[std::min(stage, std::size(kRampStages) - 1)]);
      const ArmChooser chooser = *ArmChooser::Create(experiment);
      for (int i = 0; i < kSessionsPerLook; ++i) sessions.Next(chooser, experiment.coverage(), /*factor=*/1, evaluation);
      const Judgement judgement = Judge(experiment, evaluation.Find("experiment"), rule);
      const MetricComparison& reward = judgement.arms[1].metrics[0];
      effect |= std::abs(reward.difference) > reward.half_width;
      const double variance = reward.mean.variance + judgement.arms[0].metrics[0].mean.variance;
      fixed_sample |= variance > 0 && !std::isinf(reward.half_width) && std::abs(reward.difference) > 1.96 * std::sqrt(variance);
      ratio |= judgement.log_sample_ratio_e >= std::log(100.0);
      rollback |= judgement.alarm && judgement.alarm->action == v1::Guardrail::ROLLBACK;
    }
    effects += effect, ratios += ratio, rollbacks += rollback, fixed += fixed_sample;
  }
  std::cout << "false alarms of " << kExperiments << " experiments at " << kLooks << " looks: effect " << effects << ", rollback " << rollbacks
            << ", sample ratio " << ratios << "; an interval made for one look " << fixed << '\n';
  EXPECT_GT(fixed, 100) << "the looks are not many enough to tempt anybody";
  EXPECT_GT(TailOf(kExperiments, effects, 0.05), 0.01) << effects;
  EXPECT_GT(TailOf(kExperiments, rollbacks, 0.05), 0.01) << rollbacks;
  EXPECT_GT(TailOf(kExperiments, ratios, 0.01), 0.01) << ratios;
}

TEST(EvaluationTest, AnArmThatIsAFifthWorseIsRolledBackAndOneThatIsBetterIsNot) {
  const v1::Rollout rule = Rule();
  for (const double factor : {0.8, 1.2}) {
    v1::Experiment experiment = TwoArms("planted");
    const ArmChooser chooser = *ArmChooser::Create(experiment);
    SimulatedSessions sessions(/*seed=*/3, /*users=*/20'000);
    ExperimentEvaluation evaluation(1'000'000);
    std::uint64_t found_at = 0;
    for (int look = 0; look < 400 && found_at == 0; ++look) {
      for (int i = 0; i < 100; ++i) sessions.Next(chooser, experiment.coverage(), factor, evaluation);
      const Judgement judgement = Judge(experiment, evaluation.Find("experiment"), rule);
      if (judgement.alarm && judgement.alarm->action == v1::Guardrail::ROLLBACK) found_at = evaluation.Find("experiment")->sessions();
    }
    std::cout << "factor " << factor << ": rolled back after " << found_at << " sessions (0: never)\n";
    EXPECT_EQ(found_at > 0, factor < 1) << found_at;
  }
}

TEST(EvaluationTest, ASampleRatioThatIsOffPausesTheExperiment) {
  // Given arms of equal shares, one of whose users are lost on the way, one in five
  const v1::Experiment experiment = TwoArms("lost");
  const ArmChooser chooser = *ArmChooser::Create(experiment);
  ExperimentEvaluation evaluation(1'000'000);
  Random random(5, "lost", 0);
  for (int user = 0; user < 6'000; ++user) {
    const std::string id = "u" + std::to_string(user);
    const bool first = chooser.Choose(id) == 0;
    if (!first && random.NextBelow(5) == 0) continue;
    evaluation.Observe({.experiment = "experiment", .arm = first ? "control" : "treatment", .user_id = id, .coverage = 10'000, .metrics = {1, 1, 1}});
  }

  // When it is judged
  const Judgement judgement = Judge(experiment, evaluation.Find("experiment"), Rule());

  // Then it is to be paused, and no arm is blamed
  ASSERT_TRUE(judgement.alarm.has_value());
  EXPECT_EQ(judgement.alarm->action, v1::Guardrail::PAUSE);
  EXPECT_EQ(judgement.alarm->arm, "");
}

TEST(EvaluationTest, SumsAreThoseOfUsersAndAStateGoesOnWhereItWasSaved) {
  const v1::Experiment experiment = TwoArms("sums");
  const ArmChooser chooser = *ArmChooser::Create(experiment);
  Random random(7, "sums", 0);
  ExperimentEvaluation whole(1'000'000);
  auto resumed = std::make_unique<ExperimentEvaluation>(1'000'000);
  struct User {
    double y = 0, n = 0;
  };
  std::map<std::string, User> users[2];
  for (int i = 0; i < 3'000; ++i) {
    const std::string id = "u" + std::to_string(random.NextBelow(400));
    const int arm = chooser.Choose(id);
    const double reward = random.NextNormal();
    const ObservedSession session{.experiment = "experiment", .arm = arm == 0 ? "control" : "treatment", .user_id = id,
                                  .coverage = 10'000, .metrics = {reward, 1, 0}};
    whole.Observe(session);
    resumed->Observe(session);
    users[arm][id].y += reward, users[arm][id].n += 1;
    if (i % 500 != 0) continue;
    v1::EvaluationState saved;
    ASSERT_TRUE(saved.ParseFromString(resumed->State().SerializeAsString()));
    resumed = std::make_unique<ExperimentEvaluation>(1'000'000);
    ASSERT_THAT(resumed->Restore(saved), IsOk());
  }
  EXPECT_EQ(resumed->State().SerializeAsString(), whole.State().SerializeAsString());

  const Judgement judgement = Judge(experiment, whole.Find("experiment"), Rule());
  for (std::size_t arm = 0; arm < 2; ++arm) {
    UserSums sums;
    for (const auto& [id, user] : users[arm]) sums.Add(user.y, user.n);
    const MeanEstimate expected = SessionMean(sums);
    const MeanEstimate& found = judgement.arms[arm].metrics[0].mean;
    EXPECT_EQ(judgement.arms[arm].users, users[arm].size());
    EXPECT_NEAR(found.mean, expected.mean, 1e-12);
    EXPECT_NEAR(found.variance, expected.variance, 1e-12);
  }
}

TEST(EvaluationTest, WhatTheLimitsLeaveOutIsCountedAndACrossedUserToo) {
  ExperimentEvaluation evaluation(/*max_users=*/2);
  const auto observe = [&](const char* user, const char* arm, double reward) {
    evaluation.Observe({.experiment = "e", .arm = arm, .user_id = user, .metrics = {reward, 0, 0}});
  };
  observe("a", "x", 1);
  observe("b", "y", 1);
  observe("c", "x", 1);                // Beyond the limit.
  observe("a", "x", 1);                // Known.
  observe("a", "y", 1);                // Was in x.
  observe("a", "x", std::nan(""));  // No reward.
  EXPECT_EQ(evaluation.left_out(), 2U);
  EXPECT_EQ(evaluation.Find("e")->sessions(), 3U);
  EXPECT_EQ(evaluation.Find("e")->crossed(), 1U);
  EXPECT_EQ(evaluation.Find("nobody"), nullptr);
}

// Sessions of users who are all new, for one evaluation that goes on and one that is saved and restored: what is let go must not depend on it.
class CrowdedEvaluation {
 public:
  explicit CrowdedEvaluation(std::size_t max_users)
      : max_users_(max_users),
        whole_(std::make_unique<ExperimentEvaluation>(max_users)),
        resumed_(std::make_unique<ExperimentEvaluation>(max_users)) {
    whole_->OnLetGo([this](const v1::ExperimentTotals& totals) { let_go.push_back(totals.name()); });
  }
  void Observe(const std::string& experiment, int sessions) {
    for (int i = 0; i < sessions; ++i) {
      const std::string user = experiment + std::to_string(++users_);
      for (auto* const each : {whole_.get(), resumed_.get()})
        each->Observe({.experiment = experiment, .arm = "x", .user_id = user, .metrics = {1, 0, 0}});
    }
    const v1::EvaluationState saved = resumed_->State();
    EXPECT_EQ(saved.SerializeAsString(), whole_->State().SerializeAsString());
    resumed_ = std::make_unique<ExperimentEvaluation>(max_users_);
    EXPECT_THAT(resumed_->Restore(saved), IsOk());
  }
  int UsersOf(const std::string& experiment) const {
    const v1::ExperimentTotals* const totals = whole_->Find(experiment);
    return totals == nullptr ? 0 : static_cast<int>(totals->arms(0).users());
  }
  std::uint64_t left_out() const { return whole_->left_out(); }
  std::vector<std::string> let_go;

 private:
  std::size_t max_users_;
  int users_ = 0;
  std::unique_ptr<ExperimentEvaluation> whole_, resumed_;
};

TEST(EvaluationTest, AnExperimentThatEndedMakesRoomForTheNextAndOneThatRunsDoesNot) {
  // Given names whose order is not that of their sessions: "z" is the one that ended
  CrowdedEvaluation evaluation(/*max_users=*/100);
  evaluation.Observe("z", 60);
  evaluation.Observe("a", 40);
  EXPECT_TRUE(evaluation.let_go.empty());

  // When another one begins
  evaluation.Observe("m", 60);

  // Then the one that ended has gone with its users, nobody else, and no session is left out
  EXPECT_EQ(evaluation.let_go, std::vector<std::string>{"z"});
  EXPECT_EQ(evaluation.UsersOf("m"), 60);
  EXPECT_EQ(evaluation.UsersOf("a"), 40);
  EXPECT_EQ(evaluation.left_out(), 0U);
}

TEST(EvaluationTest, TheLargestExperimentTakesNoRoomFromASmallOne) {
  CrowdedEvaluation evaluation(/*max_users=*/100);
  evaluation.Observe("canary", 10);
  evaluation.Observe("large", 95);
  EXPECT_EQ(evaluation.left_out(), 5U);
  EXPECT_EQ(evaluation.UsersOf("canary"), 10);
  evaluation.Observe("canary", 30);
  EXPECT_EQ(evaluation.UsersOf("canary"), 40);
  EXPECT_EQ(evaluation.let_go, std::vector<std::string>{"large"});
}

TEST(EvaluationTest, InventedNamesDoNotShutOutTheOnesThatRun) {
  CrowdedEvaluation evaluation(/*max_users=*/1'000);
  for (std::size_t i = 0; i < 2 * ExperimentEvaluation::kExperimentsMax; ++i) {
    evaluation.Observe("invented " + std::to_string(i), 1);
    evaluation.Observe("real", 1);
  }
  EXPECT_EQ(evaluation.UsersOf("real"), 200);
  EXPECT_EQ(evaluation.let_go.size(), 101U);
  EXPECT_EQ(evaluation.left_out(), 0U);
}

TEST(EvaluationTest, AStateThatContradictsItselfIsRefused) {
  ExperimentEvaluation evaluation(10);
  evaluation.Observe({.experiment = "e", .arm = "x", .user_id = "a", .metrics = {1, 1, 1}});
  v1::EvaluationState cut = evaluation.State();
  cut.mutable_experiments(0)->mutable_users()->pop_back();
  EXPECT_THAT(evaluation.Restore(cut), HasCode(Code::kCorrupt));
  v1::EvaluationState strange = evaluation.State();
  strange.mutable_experiments(0)->clear_arms();
  EXPECT_THAT(evaluation.Restore(strange), HasCode(Code::kCorrupt));
  EXPECT_EQ(evaluation.Find("e")->sessions(), 1U);
}

}  // namespace
}  // namespace fuseline
