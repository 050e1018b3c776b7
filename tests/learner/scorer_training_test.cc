// Proven of a scorer's training: one seed gives the same bytes, however often it was broken off; what it makes
// scores alike when loaded; its phases come in order, and their numbers are those by hand.

#include <ATen/ops/tensor.h>

#include <cmath>
#include <functional>
#include <map>
#include <set>
#include <gtest/gtest.h>

#include "fuseline/core/digest.h"
#include "fuseline/test_support/matchers.h"
#include "scorer/input_statistics.h"
#include "scorer/scorer_model.h"
#include "scorer_world.h"
#include "torch/scorer/critic_loss.h"

namespace fuseline {
namespace {

using ::testing::HasSubstr;

constexpr ScorerSplit kSplit{.train_end = 300, .validation_end = 360};

// A training whose settings, fields and rows live with it.
struct Course {
  explicit Course(const std::vector<std::string>& sets, std::uint64_t rows_seed = 1)
      : config(test::ScorerConfig(With(sets))),
        fields(ScorerFields::Create(config).value()),
        rows(test::RandomRows(fields, 400, rows_seed)),
        training(ScorerTraining::Create(config, fields, rows, kSplit).value()) {}
  static std::vector<std::string> With(std::vector<std::string> sets) {
    sets.insert(sets.begin(), {"scorer.epochs=3", "scorer.dropout=0.2", "scorer.rate=0.01", "scorer.embedding_rate=0.01",
                               "scorer.critic_epochs=2", "scorer.critic_settled=0"});
    return sets;
  }
  Status Finish() {
    while (!training->done()) FUSELINE_RETURN_IF_ERROR(training->Advance());
    return OkStatus();
  }

