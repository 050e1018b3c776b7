// Settings: one walk over config.proto, from default to flag. Each refusal must name what a person has to go and
// change: key, file and line, variable or flag. Every setting is written, read back and printed again.

#include "fuseline/proto/settings.h"

#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "fuseline/core/file.h"
#include "fuseline/proto/schema.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"

#include "setting_field.h"

namespace fuseline {
namespace {

using google::protobuf::util::MessageDifferencer;

class SettingsTest : public testing::Test {
 protected:
  Result<v1::Config> LoadYaml(const std::string& text) {
    const auto file = folder_ / "fuseline.yaml";
    EXPECT_THAT(WriteFileAtomically(file, text), IsOk());
    return LoadSettings({.file = file});
  }
  std::string RefusalOf(const std::string& text) {
    const auto config = LoadYaml(text);
    if (config) return "accepted";
    EXPECT_EQ(config.error().code, Code::kInvalidInput);
    return config.error().message.substr(folder_.path().size() + 1);
  }
  std::string RefusalOfFlag(const std::string& flag) {
    const auto config = LoadSettings({.flags = {flag}});
    return config ? "accepted" : config.error().message;
  }

  test::TempDir folder_;
};

TEST_F(SettingsTest, EveryDefaultParsesIsInRangeAndHasHelp) {
  for (const auto& setting : AllSettings()) {
    v1::Config config;
    EXPECT_THAT(AssignSetting(setting, setting.options->default_(), &config), IsOk()) << setting.key;
    EXPECT_FALSE(setting.options->help().empty()) << setting.key;
  }
  ASSERT_GT(AllSettings().size(), 100U);
  EXPECT_THAT(LoadSettings({}), IsOk());
}

TEST_F(SettingsTest, LaterSourcesWin) {
  const auto file = folder_ / "fuseline.yaml";
  ASSERT_THAT(WriteFileAtomically(file, "sessionizer: {gap_ms: 1001, max_events: 7}\nfuseline:\n  seed: 5\n"), IsOk());

  ASSERT_OK_AND_ASSIGN(const auto config, LoadSettings({.file = file,
                                                        .environment = {{"FUSELINE_SESSIONIZER__GAP_MS", "1002"},
                                                                        {"FUSELINE_POLICY_STORE__KEEP_VERSIONS", "9"},
                                                                        {"FUSELINE_DATA_DIR", "/not/a/setting"}},
                                                        .flags = {"sessionizer.gap_ms=1003", "learner.hidden=32,16",
                                                                  "learner.train_on_static=true"}}));

  EXPECT_EQ(config.sessionizer().gap_ms(), 1003);
  EXPECT_EQ(config.sessionizer().max_events(), 7);
  EXPECT_EQ(config.fuseline().seed(), 5U);
  EXPECT_EQ(config.policy_store().keep_versions(), 9);
  EXPECT_EQ(config.learner().hidden_size(), 2);
  EXPECT_TRUE(config.learner().train_on_static());
  EXPECT_EQ(config.sessionizer().lateness_ms(), 120'000) << "untouched: its default";
}

TEST_F(SettingsTest, ARefusalNamesKeyFileAndLine) {
  EXPECT_EQ(RefusalOf("sessionizer:\n  gap_m: 5\n"),
            "fuseline.yaml:2: unknown setting sessionizer.gap_m; did you mean sessionizer.gap_ms?");
  EXPECT_EQ(RefusalOf("\nsesionizer:\n  gap_ms: 5\n"), "fuseline.yaml:2: unknown setting sesionizer; did you mean sessionizer?");
  EXPECT_EQ(RefusalOf("gap_ms: 5\n"), "fuseline.yaml:1: unknown setting gap_ms; did you mean sessionizer.gap_ms?");
  EXPECT_EQ(RefusalOf("sessionizer:\n  gap_ms: soon\n"), "fuseline.yaml:2: sessionizer.gap_ms is no whole number: soon");
  EXPECT_EQ(RefusalOf("sessionizer:\n  gap_ms: 1.5\n"), "fuseline.yaml:2: sessionizer.gap_ms is no whole number: 1.5");
  EXPECT_EQ(RefusalOf("sessionizer:\n  gap_ms: 86400001\n"), "fuseline.yaml:2: sessionizer.gap_ms is above 86400000: 86400001");
  EXPECT_EQ(RefusalOf("sessionizer:\n  gap_ms: [1]\n"), "fuseline.yaml:2: sessionizer.gap_ms must be one value, not a list or map");
  EXPECT_EQ(RefusalOf("sessionizer:\n\n  gap_ms:\n"), "fuseline.yaml:3: sessionizer.gap_ms has no value");
  EXPECT_EQ(RefusalOf("sessionizer:\n  gap_ms: 5\n  gap_ms: 6\n"), "fuseline.yaml:3: sessionizer.gap_ms stands twice");
  EXPECT_EQ(RefusalOf("learner:\n  gamma: .nan\n"), "fuseline.yaml:2: learner.gamma is no number: .nan");
  EXPECT_EQ(RefusalOf("learner:\n  gamma: nan\n"), "fuseline.yaml:2: learner.gamma is no number: nan");
  EXPECT_EQ(RefusalOf("learner:\n  device: gpu\n"), "fuseline.yaml:2: learner.device is not one of auto, cpu, cuda: gpu");
  EXPECT_EQ(RefusalOf("learner:\n  hidden: 64\n"), "fuseline.yaml:2: learner.hidden must be a list");
  EXPECT_EQ(RefusalOf("learner:\n  hidden: [64, 0]\n"), "fuseline.yaml:2: learner.hidden[1] is below 1: 0");
  EXPECT_EQ(RefusalOf("- a\n"), "fuseline.yaml:1: the settings must be a map of keys");
  EXPECT_THAT(RefusalOf("a: [\n"), testing::StartsWith("fuseline.yaml:2: is not YAML:"));
  EXPECT_EQ(RefusalOf("a: \xff\n"), "fuseline.yaml: is not UTF-8");
}

TEST_F(SettingsTest, AnAbsentFileIsNotFound) {
  EXPECT_THAT(LoadSettings({.file = folder_ / "absent.yaml"}), HasCode(Code::kNotFound));
}

TEST_F(SettingsTest, ARefusalNamesTheFlagOrTheVariable) {
  EXPECT_EQ(RefusalOfFlag("sessionizer.gap_ms"), "--set is not section.key=value: sessionizer.gap_ms");
  EXPECT_EQ(RefusalOfFlag("sessionizer.gap_ms=-1"), "--set sessionizer.gap_ms: sessionizer.gap_ms is below 0: -1");
  EXPECT_EQ(RefusalOfFlag("learner.hidden=64,"), "--set learner.hidden: learner.hidden ends with a comma: 64,");
  EXPECT_EQ(RefusalOfFlag("schema.tasks=x"),
            "--set schema.tasks: unknown setting schema.tasks; did you mean scorer.tasks?");
  EXPECT_EQ(LoadSettings({.environment = {{"FUSELINE_REDIS__ADRESS", "x"}}}).error().message,
            "FUSELINE_REDIS__ADRESS: unknown setting redis.adress; did you mean redis.address?");
}

TEST_F(SettingsTest, RulesBetweenSettingsNameWhoSetThem) {
  EXPECT_THAT(RefusalOf("ingest:\n  max_future_ms: 120001\n"),
              testing::StartsWith("fuseline.yaml:2: sessionizer.lateness_ms (120000) must not be less than ingest.max_future_ms (120001)"));
  EXPECT_EQ(RefusalOf("policy: {box_lower: 0, box_upper: 0}\n"), "fuseline.yaml:1: policy.box_lower is not below policy.box_upper");
  EXPECT_EQ(RefusalOf("policy:\n  power_min: 3\n"), "fuseline.yaml:2: policy.power_min is not below policy.power_max: 3 2");
  EXPECT_EQ(RefusalOf("policy:\n  bias_min: 1\n"), "fuseline.yaml:2: policy.bias_min is not below policy.bias_max: 1 1");
  EXPECT_EQ(RefusalOf("policy:\n  static_powers: [1, 1]\n"),
            "fuseline.yaml:2: number of policy.static_powers is not that of the tasks: 2 for 5");
  EXPECT_EQ(RefusalOf("policy:\n  static_biases: [1, 1, 1, 1, 5]\n"),
            "fuseline.yaml:2: value of policy.static_biases is outside its range: 5 not in 0.0001 to 1");
}

TEST_F(SettingsTest, ASchemaIsReadFromTheFile) {
  ASSERT_OK_AND_ASSIGN(const auto config, LoadYaml(R"(
schema:
  features:
    - {name: age, scope: USER, dense: {width: 2, default_value: 0.5}}
    - name: shop
      scope: ITEM
      categorical: {buckets: 9, default_value: 18446744073709551615}
  tasks:
    - {name: buy, min: 0, max: 1}
)"));

  const auto schema = SchemaOf(config);
  EXPECT_EQ(schema.ShortDebugString(),
            "features { name: \"age\" scope: USER dense { width: 2 default_value: 0.5 } } "
            "features { name: \"shop\" scope: ITEM categorical { buckets: 9 default_value: 18446744073709551615 } } "
            "tasks { name: \"buy\" max: 1 }");
  EXPECT_NE(SettingsDigest(config), SettingsDigest(DefaultSettings()));
}

TEST_F(SettingsTest, AWrongSchemaIsRefusedWithItsPlace) {
  EXPECT_EQ(RefusalOf("schema:\n  tasks:\n    - {name: buy, min: 0, mx: 1}\n"),
            "fuseline.yaml:3: unknown setting schema.tasks[0].mx");
  EXPECT_EQ(RefusalOf("schema:\n  features:\n    - {name: a, scope: PERSON}\n"),
            "fuseline.yaml:3: schema.features[0].scope is no name of a FeatureScope: PERSON");
  EXPECT_EQ(RefusalOf("schema:\n  tasks:\n    - {name: a, min: 1, max: 1}\n"),
            "fuseline.yaml:1: schema: range of task is not finite with min < max: a");
}

TEST_F(SettingsTest, WhatIsPrintedIsReadBack) {
  ASSERT_OK_AND_ASSIGN(auto config, LoadSettings({.flags = {"learner.hidden=32,16", "policy.static_powers=0.1,1,1,1,2",
                                                            "rewards.dislike=-0.3", "kafka.group_id=a \"quoted\" \\ name",
                                                            "fuseline.seed=18446744073709551615"}}));
  *config.mutable_schema() = DefaultSchema();
  for (const bool with_help : {false, true}) {
    ASSERT_OK_AND_ASSIGN(const auto again, LoadYaml(PrintSettings(config, with_help)));
    EXPECT_TRUE(MessageDifferencer::Equals(config, again)) << PrintSettings(config, with_help);
  }
}

TEST_F(SettingsTest, ASecretIsNeverPrinted) {
  ASSERT_OK_AND_ASSIGN(const auto config, LoadSettings({.environment = {{"FUSELINE_REDIS__PASSWORD", "hunter2"},
                                                                        {"FUSELINE_KAFKA__SASL_PASSWORD", "hunter2"}}}));
  ASSERT_EQ(config.redis().password(), "hunter2");
  EXPECT_EQ(PrintSettings(config, true).find("hunter2"), std::string::npos);
  EXPECT_NE(PrintSettings(config, false).find("# password: \"***\""), std::string::npos);
}

TEST_F(SettingsTest, HelpHasOneLineForEachSetting) {
  const auto help = SettingsHelp();
  EXPECT_EQ(static_cast<std::size_t>(std::count(help.begin(), help.end(), '\n')), AllSettings().size());
  EXPECT_NE(help.find("sessionizer.gap_ms=1800000 (ms, 0 to 86400000): silence that ends a session\n"), std::string::npos);
}

TEST_F(SettingsTest, ARewardSpecificationIsItsOwnFileAndVersion) {
  const auto specification = [&](const std::string& text) {
    EXPECT_THAT(WriteFileAtomically(folder_ / "spec.yaml", text), IsOk());
    return LoadRewards(folder_ / "spec.yaml");
  };

  ASSERT_OK_AND_ASSIGN(const auto rewards, specification("rewards:\n  like: 9\n"));
  EXPECT_EQ(rewards.like(), 9);
  EXPECT_EQ(rewards.share(), DefaultSettings().rewards().share()) << "absent: the default";
  EXPECT_EQ(RewardsDigest(rewards).size(), 32U);
  EXPECT_NE(RewardsDigest(rewards), RewardsDigest(DefaultSettings().rewards()));

  for (const auto& [text, refusal] : {std::pair("rewards:\n  lik: 9\n", "spec.yaml:2: unknown setting rewards.lik; did you mean rewards.like?"),
                                      {"rewards:\n  like: 2e7\n", "spec.yaml:2: rewards.like"},
                                      {"rewards:\n  like: 1\nlearner:\n  gamma: 0.9\n", "spec.yaml:3: a reward specification has"},
                                      {"", "spec.yaml: a reward specification has"}}) {
    const auto refused = specification(text);
    ASSERT_FALSE(refused) << text;
    EXPECT_NE(refused.error().message.find(refusal), std::string::npos) << refused.error().message;
  }
  EXPECT_THAT(LoadRewards(folder_ / "absent.yaml"), HasCode(Code::kNotFound));
}

TEST_F(SettingsTest, TheDigestFollowsWhatShapesWeightsAndNothingElse) {
  const auto digest_with = [](const std::string& flag) { return SettingsDigest(*LoadSettings({.flags = {flag}})); };
  const auto digest = SettingsDigest(DefaultSettings());

  EXPECT_EQ(digest.size(), 32U);
  EXPECT_EQ(digest_with("kafka.brokers=elsewhere:9092"), digest);
  EXPECT_EQ(digest_with("fuseline.state_dir=/elsewhere"), digest);
  for (const auto* flag : {"fuseline.seed=2", "sessionizer.gap_ms=60000", "rewards.like=3", "policy.power_max=3",
                           "learner.gamma=0.8", "gate.min_sessions=9"}) {
    EXPECT_NE(digest_with(flag), digest) << flag;
  }
  auto spelled_out = DefaultSettings();
  *spelled_out.mutable_schema() = DefaultSchema();
  EXPECT_EQ(SettingsDigest(spelled_out), digest) << "the default schema, said or not";
}

}  // namespace
}  // namespace fuseline
