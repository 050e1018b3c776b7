// Which value lands in which column, and what is refused.
#include "fuseline/fusion/feature_encoding.h"

#include <limits>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/test_support/matchers.h"

namespace fuseline {
namespace {

// Written out of order: the scopes must be gathered. Shared: user dense 2, user id of 3, context dense 1. Item: id of 4, dense 1, two tasks.
v1::FeatureSchema MixedSchema() {
  v1::FeatureSchema schema;
  const auto add = [&](const char* name, v1::FeatureScope scope) -> v1::Feature& {
    v1::Feature& feature = *schema.add_features();
    feature.set_name(name);
    feature.set_scope(scope);
    return feature;
  };
  add("category", v1::ITEM).mutable_categorical()->set_buckets(4);
  v1::Feature& age = add("profile", v1::USER);
  age.mutable_dense()->set_width(2);
  age.mutable_dense()->set_default_value(0.5F);
  add("hour", v1::CONTEXT).mutable_dense()->set_width(1);
  v1::Feature& segment = add("segment", v1::USER);
  segment.mutable_categorical()->set_buckets(3);
  segment.mutable_categorical()->set_default_value(9);
  add("duration", v1::ITEM).mutable_dense()->set_width(1);
  for (const auto& [name, max] : {std::pair{"click", 1.0F}, std::pair{"watch", 600.0F}}) {
    v1::Task& task = *schema.add_tasks();
    task.set_name(name);
    task.set_max(max);
  }
  return schema;
}

// The bucket of `id`, spelled out from the reference of SplitMix64.
std::size_t Bucket(std::uint64_t id, std::uint64_t buckets) {
  std::uint64_t z = id + 0x9e3779b97f4a7c15ULL;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  z = z ^ (z >> 31);
  return z % buckets;
}

TEST(FeatureEncoderTest, WidthsCountDenseEntriesBucketsAndTasks) {
  const FeatureEncoder encoder(MixedSchema());
  EXPECT_EQ(encoder.shared_width(), 6U);
  EXPECT_EQ(encoder.item_width(), 7U);
  EXPECT_EQ(encoder.state_width(), 13U);
  EXPECT_EQ(encoder.task_count(), 2U);
  EXPECT_EQ(encoder.action_width(), 4U);
}

TEST(FeatureEncoderTest, OnlyOneHotColumnsMayNotBeScaled) {
  const std::vector<bool> expected{true, true, false, false, false, true,  // profile, segment, hour
                                   false, false, false, false, true, true, true};  // category, duration, tasks
  EXPECT_EQ(FeatureEncoder(MixedSchema()).scalable_columns(), expected);
}

TEST(FeatureEncoderTest, SharedColumnsAreUserThenContextInTheSchemasOrder) {
  // given
  const FeatureEncoder encoder(MixedSchema());
  const std::vector<float> profile{1.5F, -2.0F};
  const std::vector<std::uint64_t> segment{41};
  const std::vector<float> hour{7.0F};

  // when
  std::vector<float> columns(encoder.shared_width(), -1.0F);
  ASSERT_THAT(encoder.EncodeShared({profile, segment}, {hour, {}}, columns), IsOk());

  // then
  std::vector<float> expected{1.5F, -2.0F, 0.0F, 0.0F, 0.0F, 7.0F};
  expected[2 + Bucket(41, 3)] = 1.0F;
  EXPECT_EQ(columns, expected);
}

TEST(FeatureEncoderTest, ItemColumnsEndWithTheScoresCutToTheirTasksRanges) {
  // given
  const FeatureEncoder encoder(MixedSchema());
  const std::vector<float> duration{30.0F};
  const std::vector<std::uint64_t> category{5};
  const std::vector<float> scores{1.25F, -3.0F};

  // when
  std::vector<float> columns(encoder.item_width(), -1.0F);
  ASSERT_THAT(encoder.EncodeItem({{duration, category}, scores}, columns), IsOk());

  // then
  std::vector<float> expected{0.0F, 0.0F, 0.0F, 0.0F, 30.0F, 1.0F, 0.0F};
  expected[Bucket(5, 4)] = 1.0F;
  EXPECT_EQ(columns, expected);
}

TEST(FeatureEncoderTest, AScopeWithoutValuesTakesTheDefaults) {
  const FeatureEncoder encoder(MixedSchema());
  std::vector<float> columns(encoder.shared_width());
  const std::vector<float> hour{7.0F};
  ASSERT_THAT(encoder.EncodeShared({}, {hour, {}}, columns), IsOk());

  std::vector<float> expected{0.5F, 0.5F, 0.0F, 0.0F, 0.0F, 7.0F};
  expected[2 + Bucket(9, 3)] = 1.0F;
  EXPECT_EQ(columns, expected);
}

TEST(FeatureEncoderTest, WrongNumbersOfValuesAreRefused) {
  const FeatureEncoder encoder(MixedSchema());
  const std::vector<float> one{1.0F};
  const std::vector<float> two{1.0F, 2.0F};
  const std::vector<float> three{1.0F, 2.0F, 3.0F};
  const std::vector<std::uint64_t> id{1};
  std::vector<float> shared(encoder.shared_width());
  std::vector<float> item(encoder.item_width());

  EXPECT_THAT(encoder.EncodeShared({one, id}, {one, {}}, shared), HasCode(Code::kInvalidInput));
  EXPECT_THAT(encoder.EncodeShared({three, id}, {one, {}}, shared), HasCode(Code::kInvalidInput));
  EXPECT_THAT(encoder.EncodeShared({two, {}}, {one, {}}, shared), HasCode(Code::kInvalidInput));
  EXPECT_THAT(encoder.EncodeShared({two, id}, {one, id}, shared), HasCode(Code::kInvalidInput));
  EXPECT_THAT(encoder.EncodeItem({{one, id}, one}, item), HasCode(Code::kInvalidInput));
  EXPECT_THAT(encoder.EncodeItem({{one, id}, {}}, item), HasCode(Code::kInvalidInput));
  EXPECT_THAT(encoder.EncodeItem({{two, id}, two}, item), HasCode(Code::kInvalidInput));
}

TEST(FeatureEncoderTest, ValuesThatAreNotFiniteAreRefused) {
  const FeatureEncoder encoder(MixedSchema());
  const std::vector<std::uint64_t> id{1};
  const std::vector<float> good{1.0F};
  const std::vector<float> scores{0.1F, 0.2F};
  std::vector<float> shared(encoder.shared_width());
  std::vector<float> item(encoder.item_width());
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    const std::vector<float> bad_one{bad};
    const std::vector<float> bad_second{0.0F, bad};
    EXPECT_THAT(encoder.EncodeShared({bad_second, id}, {good, {}}, shared), HasCode(Code::kInvalidInput));
    EXPECT_THAT(encoder.EncodeShared({{}, {}}, {bad_one, {}}, shared), HasCode(Code::kInvalidInput));
    EXPECT_THAT(encoder.EncodeItem({{bad_one, id}, scores}, item), HasCode(Code::kInvalidInput));
    EXPECT_THAT(encoder.EncodeItem({{good, id}, bad_second}, item), HasCode(Code::kInvalidInput));
  }
}

TEST(FeatureEncoderTest, NeighbouringIdsSpreadOverTheBuckets) {
  const FeatureEncoder encoder(MixedSchema());
  std::set<std::size_t> seen;
  for (std::uint64_t id = 0; id < 16; ++id) {
    const std::vector<std::uint64_t> ids{id};
    const std::vector<float> duration{0.0F};
    const std::vector<float> scores{0.0F, 0.0F};
    std::vector<float> columns(encoder.item_width());
    ASSERT_THAT(encoder.EncodeItem({{duration, ids}, scores}, columns), IsOk());
    for (std::size_t column = 0; column < 4; ++column) {
      if (columns[column] == 1.0F) seen.insert(column);
    }
  }
  EXPECT_EQ(seen.size(), 4U);
}

TEST(FeatureEncoderTest, ClampingCountsWhatWasOutside) {
  const FeatureEncoder encoder(MixedSchema());
  std::vector<float> scores{1.5F, 600.0F};
  EXPECT_EQ(encoder.ClampTaskScores(scores), 1U);
  EXPECT_EQ(scores, (std::vector<float>{1.0F, 600.0F}));
}

}  // namespace
}  // namespace fuseline
