// The scorer in the stream, by itself: labels from outcomes; its three models against the same course in plain loops; what held-back
// users may do, and what the gate refuses. That deaths change nothing is in learner_test and learner_kill_test.

#include "scorer/scorer_stream.h"

#include <cmath>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fuseline/test_support/matchers.h"
#include "scorer/outcomes.h"
#include "fuseline/test_support/temp_dir.h"
#include "stream_world.h"

namespace fuseline {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ScorerStreamTest : public ::testing::Test {
 protected:
  std::unique_ptr<ScorerStream> Create(const v1::Config& config) { return ScorerStream::Create(config, log_, metrics_).value(); }

  // Of one partition; every fifth user is held back.
  static std::vector<v1::Trajectory> SessionsOf(const v1::Config& config, int sessions) {
    auto all = std::move(test::Sessions(config, 1, sessions)[0]);
    // What is watched hangs on the user's taste and on which item it is, as a feature and an id show them, and a little on chance.
    Random random(5, "watched", 0);
    for (v1::Trajectory& session : all) {
      for (v1::Step& step : *session.mutable_steps()) {
        for (int j = 0; j < step.rewards_size(); ++j)
          step.mutable_rewards(j)->set_watch_ms(IsLiked(step, j) != (random.NextBelow(10) == 0) ? 30'000 : 5'000);
      }
    }
    return all;
  }
  static bool IsLiked(const v1::Step& step, int item) { return step.exposure().user_features().dense(0) > (item == 1 ? 0.7F : -0.3F); }
  static bool IsKept(const v1::Trajectory& session) { return std::stoi(session.user_id().substr(1)) % 5 == 0; }

  static Status TakeAll(ScorerStream& stream, const std::vector<v1::Trajectory>& sessions) {
    for (const v1::Trajectory& session : sessions) FUSELINE_RETURN_IF_ERROR(stream.Take(session, IsKept(session)));
    return OkStatus();
  }
  static v1::Lineage LineageOf(const v1::Config& config) {
    v1::Lineage lineage;
    lineage.set_settings(ShapingSettings(config).SerializeAsString());
    return lineage;
  }
  static Result<PolicyVersion> VersionOf(ScorerStream& stream, const v1::Config& config) {
    FUSELINE_FAIL_IF_ERROR(stream.MakeVersion(LineageOf(config), /*policy_versions=*/0, /*wall_ms=*/1));
    PolicyVersion made = *stream.pending();
    stream.MarkStored();
    return made;
  }