  const v1::Config config;
  const ScorerFields fields;
  const ScorerRows rows;
  const std::unique_ptr<ScorerTraining> training;
};

TEST(ScorerTrainingTest, BrokenOffAndGoneOnWithItMakesTheSameBytes) {
  for (const std::string weights : {"none", "linear"}) {
    Course whole({"scorer.weights=" + weights});
    ASSERT_THAT(whole.Finish(), IsOk());
    auto pieces = std::make_unique<Course>(std::vector<std::string>{"scorer.weights=" + weights});
    for (std::size_t step = 0; !pieces->training->done(); ++step) {
      ASSERT_THAT(pieces->training->Advance(), IsOk());
      if (step % 7 != 3) continue;
      const v1::ScorerCheckpoint checkpoint = pieces->training->Save();
      pieces = std::make_unique<Course>(std::vector<std::string>{"scorer.weights=" + weights});
      ASSERT_THAT(pieces->training->Restore(checkpoint), IsOk());
    }
    const auto one = whole.training->MakeVersion(), other = pieces->training->MakeVersion();
    EXPECT_EQ(one.weights, other.weights) << weights;
    EXPECT_EQ(one.manifest.SerializeAsString(), other.manifest.SerializeAsString()) << weights;
    EXPECT_EQ(one.manifest.weights_sha256(), Sha256Of(one.weights));
  }
}

TEST(ScorerTrainingTest, ItLearnsWhatIsThereToLearn) {
  Course run({"scorer.epochs=20"});
  ASSERT_THAT(run.Finish(), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto scores, run.training->Score(360, 400));
  const auto figures = JudgeScores(run.rows, 360, 400, scores);
  EXPECT_GT(figures[0].auc, 0.75);
  EXPECT_GT(figures[1].auc, 0.6);
}

TEST(ScorerTrainingTest, ALoadedVersionScoresAsTheTrainingDid) {
  Course run({});
  ASSERT_THAT(run.Finish(), IsOk());
  auto version = run.training->MakeVersion();
  ASSERT_OK_AND_ASSIGN(const auto scorer, Scorer::Load(version));
  ASSERT_OK_AND_ASSIGN(const auto expected, run.training->Score(360, 400));
  ASSERT_OK_AND_ASSIGN(const auto scores, scorer->Score(run.rows, 360, 400));
  EXPECT_EQ(scores, expected);

  const auto refused = [&](const std::function<void(PolicyVersion&)>& change) {
    PolicyVersion changed = version;
    change(changed);
    EXPECT_EQ(Scorer::Load(changed).error().code, Code::kCorrupt);
  };
  refused([](PolicyVersion& of) { of.weights.back() ^= 1; });
  refused([](PolicyVersion& of) { of.manifest.mutable_scorer()->mutable_shape()->set_buckets(0, 4'100); });
  refused([](PolicyVersion& of) { of.manifest.mutable_scorer()->mutable_shape()->set_min_frequency(9); });
  refused([](PolicyVersion& of) {
    v1::Config settings;
    ASSERT_TRUE(settings.ParseFromString(of.manifest.lineage().settings()));
    settings.mutable_scorer()->set_user_buckets(65);
    of.manifest.mutable_lineage()->set_settings(settings.SerializeAsString());
  });
}

TEST(ScorerTrainingTest, ACheckpointOfOtherSettingsOrRowsIsRefused) {
  Course run({});
  ASSERT_THAT(run.training->Advance(), IsOk());
  const v1::ScorerCheckpoint checkpoint = run.training->Save();
  EXPECT_EQ(Course({"scorer.rate=0.02"}).training->Restore(checkpoint).code, Code::kConflict);
  EXPECT_EQ(Course({}, 2).training->Restore(checkpoint).code, Code::kConflict);
  v1::ScorerCheckpoint broken = checkpoint;
  broken.set_model("nothing");
  EXPECT_EQ(Course({}).training->Restore(broken).code, Code::kCorrupt);
}

TEST(ScorerTrainingTest, SettingsOfTheStreamAreNotItsOwnButWhatLabelsMeanIs) {
  Course run({});
  ASSERT_THAT(run.training->Advance(), IsOk());
  const v1::ScorerCheckpoint checkpoint = run.training->Save();
  Course streams({"scorer.learn=true", "scorer.pretraining_impressions=7", "scorer.critic_impressions=7", "scorer.version_every_steps=7",
                  "scorer.gate_impressions=70", "scorer.gate_min_impressions=7", "scorer.gate_tolerance=0.7",
                  "scorer.checkpoint_every_steps=7", "scorer.progressive_batch=7"});
  EXPECT_THAT(streams.training->Restore(checkpoint), IsOk());
  EXPECT_EQ(Course({"scorer.outcomes=click=like"}).training->Restore(checkpoint).code, Code::kConflict);
}

TEST(ScorerTrainingTest, AnUnknownBackboneIsRefusedByNamingAll) {
  const v1::Config config = test::ScorerConfig({"scorer.backbone=towers"});
  ASSERT_OK_AND_ASSIGN(const auto fields, ScorerFields::Create(config));
  const ScorerRows rows = test::RandomRows(fields, 400, 1);
  const auto training = ScorerTraining::Create(config, fields, rows, kSplit);
  ASSERT_FALSE(training);
  EXPECT_THAT(training.error().message, HasSubstr("esmm, mmoe, ple, shared_bottom, single_task"));
}

TEST(ScorerTrainingTest, ConstantWeightsFromFreshWeightsAreThePretrainingAgain) {
  Course plain({}), constant({"scorer.weights=constant"}), linear({"scorer.weights=linear"}), direct({"scorer.weights=direct"}),
      nothing({"scorer.weights=linear", "scorer.lambda=0"});
  for (Course* run : {&plain, &constant, &linear, &direct, &nothing}) ASSERT_THAT(run->Finish(), IsOk());
  const auto digest = [](const Course& run) { return ToHex(run.training->MakeVersion().manifest.weights_sha256()); };
  EXPECT_EQ(digest(plain), digest(constant));
  EXPECT_EQ(digest(plain), digest(nothing));
  EXPECT_NE(digest(plain), digest(linear));
  EXPECT_NE(digest(linear), digest(direct));
}

TEST(ScorerTrainingTest, ItsPhasesComeInOrder) {
  Course run({"scorer.weights=linear"});
  std::vector<ScorerPhase> phases;
  while (!run.training->done()) {
    const ScorerPhase phase = run.training->position().phase;
    if (phases.empty() || phases.back() != phase) phases.push_back(phase);
    ASSERT_THAT(run.training->Advance(), IsOk());
  }
  EXPECT_EQ(phases, (std::vector{ScorerPhase::kPretraining, ScorerPhase::kCritics, ScorerPhase::kWeighted}));
}

// Of 300 rows those whose session may have gone on, and of which no later row is there, are no batch of the critics.
TEST(ScorerTrainingTest, CriticsLeaveOutWhatASessionWasCutOffBehind) {
  const auto rows_with = [](const auto& goes_on) {
    Course run({"scorer.weights=linear"});
    ScorerRows rows = run.rows;
    std::map<std::uint32_t, std::size_t> last;
    for (std::size_t row = 0; row < kSplit.validation_end; ++row) last[rows.session[row]] = row;
    for (std::size_t row = 0; row < rows.size(); ++row) rows.goes_on.push_back(goes_on(last[rows.session[row]] == row) ? 1 : 0);
    return rows;
  };
  struct Outcome {
    std::uint64_t critics_batches = 0;
    std::string weights;
  };
  const auto learn = [](const ScorerRows* rows, std::uint64_t every = 0) {
    Course run({"scorer.weights=linear"});
    const auto create = [&] { return ScorerTraining::Create(run.config, run.fields, rows == nullptr ? run.rows : *rows, kSplit).value(); };
    auto training = create();
    Outcome outcome;
    for (std::uint64_t step = 1; !training->done(); ++step) {
      EXPECT_THAT(training->Advance(), IsOk());
      if (training->position().phase == ScorerPhase::kCritics) outcome.critics_batches = training->position().batches;
      if (every == 0 || step % every != 0) continue;
      const v1::ScorerCheckpoint checkpoint = training->Save();
      training = create();
      EXPECT_THAT(training->Restore(checkpoint), IsOk());
    }
    outcome.weights = training->MakeVersion().weights;
    return outcome;
  };
  const ScorerRows ended = rows_with([](bool) { return false; }), between = rows_with([](bool last) { return !last; }),
                   cut = rows_with([](bool) { return true; });

  const Outcome unmarked = learn(nullptr), one = learn(&cut), pieces = learn(&cut, 3);

  EXPECT_EQ(unmarked.critics_batches, 10U);
  EXPECT_EQ(learn(&ended).weights, unmarked.weights);
  EXPECT_EQ(learn(&between).weights, unmarked.weights) << "a row of theirs is there: it is what follows";
  std::set<std::uint32_t> sessions;
  std::size_t lasts = 0;
  for (std::size_t row = kSplit.validation_end; row-- > 0;) lasts += sessions.insert(cut.session[row]).second && row < kSplit.train_end ? 1 : 0;
  ASSERT_GT(lasts, 32U);
  EXPECT_EQ(one.critics_batches, (kSplit.train_end - lasts + 31) / 32);
  EXPECT_NE(one.weights, unmarked.weights);
  EXPECT_EQ(pieces.weights, one.weights);

  Course run({"scorer.weights=linear"});
  const auto marked = ScorerTraining::Create(run.config, run.fields, cut, kSplit).value();
  EXPECT_EQ(marked->Restore(run.training->Save()).code, Code::kConflict) << "marks are part of the input";
}

TEST(ScorerTrainingTest, LearningGoesOnByStepsFromItsVersion) {
  Course run({});
  ASSERT_THAT(run.Finish(), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto before, run.training->Score(390, 400));
  std::vector<std::size_t> rows;
  for (std::size_t row = 360; row < 390; ++row) rows.push_back(row);
  ASSERT_THAT(run.training->Learn(rows), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto after, run.training->Score(390, 400));
  EXPECT_NE(before, after);
}

TEST(CriticTest, TheTargetIsRewardAndWhatFollows) {
  const at::Tensor reward = at::tensor({-0.5, -1.0, -0.25, -2.0}).view({2, 2}), terminated = at::tensor({0.0, 1.0});
  const at::Tensor next_q = at::tensor({-3.0, -1.0, -7.0, -8.0}).view({2, 2});
  const at::Tensor target = CriticTarget(reward, terminated, next_q, 0.9);
  const double expected[2][2] = {{-0.5 - 2.7, -1.0 - 0.9}, {-0.25, -2.0}};
  for (int n = 0; n < 2; ++n)
    for (int k = 0; k < 2; ++k) EXPECT_NEAR(target[n][k].item<double>(), expected[n][k], 1e-6);
}

// A session of two impressions with rewards a then b: Q of the last is b, of the first a + gamma b. Of each task
// its own.
TEST(CriticTest, CriticsLearnTheDiscountedSumOfTheirSession) {
  const v1::Config config = test::ScorerConfig({"scorer.critic_rate=0.01", "scorer.gamma=0.5"});
  ASSERT_OK_AND_ASSIGN(const auto fields, ScorerFields::Create(config));
  ScorerRows rows = fields.NoRows();
  const std::vector<float> age{1}, hour{2};
  for (const std::uint64_t item : {1U, 2U}) {
    const std::vector<std::uint64_t> kind{item};
    ASSERT_THAT(fields.Append({age, {}}, {hour, {}}, {{}, kind}, "u", "i" + std::to_string(item), &rows), IsOk());
  }
  InputStatistics inputs(fields.shape(), 2);
  test::Count(rows, 0, 2, &inputs);
  const std::vector<std::size_t> both{0, 1}, following{1, 1};
  CriticBatch batch{.at = inputs.Gather(rows, both),
                    .next = inputs.Gather(rows, following),
                    .action = {0.3F, 0.6F, 0.8F, 0.1F},
                    .next_action = {0.8F, 0.1F, 0.8F, 0.1F},
                    .reward = {-1.0F, -0.4F, -2.0F, -0.2F},
                    .terminated = {0, 1}};
  ASSERT_OK_AND_ASSIGN(const auto critics, CreateScorerCritics(config, fields.shape(), 2));
  double td_error = 0;
  for (int step = 0; step < 1'500; ++step) {
    ASSERT_OK_AND_ASSIGN(td_error, critics->Step(batch));
  }

  ASSERT_OK_AND_ASSIGN(const auto values, critics->Values(batch.at, batch.action));

  EXPECT_LT(td_error, 0.02);
  const double expected[] = {-2.0, -0.5, -2.0, -0.2};
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(values[i], expected[i], 0.03) << i;
}

TEST(CriticTest, ValuesAreNeverPositive) {
  const v1::Config config = test::ScorerConfig();
  ASSERT_OK_AND_ASSIGN(const auto fields, ScorerFields::Create(config));
  const ScorerRows rows = test::RandomRows(fields, 50, 1);
  ASSERT_OK_AND_ASSIGN(const auto critics, CreateScorerCritics(config, fields.shape(), 2));
  std::vector<std::size_t> which;
  for (std::size_t row = 0; row < 50; ++row) which.push_back(row);
  ASSERT_OK_AND_ASSIGN(const auto values,
                       critics->Values(InputStatistics(fields.shape(), 2).Gather(rows, which), std::vector<float>(100, 0.5F)));
  for (const float q : values) EXPECT_LE(q, 0);
}

}  // namespace
}  // namespace fuseline
