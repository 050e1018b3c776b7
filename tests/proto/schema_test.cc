// The schema and what follows from it: its digest is an interface between rankers and learners, so it has a known answer.

#include "fuseline/proto/schema.h"

#include <algorithm>
#include <functional>

#include <gtest/gtest.h>

#include "fuseline/core/digest.h"
#include "fuseline/proto/settings.h"
#include "fuseline/test_support/matchers.h"

namespace fuseline {
namespace {

v1::FeatureSchema Changed(const std::function<void(v1::FeatureSchema&)>& change) {
  auto schema = DefaultSchema();
  change(schema);
  return schema;
}

TEST(SchemaTest, TheDefaultIsValidAndItsDigestIsKnown) {
  EXPECT_THAT(ValidateSchema(DefaultSchema()), IsOk());
  EXPECT_EQ(ToHex(SchemaDigest(DefaultSchema())), "26be3433830f28b11f70d47283f73c52037c3b652d2a1584afe77a8c278cd56f");
}

TEST(SchemaTest, TheDigestIgnoresFieldsThatThisBuildDoesNotKnow) {
  auto schema = DefaultSchema();
  schema.GetReflection()->MutableUnknownFields(&schema)->AddVarint(99, 1);
  schema.GetReflection()->MutableUnknownFields(schema.mutable_tasks(0))->AddVarint(99, 1);
  EXPECT_EQ(SchemaDigest(schema), SchemaDigest(DefaultSchema()));
  schema.mutable_tasks(0)->set_name("other");
  EXPECT_NE(SchemaDigest(schema), SchemaDigest(DefaultSchema()));
}

TEST(SchemaTest, ARefusalNamesTheFeatureOrTheTask) {
  using S = v1::FeatureSchema;
  const auto expect_named = [](const char* name, const std::function<void(S&)>& change) {
    const auto status = ValidateSchema(Changed(change));
    EXPECT_THAT(status, HasCode(Code::kInvalidInput)) << name;
    EXPECT_THAT(status, MessageNames(name));
  };
  expect_named("hour", [](S& s) { s.mutable_features(2)->set_scope(v1::FEATURE_SCOPE_UNSPECIFIED); });
  expect_named("hour", [](S& s) { s.mutable_features(2)->clear_type(); });
  expect_named("hour", [](S& s) { s.mutable_features(2)->mutable_dense()->set_width(0); });
  expect_named("hour", [](S& s) { s.mutable_features(2)->mutable_dense()->set_width(4097); });
  expect_named("hour", [](S& s) { s.mutable_features(2)->mutable_dense()->set_default_value(INFINITY); });
  expect_named("user_segment", [](S& s) { s.mutable_features(1)->mutable_categorical()->set_buckets(0); });
  expect_named("hour", [](S& s) { s.mutable_features(3)->set_name("hour"); });
  expect_named("no name", [](S& s) { s.mutable_features(0)->clear_name(); });
  expect_named("like", [](S& s) { s.mutable_tasks(0)->set_name("like"); });
  expect_named("click", [](S& s) { s.mutable_tasks(0)->set_max(0); });
  expect_named("click", [](S& s) { s.mutable_tasks(0)->set_min(NAN); });
  expect_named("tasks", [](S& s) { s.clear_tasks(); });
  expect_named("33", [](S& s) {
    for (int i = 5; i < 33; ++i) {
      *s.add_tasks() = s.tasks(0);
      s.mutable_tasks(i)->set_name("t" + std::to_string(i));
    }
  });
}

TEST(SchemaTest, ActionRangesArePowersThenBiasesWithTheStaticActionNormalised) {
  auto policy = DefaultSettings().policy();
  for (const double power : {0.0, 0.5, 1.0, 1.5, 2.0}) policy.add_static_powers(power);

  ASSERT_OK_AND_ASSIGN(const auto ranges, ActionRangesOf(policy, DefaultSchema()));

  EXPECT_THAT(ranges.lower(), testing::ElementsAre(0, 0, 0, 0, 0, 1e-4F, 1e-4F, 1e-4F, 1e-4F, 1e-4F));
  EXPECT_THAT(ranges.upper(), testing::ElementsAre(2, 2, 2, 2, 2, 1, 1, 1, 1, 1));
  EXPECT_THAT(ranges.static_action(), testing::ElementsAre(-1, -0.5, 0, 0.5, 1, -1, -1, -1, -1, -1));
}

TEST(SchemaTest, CanonicalBytesDoNotDependOnTheOrderOfInsertion) {
  v1::PolicyManifest forward, backward;
  for (int i = 0; i < 50; ++i) (*forward.mutable_metrics())["m" + std::to_string(i)] = i;
  for (int i = 49; i >= 0; --i) (*backward.mutable_metrics())["m" + std::to_string(i)] = i;
  EXPECT_EQ(CanonicalBytes(forward), CanonicalBytes(backward));
}

}  // namespace
}  // namespace fuseline