  Log log_{Severity::kError};
  Metrics metrics_;
};

TEST(OutcomesTest, ATaskPredictsWhatItsNameOrTheSettingsSay) {
  v1::Config config = test::SmallScorerConfig({"scorer.tasks=click,valid,seconds,liked", "scorer.outcomes=seconds=watch,liked=like"});
  for (const auto& [name, max] : {std::pair("seconds", 60.0F), {"liked", 1.0F}}) {
    auto& task = *config.mutable_schema()->add_tasks();
    task.set_name(name);
    task.set_max(max);
  }
  ASSERT_OK_AND_ASSIGN(const auto fields, ScorerFields::Create(config));
  ASSERT_OK_AND_ASSIGN(const auto outcomes, Outcomes::Create(config, fields));
  const auto labels_of = [&](std::int64_t watch_ms, std::uint32_t clicks, std::uint32_t likes) {
    v1::RewardComponents rewards;
    rewards.set_watch_ms(watch_ms);
    rewards.set_clicks(clicks);
    rewards.set_likes(likes);
    std::vector<float> labels;
    outcomes.Append(rewards, &labels);
    return labels;
  };
  EXPECT_EQ(outcomes.text(), "click=click,valid=valid,seconds=watch,liked=like");
  EXPECT_THAT(labels_of(0, 2, 0), ElementsAre(1, 0, 0, 0));
  EXPECT_THAT(labels_of(10'000, 0, 1), ElementsAre(0, 0, 10.0F / 60, 1)) << "a valid one is longer than 10 s";
  EXPECT_THAT(labels_of(90'000, 0, 0), ElementsAre(0, 1, 1, 0));
}

TEST(OutcomesTest, ALongViewIsTheWholeItemOrEighteenSeconds) {
  const v1::Config config = test::SmallScorerConfig({});
  ASSERT_OK_AND_ASSIGN(const auto fields, ScorerFields::Create(config));
  ASSERT_OK_AND_ASSIGN(const auto outcomes, Outcomes::Create(config, fields));
  const auto is_long = [&](std::int64_t watch_ms, std::int64_t duration_ms) {
    v1::RewardComponents rewards;
    rewards.set_watch_ms(watch_ms);
    rewards.set_item_duration_ms(duration_ms);
    std::vector<float> labels;
    outcomes.Append(rewards, &labels);
    return labels[0] == 1;
  };
  EXPECT_TRUE(is_long(7'000, 7'000));
  EXPECT_FALSE(is_long(6'999, 7'000));
  EXPECT_TRUE(is_long(18'000, 100'000));
  EXPECT_FALSE(is_long(17'999, 0));
  EXPECT_TRUE(is_long(18'000, 0));
}

TEST(OutcomesTest, WhatNobodySaysIsRefusedByNamingAll) {
  const auto error_of = [](const std::string& outcomes) {
    const v1::Config config = test::SmallScorerConfig({"scorer.outcomes=" + outcomes});
    const auto made = Outcomes::Create(config, ScorerFields::Create(config).value());
    return made ? std::string("none") : made.error().message;
  };
  EXPECT_THAT(error_of("click=clack"), testing::AllOf(HasSubstr("long_view"), HasSubstr("dislike"), HasSubstr("clack")));
  EXPECT_THAT(error_of("click"), HasSubstr("TASK=OUTCOME"));
  EXPECT_THAT(error_of("share=share"), HasSubstr("not in scorer.tasks"));
  EXPECT_THAT(error_of("click=like,click=share"), HasSubstr("twice"));
}

TEST(CheckScorerStreamTest, APolicysNameLeavesRoomForItsScorersAndIsNone) {
  const auto error_of = [](const std::string& policy, bool learn, const std::string& ranker) {
    v1::Config config = test::SmallScorerConfig({});
    config.mutable_policy()->set_name(policy);
    config.mutable_scorer()->set_learn(learn);
    config.mutable_ranker()->set_scorer(ranker);
    const Status status = CheckScorerStream(config);
    EXPECT_TRUE(status.ok() || status.code == Code::kInvalidInput) << status.message;
    return status.message;
  };
  const std::string longest(121, 'p');
  EXPECT_EQ(error_of(longest, true, "live"), "");
  EXPECT_THAT(error_of(longest + "p", true, "none"), HasSubstr("policy.name"));
  EXPECT_THAT(error_of(longest + "p", false, "live"), HasSubstr("policy.name"));
  EXPECT_EQ(error_of(longest + "p", false, "none"), "");
  EXPECT_THAT(error_of("feed.scorer", false, "none"), HasSubstr("policy.name must not end in .scorer"));
}

TEST(CheckScorerStreamTest, AGateThatNothingCouldPassIsRefused) {
  v1::Config config = test::SmallScorerConfig({"scorer.gate_min_impressions=61"});
  EXPECT_THAT(CheckScorerStream(config).message, testing::AllOf(HasSubstr("scorer.gate_min_impressions"), HasSubstr("scorer.gate_impressions")));
  config.mutable_scorer()->set_gate_impressions(61);
  EXPECT_THAT(CheckScorerStream(config), IsOk());
  config.mutable_learner()->set_holdout_share(0);
  EXPECT_THAT(CheckScorerStream(config).message, testing::AllOf(HasSubstr("scorer.learn"), HasSubstr("learner.holdout_share")));
  config.mutable_scorer()->set_learn(false);
  EXPECT_THAT(CheckScorerStream(config), IsOk());
}

TEST(ProgressiveWindowTest, ItsFiguresAreThoseOfTheImpressionsOneByOne) {
  Random random(3, "scores", 0);
  ScorerRows rows;
  rows.tasks = 2;
  std::vector<float> scores;
  ProgressiveWindow window(2);
  for (std::uint32_t i = 0; i < 2'000; ++i) {
    for (const double base : {0.5, 0.02}) {
      const double p = base * random.NextUniform(0.2, 1.8);
      scores.push_back(static_cast<float>(p));
      rows.labels.push_back(random.NextUniform() < p ? 1.0F : 0.0F);
    }
    rows.session.push_back(i);
  }
  for (std::size_t i = 0; i < 4'000; i += 40) window.Add(std::span(rows.labels).subspan(i, 40), std::span(scores).subspan(i, 40));
  const auto exact = JudgeScores(rows, 0, 2'000, scores);

  ProgressiveWindow restored(2);
  ASSERT_THAT(restored.Restore(window.Save()), IsOk());

  EXPECT_EQ(restored.impressions(), 2'000U);
  for (std::size_t k = 0; k < 2; ++k) {
    EXPECT_NEAR(restored.LogLoss(k), exact[k].log_loss, 1e-6) << k;
    EXPECT_NEAR(restored.Auc(k), exact[k].auc, 0.002) << k;
  }
  v1::ScorerWindow broken = window.Save();
  broken.mutable_tasks(1)->mutable_positives()->RemoveLast();
  EXPECT_EQ(restored.Restore(broken).code, Code::kCorrupt);
}

// The same course with nothing but models, critics and counts: rows in order, batches of 32, the next row of a session by search.
TEST_F(ScorerStreamTest, ItsWeightsAreThoseOfTheSameCourseInPlainLoops) {
  const v1::Config config = test::SmallScorerConfig({"scorer.weights=linear", "scorer.lambda=2"});
  const auto sessions = SessionsOf(config, 160);
  const auto stream = Create(config);
  ASSERT_THAT(TakeAll(*stream, sessions), IsOk());
  ASSERT_OK_AND_ASSIGN(const PolicyVersion version, VersionOf(*stream, config));
  ASSERT_EQ(version.manifest.scorer().lineage().phase(), "weighted training");

  const auto fields = ScorerFields::Create(config).value();
  const auto outcomes = Outcomes::Create(config, fields).value();
  InputStatistics inputs(fields.shape(), 2);
  const auto plain = CreateScorerModel(config, fields.shape(), 2).value();
  std::unique_ptr<ScorerModel> weighted;
  std::unique_ptr<ScorerCritics> critics;
  ScorerRows rows = fields.NoRows();
  std::vector<float> numbers;
  std::vector<long> next;  // -1: the session ends; -2: nobody knows; else a row.
  std::vector<bool> trains;
  std::vector<std::size_t> batch;
  std::size_t unlearned = 0, learned = 0, learned_by_critics = 0, step = 0;
  for (const v1::Trajectory& session : sessions) {
    if (IsKept(session) || !session.stub_reason().empty()) continue;
    const std::size_t first = rows.size();
    const auto append = [&](const v1::Step& one, int j, bool known) {
      const v1::Exposure& shown = one.exposure();
      EXPECT_THAT(fields.Append(ViewOf(shown.user_features()), ViewOf(shown.context_features()), ViewOf(shown.items(j).item_features()),
                                session.user_id(), shown.items(j).item_id(), &rows), IsOk());
      rows.session.push_back(0);
      outcomes.Append(known ? one.rewards(j) : v1::RewardComponents(), &rows.labels);
      trains.push_back(known);
      next.push_back(static_cast<long>(rows.size()));
      inputs.Numbers(rows, rows.size() - 1, &numbers);
    };
    const int steps = session.steps_size() - (session.end() == v1::FLUSHED ? 1 : 0);
    for (int t = 0; t < steps; ++t)
      for (int j = 0; j < session.steps(t).exposure().items_size(); ++j) append(session.steps(t), j, true);
    if (rows.size() == first) continue;
    const std::size_t end = rows.size();
    next.back() = session.end() == v1::TERMINATED ? -1 : -2;
    if (session.has_next_step()) {
      next.back() = static_cast<long>(end);
      append(session.next_step(), 0, false);
    }
    for (std::size_t row = first; row < end; ++row) {
      inputs.CountInput(rows, row, std::span(numbers).subspan(row * inputs.numbers(), inputs.numbers()));
      inputs.CountOutcome(rows, row);
    }
    for (; unlearned < rows.size(); ++unlearned) {
      if (!trains[unlearned]) continue;
      batch.push_back(unlearned);
      if (batch.size() < 32) continue;
      if (!critics && learned >= 100) critics = CreateScorerCritics(config, fields.shape(), 2).value();
      if (!weighted && learned_by_critics >= 100) {
        weighted = CreateScorerModel(config, fields.shape(), 2).value();
        ASSERT_THAT(weighted->Restore(plain->Save()), IsOk());
      }
      CriticBatch of_critics;
      std::vector<std::size_t> at, following;
      for (const std::size_t row : batch) {
        if (next[row] == -2) continue;
        at.push_back(row);
        following.push_back(next[row] == -1 ? row : static_cast<std::size_t>(next[row]));
        of_critics.terminated.push_back(next[row] == -1 ? 1.0F : 0.0F);
      }
      of_critics.at = inputs.Gather(rows, at, numbers);
      of_critics.next = inputs.Gather(rows, following, numbers);
      of_critics.action = plain->Predict(of_critics.at).value();
      of_critics.next_action = plain->Predict(of_critics.next).value();
      for (std::size_t i = 0; i < of_critics.action.size(); ++i) {
        const float p = of_critics.action[i];
        of_critics.reward.push_back(std::log(of_critics.at.labels[i] == 1 ? p : 1 - p));
      }
      ScorerBatch one = inputs.Gather(rows, batch, numbers);
      ASSERT_THAT(plain->Step(one, step), IsOk());
      if (critics) {
        ASSERT_THAT(critics->Step(of_critics), IsOk());
        learned_by_critics += at.size();
      }
      if (weighted) {
        const auto values = critics->Values(one, weighted->Predict(one).value()).value();
        for (std::size_t i = 0; i < values.size(); ++i) one.weights[i] = 1 - 2 * values[i];
        ASSERT_THAT(weighted->Step(one, step), IsOk());
      }
      learned += 32;
      ++step;
      batch.clear();
    }
  }
  ASSERT_GT(step, 12U);
  TensorMap expected = weighted->Weights();
  inputs.Export(&expected);
  EXPECT_EQ(version.weights, EncodeWeights(expected));
}

TEST_F(ScorerStreamTest, ConstantWeightsArePlainTrainingAndOthersAreNot) {
  const auto weights_of = [&](const std::string& weights) {
    const v1::Config config = test::SmallScorerConfig({"scorer.weights=" + weights});
    const auto stream = Create(config);
    EXPECT_THAT(TakeAll(*stream, SessionsOf(config, 160)), IsOk());
    return VersionOf(*stream, config).value().weights;
  };
  const std::string plain = weights_of("none");
  EXPECT_EQ(weights_of("constant"), plain);
  EXPECT_NE(weights_of("linear"), plain);
  EXPECT_NE(weights_of("direct"), plain);
}

TEST_F(ScorerStreamTest, HeldBackUsersJudgeAndNeverTrain) {
  const v1::Config config = test::SmallScorerConfig({});
  auto sessions = SessionsOf(config, 160);
  const auto stream = Create(config), other = Create(config);
  ASSERT_THAT(TakeAll(*stream, sessions), IsOk());
  for (v1::Trajectory& session : sessions) {
    for (v1::Step& step : *session.mutable_steps())
      for (auto& rewards : *step.mutable_rewards())
        if (IsKept(session)) rewards.set_watch_ms(rewards.watch_ms() > 10'000 ? 0 : 40'000);
  }
  ASSERT_THAT(TakeAll(*other, sessions), IsOk());

  ASSERT_OK_AND_ASSIGN(const PolicyVersion made, VersionOf(*stream, config));
  ASSERT_OK_AND_ASSIGN(const PolicyVersion judged_otherwise, VersionOf(*other, config));

  EXPECT_GT(made.manifest.metrics().at("held_back"), 30);
  EXPECT_EQ(made.weights, judged_otherwise.weights);
  const double loss = made.manifest.gate().figures().at("log_loss");
  EXPECT_GT(judged_otherwise.manifest.gate().figures().at("log_loss"), loss);
  EXPECT_EQ(made.manifest.metrics().at("plain.log_loss.click"), judged_otherwise.manifest.metrics().at("plain.log_loss.click"));
}

TEST_F(ScorerStreamTest, ItLearnsAndTheGateLetsItPass) {
  const v1::Config config = test::SmallScorerConfig({"scorer.gate_min_impressions=50", "scorer.weights=linear"});
  const auto stream = Create(config);
  ASSERT_THAT(TakeAll(*stream, SessionsOf(config, 1'200)), IsOk());
  ASSERT_OK_AND_ASSIGN(const PolicyVersion made, VersionOf(*stream, config));
  ASSERT_OK_AND_ASSIGN(const auto scorer, Scorer::Load(made));

  const auto& figures = made.manifest.gate().figures();
  EXPECT_TRUE(made.manifest.gate().passed()) << made.manifest.gate().DebugString();
  EXPECT_LT(figures.at("log_loss"), figures.at("log_loss_constant"));
  EXPECT_EQ(figures.at("impressions"), 60);
  EXPECT_GT(made.manifest.metrics().at("plain.auc.click"), 0.7);
  EXPECT_GT(made.manifest.metrics().at("weighted.auc.click"), 0.7);
  EXPECT_EQ(made.manifest.version(), 1U);
  EXPECT_EQ(made.manifest.policy(), config.policy().name() + ".scorer");
}

TEST_F(ScorerStreamTest, AVersionThatHasBecomeWorseIsRefusedAndTheOneBeforeStaysTheMeasure) {
  const v1::Config config = test::SmallScorerConfig({"scorer.gate_tolerance=0.01"});
  auto sessions = SessionsOf(config, 1'200);
  const auto stream = Create(config);
  ASSERT_THAT(TakeAll(*stream, sessions), IsOk());
  ASSERT_OK_AND_ASSIGN(const PolicyVersion good, VersionOf(*stream, config));
  ASSERT_TRUE(good.manifest.gate().passed());

  // Those who train report the opposite from now on; nobody who is held back does.
  std::erase_if(sessions, IsKept);
  for (v1::Trajectory& session : sessions) {
    for (v1::Step& step : *session.mutable_steps())
      for (auto& rewards : *step.mutable_rewards()) rewards.set_watch_ms(rewards.watch_ms() > 10'000 ? 0 : 40'000);
  }
  ASSERT_THAT(TakeAll(*stream, sessions), IsOk());
  ASSERT_OK_AND_ASSIGN(const PolicyVersion bad, VersionOf(*stream, config));
  ASSERT_OK_AND_ASSIGN(const PolicyVersion next, VersionOf(*stream, config));

  EXPECT_FALSE(bad.manifest.gate().passed());
  EXPECT_THAT(bad.manifest.gate().reasons(), testing::Contains(HasSubstr("gate_tolerance")));
  EXPECT_EQ(next.manifest.lineage().parent(), 1U);
  EXPECT_EQ(next.manifest.gate().figures().at("log_loss_before"), bad.manifest.gate().figures().at("log_loss_before"));
  EXPECT_EQ(stream->progress().versions, 3U);
  EXPECT_EQ(stream->progress().versions_accepted, 1U);
}

TEST_F(ScorerStreamTest, WithoutItsStateItGoesOnFromANumberAndMustBeNoWorse) {
  const v1::Config config = test::SmallScorerConfig({"scorer.gate_tolerance=0.01"});
  const auto sessions = SessionsOf(config, 1'200);
  const auto stream = Create(config);
  ASSERT_THAT(TakeAll(*stream, sessions), IsOk());
  ASSERT_OK_AND_ASSIGN(PolicyVersion good, VersionOf(*stream, config));
  good.manifest.set_version(7);

  const auto newcomer = Create(config);
  ASSERT_THAT(newcomer->Adopt(/*newest=*/9, &good), IsOk());
  ASSERT_THAT(TakeAll(*newcomer, {sessions.begin(), sessions.begin() + 100}), IsOk());
  ASSERT_OK_AND_ASSIGN(const PolicyVersion first, VersionOf(*newcomer, config));
  ASSERT_THAT(TakeAll(*newcomer, sessions), IsOk());
  ASSERT_OK_AND_ASSIGN(const PolicyVersion second, VersionOf(*newcomer, config));

  EXPECT_EQ(first.manifest.version(), 10U);
  EXPECT_EQ(first.manifest.metrics().at(kScorerStartedFrom), 9);
  EXPECT_EQ(first.manifest.metrics().at(kScorerMeasuredFrom), 7);
  EXPECT_FALSE(first.manifest.gate().passed()) << "it knows little yet";
  EXPECT_EQ(first.manifest.lineage().parent(), 7U);
  EXPECT_GT(second.manifest.gate().figures().at("log_loss_before"), 0);
  PolicyVersion of_policy = good;
  of_policy.manifest.clear_scorer();
  EXPECT_EQ(Create(config)->Adopt(7, &of_policy).code, Code::kInvalidInput);

  // Nothing before it has passed: it has numbers behind theirs alone.
  const auto unmeasured = Create(config);
  ASSERT_THAT(unmeasured->Adopt(9, nullptr), IsOk());
  ASSERT_THAT(TakeAll(*unmeasured, sessions), IsOk());
  ASSERT_OK_AND_ASSIGN(const PolicyVersion alone, VersionOf(*unmeasured, config));
  EXPECT_EQ(alone.manifest.version(), 10U);
  EXPECT_FALSE(alone.manifest.metrics().contains(kScorerMeasuredFrom));
  EXPECT_FALSE(alone.manifest.gate().figures().contains("log_loss_before"));
  EXPECT_TRUE(alone.manifest.gate().passed());
}

TEST_F(ScorerStreamTest, VersionsGoOnComingWhenTheyAreAskedForMoreSeldomOrMoreOften) {
  const test::TempDir dir;
  const v1::Config often = test::SmallScorerConfig({"scorer.version_every_steps=2"});
  const auto sessions = SessionsOf(often, 400);
  const auto stream = Create(often);
  for (const v1::Trajectory& session : sessions) {
    ASSERT_THAT(stream->Take(session, IsKept(session)), IsOk());
    if (!stream->version_due()) continue;
    ASSERT_TRUE(VersionOf(*stream, often));
  }
  const std::uint64_t before = stream->progress().steps;
  ASSERT_GT(before, 20U);
  ASSERT_OK_AND_ASSIGN(const v1::ScorerState state, stream->Save(dir.path()));

  for (const std::uint64_t every : {5U, 1U}) {
    const v1::Config other = test::SmallScorerConfig({"scorer.version_every_steps=" + std::to_string(every)});
    const auto changed = Create(other);
    ASSERT_THAT(changed->Restore(dir.path(), state), IsOk());
    EXPECT_FALSE(changed->version_due());
    for (auto session = sessions.begin(); !changed->version_due(); ++session) {
      ASSERT_NE(session, sessions.end());
      ASSERT_THAT(changed->Take(*session, IsKept(*session)), IsOk());
    }
    EXPECT_EQ(changed->progress().steps, (before / every + 1) * every);
  }
}

TEST_F(ScorerStreamTest, WhatAValidPlayIsMustStayWhatItWasWhereATaskPredictsIt) {
  const test::TempDir dir;
  const auto continued_with = [&](const std::string& outcomes, std::int64_t valid_watch_ms) {
    v1::Config config = test::SmallScorerConfig({"scorer.outcomes=" + outcomes});
    const auto state = Create(config)->Save(dir.path()).value();
    config.mutable_rewards()->set_valid_watch_ms(valid_watch_ms);
    return Create(config)->Restore(dir.path(), state);
  };
  const std::int64_t as_it_was = test::SmallScorerConfig({}).rewards().valid_watch_ms();
  EXPECT_THAT(continued_with("click=valid_play", as_it_was), IsOk());
  const Status other = continued_with("click=valid_play", as_it_was + 1);
  EXPECT_EQ(other.code, Code::kInvalidInput);
  EXPECT_THAT(other.message, HasSubstr("rewards.valid_watch_ms"));
  EXPECT_THAT(continued_with("valid=like", as_it_was + 1), IsOk());
}

TEST_F(ScorerStreamTest, WithoutEnoughHeldBackImpressionsNothingVouchesForAVersion) {
  const v1::Config config = test::SmallScorerConfig({"scorer.gate_min_impressions=61"});
  const auto stream = Create(config);
  ASSERT_THAT(TakeAll(*stream, SessionsOf(config, 400)), IsOk());
  ASSERT_OK_AND_ASSIGN(const PolicyVersion made, VersionOf(*stream, config));
  EXPECT_FALSE(made.manifest.gate().passed()) << "scorer.gate_impressions is 60";
  EXPECT_THAT(made.manifest.gate().reasons(), ElementsAre(HasSubstr("gate_min_impressions")));
}

TEST_F(ScorerStreamTest, WhatCannotBeReadIsLeftOutAndCounted) {
  const v1::Config config = test::SmallScorerConfig({});
  auto sessions = SessionsOf(config, 4);
  std::erase_if(sessions, [](const v1::Trajectory& session) { return session.steps().empty(); });
  v1::Step& step = *sessions[0].mutable_steps(0);
  sessions[0].set_end(v1::TERMINATED);
  const auto taken = [&](const char* reason) {
    const auto stream = Create(config);
    EXPECT_THAT(stream->Take(sessions[0], false), IsOk());
    const auto left_out = stream->progress().left_out;
    const auto found = left_out.find(reason);
    return found == left_out.end() ? 0U : found->second;
  };
  const auto items = static_cast<std::uint64_t>(step.exposure().items_size());
  const v1::Step whole = step;
  step.mutable_exposure()->set_schema_digest("another");
  EXPECT_EQ(taken("schema"), items);
  step = whole;
  step.mutable_rewards()->RemoveLast();
  EXPECT_EQ(taken("rewards"), items);
  step = whole;
  step.mutable_exposure()->mutable_items(0)->mutable_item_features()->set_dense(0, 1e20F);
  EXPECT_EQ(taken("feature_magnitude"), items);
  step = whole;
  step.mutable_exposure()->mutable_items(0)->mutable_item_features()->add_dense(1);
  EXPECT_EQ(taken("features"), 1U);
}

TEST(StreamRowsTest, TheyComeBackAsTheyWereAndContradictionsAreCorrupt) {
  const auto fields = ScorerFields::Create(test::SmallScorerConfig({})).value();
  StreamRows rows{.rows = fields.NoRows(), .numbers = {}, .follows = {}};
  const std::vector<float> taste{1.5F}, quality{-2.5F};
  for (int i = 0; i < 3; ++i) {
    ASSERT_THAT(fields.Append({taste, {}}, {}, {quality, {}}, "u", "i" + std::to_string(i), &rows.rows), IsOk());
    rows.rows.labels.insert(rows.rows.labels.end(), {0.25F, 1});
    rows.rows.session.push_back(7);
    rows.numbers.insert(rows.numbers.end(), {1, 2, 3});
    rows.follows.push_back(i == 2 ? Follows::kNothing : Follows::kNext);
  }
  rows.DropFront(1);
  constexpr std::size_t kTable = 64 + 16 + 2;  // Rows of the small config's users and items, and of the rare ones of each.
  StreamRows again{.rows = fields.NoRows(), .numbers = {}, .follows = {}};
  ASSERT_THAT(again.Decode(rows.Encode(), 3, kTable), IsOk());
  EXPECT_EQ(again.Encode(), rows.Encode());
  EXPECT_EQ(again.size(), 2U);
  EXPECT_EQ(again.rows.ids, rows.rows.ids);
  EXPECT_EQ(again.follows, rows.follows);
  EXPECT_EQ(again.Decode(rows.Encode(), 4, kTable).code, Code::kCorrupt);
  EXPECT_EQ(again.Decode("\x01\x02", 3, kTable).code, Code::kCorrupt);
  EXPECT_EQ(again.Decode(rows.Encode(), 3, *std::ranges::max_element(rows.rows.ids)).code, Code::kCorrupt);
  rows.follows.back() = Follows::kNext;
  EXPECT_EQ(again.Decode(rows.Encode(), 3, kTable).code, Code::kCorrupt);
}

}  // namespace
}  // namespace fuseline
