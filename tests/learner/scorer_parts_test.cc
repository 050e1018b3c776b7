// Proven of what a scorer is made of, without LibTorch: rows by the schema, rare ids, embeddings whose updates
// touch only a batch's rows (against plain Adam in double precision), figures against numbers by hand.

#include <cmath>
#include <gtest/gtest.h>

#include "fuseline/test_support/matchers.h"
#include "scorer/embedding_table.h"
#include "scorer/input_statistics.h"
#include "scorer_world.h"

namespace fuseline {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(ScorerFieldsTest, ARowHasTheSchemasIdsThenUserAndItem) {
  ASSERT_OK_AND_ASSIGN(const auto fields, ScorerFields::Create(test::ScorerConfig()));
  ScorerRows rows = fields.NoRows();
  const std::vector<float> age{30}, hour{7};
  const std::vector<std::uint64_t> kind{5};

  ASSERT_THAT(fields.Append({age, {}}, {hour, {}}, {{}, kind}, "u", "i", &rows), IsOk());
  ASSERT_THAT(fields.Append({}, {}, {}, "u", "j", &rows), IsOk());

  EXPECT_THAT(fields.shape().buckets(), ElementsAre(4'096, 64, 64));  // Not the schema's 7: a collision of ids costs more than a row.
  EXPECT_THAT(rows.dense, ElementsAre(30, 7, 0, 0));  // User, context; then the defaults.
  ASSERT_EQ(rows.ids.size(), 6U);
  const auto in_field = [&](std::size_t id, std::uint32_t first, std::uint32_t buckets) {
    return rows.ids[id] > first && rows.ids[id] <= first + buckets;  // The first row is the rare ids'.
  };
  EXPECT_TRUE(in_field(0, 0, 4'096) && in_field(1, 4'097, 64) && in_field(2, 4'162, 64));
  EXPECT_EQ(rows.ids[1], rows.ids[4]);
  EXPECT_NE(rows.ids[2], rows.ids[5]);
}

TEST(ScorerFieldsTest, ValuesThatDisagreeWithTheSchemaChangeNothing) {
  ASSERT_OK_AND_ASSIGN(const auto fields, ScorerFields::Create(test::ScorerConfig()));
  ScorerRows rows = fields.NoRows();
  const std::vector<float> age{30, 31}, broken{std::nanf("")};

  EXPECT_EQ(fields.Append({age, {}}, {}, {}, "u", "i", &rows).code, Code::kInvalidInput);
  EXPECT_EQ(fields.Append({broken, {}}, {}, {}, "u", "i", &rows).code, Code::kInvalidInput);

  EXPECT_TRUE(rows.ids.empty() && rows.dense.empty());
}

TEST(ScorerFieldsTest, TasksAreTheSchemas) {
  const auto error_of = [](const std::string& tasks) {
    const auto fields = ScorerFields::Create(test::ScorerConfig({"scorer.tasks=" + tasks}));
    return fields ? std::string("none") : fields.error().message;
  };
  EXPECT_THAT(error_of("click,share"), HasSubstr("share"));
  EXPECT_THAT(error_of("click,click"), HasSubstr("twice"));
  EXPECT_THAT(error_of(""), HasSubstr("no task"));
  EXPECT_EQ(error_of("long_view"), "none");
  for (const char* prior : {"1e-18", "0.0009"}) {
    const auto fields = ScorerFields::Create(test::ScorerConfig({std::string("scorer.rate_prior=") + prior}));
    ASSERT_FALSE(fields.has_value()) << prior;
    EXPECT_THAT(fields.error().message, HasSubstr("scorer.rate_prior"));
  }
}

TEST(InputStatisticsTest, RareIdsShareTheirFieldsFirstRowAndNumbersAreNormalised) {
  ASSERT_OK_AND_ASSIGN(const auto fields, ScorerFields::Create(test::ScorerConfig({"scorer.min_frequency=2", "scorer.user_buckets=4096", "scorer.rate_prior=0"})));
  ScorerRows rows = fields.NoRows();
  const std::vector<std::uint64_t> kind{1};
  for (const float age : {10.0F, 20.0F, 60.0F}) {
    const std::vector<float> ages{age}, hour{5};
    ASSERT_THAT(fields.Append({ages, {}}, {hour, {}}, {{}, kind}, age < 50 ? "often" : "once", "i", &rows), IsOk());
  }
  InputStatistics inputs(fields.shape(), 2);
  test::Count(rows, 0, 3, &inputs);

  const std::vector<std::size_t> which{2, 0};
  const ScorerBatch batch = inputs.Gather(rows, which);

  EXPECT_EQ(batch.ids[0], rows.ids[6]);
  EXPECT_EQ(batch.ids[1], 4'097U);  // "once": the first row of the users' field.
  EXPECT_EQ(batch.ids[4], rows.ids[1]);
  const double deviation = std::sqrt((400.0 + 100.0 + 900.0) / 3);  // Around a mean of 30.
  EXPECT_NEAR(batch.dense[0], 30 / deviation, 1e-6);
  EXPECT_NEAR(batch.dense[2], -20 / deviation, 1e-6);
  EXPECT_EQ(batch.dense[1], 0);  // A column that never varied.
}

TEST(InputStatisticsTest, WhatIsExportedGathersTheSameBatches) {
  ASSERT_OK_AND_ASSIGN(const auto fields, ScorerFields::Create(test::ScorerConfig({"scorer.min_frequency=4"})));
  const ScorerRows rows = test::RandomRows(fields, 60, 1);
  InputStatistics inputs(fields.shape(), 2), other(fields.shape(), 2);
  test::Count(rows, 0, 40, &inputs);
  TensorMap tensors;
  inputs.Export(&tensors);

  ASSERT_THAT(other.Import(tensors), IsOk());

  const std::vector<std::size_t> which{50, 3, 59};
  EXPECT_EQ(inputs.Gather(rows, which).ids, other.Gather(rows, which).ids);
  EXPECT_EQ(inputs.Gather(rows, which).dense, other.Gather(rows, which).dense);
  for (const char* name : {"frequency", "seen", "outcomes", "rates", "normaliser.mean"}) {
    TensorMap damaged = tensors;
    damaged[name].values.pop_back();
    EXPECT_EQ(other.Import(damaged).code, Code::kCorrupt) << name;
    damaged[name].values.push_back(std::nanf(""));  // Of as many values, but one that cannot be.
    EXPECT_EQ(other.Import(damaged).code, Code::kCorrupt) << name;
  }
}

TEST(InputStatisticsTest, ANumberBesideEachIdSaysWhatIsKnownOfItsPast) {
  ASSERT_OK_AND_ASSIGN(const auto fields, ScorerFields::Create(test::ScorerConfig({"scorer.rate_prior=4"})));
  ScorerRows rows = fields.NoRows();
  for (const char* user : {"u", "u", "v", "u"}) ASSERT_THAT(fields.Append({}, {}, {}, user, "i", &rows), IsOk());
  rows.labels = {1, 0, 1, 1, 0, 0.5F, 0, 0};
  InputStatistics inputs(fields.shape(), 2);
  for (std::size_t row = 0; row < 3; ++row) inputs.CountOutcome(rows, row);

  std::vector<float> numbers;
  inputs.Numbers(rows, 3, &numbers);

  // Overall 2 and 1.5 of 3; of the user 2 and 1 of 2; of the item and of the absent kind as overall.
  ASSERT_EQ(numbers.size(), inputs.numbers());
  ASSERT_EQ(numbers.size(), 2 + 3 * 3U);
  const auto logit = [](double p) { return std::log(p / (1 - p)); };
  const double click = 2.5 / 4, view = 2.0 / 4;
  const std::size_t user = 2 + 3, item = 2 + 6;
  EXPECT_NEAR(numbers[user], logit((2 + 4 * click) / 6) - logit(click), 1e-6);
  EXPECT_NEAR(numbers[user + 1], logit((1 + 4 * view) / 6) - logit(view), 1e-6);
  EXPECT_NEAR(numbers[user + 2], 2.0 / 6, 1e-6);
  EXPECT_NEAR(numbers[item], logit((2 + 4 * click) / 7) - logit(click), 1e-6);
  EXPECT_NEAR(numbers[item + 2], 3.0 / 7, 1e-6);
}

TEST(InputStatisticsTest, WhatIsSavedGoesOnWithTheSameBits) {
  ASSERT_OK_AND_ASSIGN(const auto fields, ScorerFields::Create(test::ScorerConfig()));
  const ScorerRows rows = test::RandomRows(fields, 60, 1);
  InputStatistics inputs(fields.shape(), 2), other(fields.shape(), 2);
  test::Count(rows, 0, 30, &inputs);
  TensorMap tensors;
  const v1::ScorerInputState state = inputs.Save(&tensors);

  ASSERT_THAT(other.Restore(state, tensors), IsOk());
  test::Count(rows, 30, 50, &inputs);
  test::Count(rows, 30, 50, &other);

  const std::vector<std::size_t> which{55, 3, 59};
  EXPECT_EQ(inputs.Gather(rows, which).dense, other.Gather(rows, which).dense);
  TensorMap one, two;
  EXPECT_EQ(inputs.Save(&one).SerializeAsString(), other.Save(&two).SerializeAsString());
  EXPECT_EQ(EncodeWeights(one), EncodeWeights(two));
}

TEST(EmbeddingTableTest, AnUpdateIsAdamsOnItsRowsAndTouchesNoOther) {
  EmbeddingTable table(5, 2);
  const std::vector<std::uint32_t> some{0, 1, 3};
  table.Update(some, std::vector<float>{1, -1, 2, 0.5F, -3, 1}, 0.1, 0);
  TensorMap moved, before;
  table.Export("e", false, &moved);
  ASSERT_THAT(table.Import("e", false, moved), IsOk());  // Values without moments.
  table.Export("e", true, &before);
  const std::vector<std::uint32_t> wanted{3, 1, 3};
  const auto distinct = table.Find(wanted);
  EXPECT_THAT(distinct.rows, ElementsAre(1, 3));
  EXPECT_THAT(distinct.place, ElementsAre(1, 0, 1));

  // Two steps on row 3, one on row 1: each row's moments are corrected by its own count.
  table.Update(distinct.rows, std::vector<float>{0.5F, -2, 0.1F, 0.3F}, 0.01, 0.5);
  table.Update(std::vector<std::uint32_t>{3}, std::vector<float>{-0.2F, 0.3F}, 0.01, 0.5);

  TensorMap after;
  table.Export("e", true, &after);
  const auto adam = [](double value, const std::vector<double>& gradients) {
    double first = 0, second = 0, count = 0;
    for (const double g : gradients) {
      count += 1;
      first = 0.9 * first + 0.1 * g;
      second = 0.999 * second + 0.001 * g * g;
      const double step = first / (1 - std::pow(0.9, count)), size = std::sqrt(second / (1 - std::pow(0.999, count))) + 1e-8;
      value = value * (1 - 0.01 * 0.5) - 0.01 * step / size;
    }
    return value;
  };
  const auto& was = before["e"].values;
  const auto& is = after["e"].values;
  EXPECT_THAT(after["e.rows"].values, ElementsAre(0, 1, 3));
  EXPECT_NEAR(is[2], adam(was[2], {0.5}), 1e-6);
  EXPECT_NEAR(is[3], adam(was[3], {-2}), 1e-6);
  EXPECT_NEAR(is[4], adam(was[4], {0.1, -0.2}), 1e-6);
  EXPECT_NEAR(is[5], adam(was[5], {0.3, 0.3}), 1e-6);
  for (const std::size_t untouched : {0U, 1U}) {
    EXPECT_EQ(is[untouched], was[untouched]);
    EXPECT_EQ(after["e.first"].values[untouched], 0);
    EXPECT_EQ(after["e.second"].values[untouched], 0);
  }
  EXPECT_THAT(after["e.updates"].values, ElementsAre(0, 1, 2));
  std::vector<float> never(2, 7);
  table.Read(std::vector<std::uint32_t>{4}, never.data());
  EXPECT_THAT(never, ElementsAre(0, 0));
}

TEST(EmbeddingTableTest, WhatIsImportedGoesOnWithTheSameBits) {
  EmbeddingTable table(4, 3), other(4, 3);
  const std::vector<std::uint32_t> rows{0, 2};
  table.Update(rows, std::vector<float>(6, 0.1F), 0.01, 0);
  TensorMap tensors, one, two;
  table.Export("e", true, &tensors);

  ASSERT_THAT(other.Import("e", true, tensors), IsOk());
  for (EmbeddingTable* each : {&table, &other}) each->Update(rows, std::vector<float>(6, -0.3F), 0.01, 0.1);

  table.Export("e", true, &one);
  other.Export("e", true, &two);
  EXPECT_EQ(EncodeWeights(one), EncodeWeights(two));
  for (const char* name : {"e", "e.rows", "e.first", "e.second", "e.updates"}) {
    TensorMap damaged = tensors;
    damaged[name].values.pop_back();
    EXPECT_EQ(other.Import("e", true, damaged).code, Code::kCorrupt) << name;
  }
  for (const std::vector<float>& numbers : {std::vector<float>{2, 0}, {0, 0}, {0, 4}, {0, 1.5F}, {-1, 2}}) {
    TensorMap damaged = tensors;
    damaged["e.rows"].values = numbers;
    EXPECT_EQ(other.Import("e", true, damaged).code, Code::kCorrupt) << numbers[0] << ' ' << numbers[1];
  }
}

TEST(ScorerFiguresTest, AreThoseByHand) {
  ScorerRows rows;
  rows.tasks = 1;
  rows.labels = {0, 1, 0, 1, 1};  // The first row is not judged.
  rows.session = {9, 1, 1, 1, 2};
  const std::vector<float> scores{0.8F, 0.4F, 0.4F, 0.9F};

  const TaskFigures figures = JudgeScores(rows, 1, 5, scores)[0];

  const double a = -std::log(0.8), b = -std::log(0.6), c = -std::log(0.4), d = -std::log(0.9);
  EXPECT_EQ(figures.positives, 3U);
  EXPECT_NEAR(figures.auc, (1 + 0.5 + 1) / 3, 1e-12);  // The tie counts one half.
  EXPECT_NEAR(figures.log_loss, (a + b + c + d) / 4, 1e-6);
  EXPECT_NEAR(figures.session_log_loss, ((a + b + c) / 3 + d) / 2, 1e-6);
}

TEST(ScorerFiguresTest, OfOutcomesBetweenTheAreaIsTheShareOfPairsInOrder) {
  ScorerRows rows;
  rows.tasks = 1;
  rows.labels = {0.2F, 0.9F, 0.2F, 0, 0.5F};
  rows.session = {0, 1, 2, 3, 4};
  const std::vector<float> scores{0.3F, 0.3F, 0.6F, 0.1F, 0.4F};

  const TaskFigures figures = JudgeScores(rows, 0, 5, scores)[0];

  double in_order = 0, pairs = 0;
  for (std::size_t i = 0; i < 5; ++i) {
    for (std::size_t j = 0; j < 5; ++j) {
      if (rows.labels[i] >= rows.labels[j]) continue;
      pairs += 1;
      in_order += scores[i] < scores[j] ? 1 : scores[i] == scores[j] ? 0.5 : 0;
    }
  }
  EXPECT_NEAR(figures.auc, in_order / pairs, 1e-12);
  EXPECT_NEAR(figures.log_loss * 5, -(0.2 * std::log(0.3) + 0.8 * std::log(0.7) + 0.9 * std::log(0.3) + 0.1 * std::log(0.7) + 0.2 * std::log(0.6) +
                                      0.8 * std::log(0.4) + std::log(0.9) + 0.5 * std::log(0.4) + 0.5 * std::log(0.6)), 1e-5);
}

TEST(ScorerFiguresTest, AScoreThatIsNoNumberIsInfinitelyWrong) {
  ScorerRows rows;
  rows.tasks = 1;
  rows.labels = {1, 0, 1};
  rows.session = {0, 0, 1};
  const TaskFigures figures = JudgeScores(rows, 0, 3, std::vector<float>{0.5F, std::nanf(""), 0.2F})[0];
  EXPECT_EQ(figures.auc, -1);
  EXPECT_TRUE(std::isinf(figures.log_loss) && std::isinf(figures.session_log_loss));
}

TEST(ScorerFiguresTest, OneClassHasNoArea) {
  ScorerRows rows;
  rows.tasks = 1;
  rows.labels = {1, 1};
  rows.session = {0, 0};
  EXPECT_EQ(JudgeScores(rows, 0, 2, std::vector<float>{0.1F, 1.0F})[0].auc, -1);
}

}  // namespace
}  // namespace fuseline
