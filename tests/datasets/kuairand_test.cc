// Proven on a made-up log of KuaiRand's columns: what a row becomes, in which order and under which ids; that scores know the
// past alone (by making up the future anew, and against a slow scorer that rereads everything); how bad input is named.

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>

#include "fuseline/datasets/kuairand.h"
#include "fuseline/proto/event_codec.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/settings.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"
#include "imported.h"

namespace fuseline {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kHeader =
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab\n";

std::string DataFile(const std::string& name) {
  return std::string(std::getenv("FUSELINE_SOURCE_DIR")) + "/tests/datasets/data/" + name;
}

KuaiRandFiles Synthetic(const std::string& log = DataFile("kuairand_log.csv")) {
  return {log, DataFile("kuairand_users.csv"), DataFile("kuairand_videos.csv")};
}

std::string Print(const v1::Event& event) {
  const auto kind = event.has_exposure() ? "EXPOSURE" : v1::Feedback::Kind_Name(event.feedback().kind());
  return event.user_id() + " " + kind + "@" + std::to_string(event.event_time_ms());
}

class KuaiRandTest : public ::testing::Test {
 protected:
  std::string WriteLog(const std::string& text) {
    std::ofstream(folder_ / "log.csv") << text;
    return folder_ / "log.csv";
  }
  test::TempDir folder_;
};

TEST_F(KuaiRandTest, ARowIsOneExposureAndItsFeedbackAtTheWatchsEnd) {
  const auto log = WriteLog(std::string(kHeader) +
                            "3,5,20231115,0,2000,1,1,1,1,1,1,1,9000,8000,0,0,1,0,4\n"
                            "4,6,20231115,0,1000,0,0,0,0,0,0,0,0,0,0,0,0,0,1\n");

  ASSERT_OK_AND_ASSIGN(const auto imported, test::Import(Synthetic(log)));

  std::vector<std::string> printed;
  for (const auto& event : imported.events) printed.push_back(Print(event));
  EXPECT_THAT(printed, ElementsAre("4 EXPOSURE@1000", "4 WATCH@1000", "3 EXPOSURE@2000", "3 CLICK@11000", "3 WATCH@11000",
                                   "3 COMPLETE@11000", "3 LIKE@11000", "3 SHARE@11000", "3 COMMENT@11000",
                                   "3 FOLLOW@11000", "3 PROFILE@11000", "3 DISLIKE@11000"));
  const auto& watch = imported.events[4].feedback();
  EXPECT_EQ(watch.watch_ms(), 9000);
  EXPECT_EQ(watch.item_duration_ms(), 8000);
  EXPECT_EQ(watch.request_id(), imported.events[2].exposure().request_id());
  EXPECT_EQ(watch.item_id(), imported.events[2].exposure().items(0).item_id());
}

TEST_F(KuaiRandTest, AnExposureSaysWhatWasAndWasNotLogged) {
  ASSERT_OK_AND_ASSIGN(const auto imported, test::Import(Synthetic()));
  ASSERT_OK_AND_ASSIGN(const auto ranges, ActionRangesOf(DefaultSettings().policy(), KuaiRandSchema()));

  const auto& exposure = imported.events[0].exposure();

  EXPECT_EQ(exposure.arm(), "static");
  EXPECT_EQ(exposure.policy_version(), 0U);
  EXPECT_FALSE(exposure.has_log_density());
  EXPECT_FALSE(exposure.has_box());
  EXPECT_EQ(exposure.schema_digest(), SchemaDigest(KuaiRandSchema()));
  EXPECT_EQ(exposure.items_size(), 1);
  EXPECT_THAT(exposure.items(0).executed_action(), ::testing::ElementsAreArray(ranges.static_action()));
  EXPECT_THAT(exposure.items(0).baseline_action(), ::testing::ElementsAreArray(ranges.static_action()));
}

TEST_F(KuaiRandTest, EveryEventIsValidInOrderAndAsWideAsItsSchema) {
  ASSERT_OK_AND_ASSIGN(const auto imported, test::Import(Synthetic()));
    std::map<std::string, std::pair<int, int>> widths;  // Scope → dense, ids.
  const auto schema = KuaiRandSchema();
  EXPECT_THAT(ValidateSchema(schema), IsOk());
  for (const auto& feature : schema.features()) {
    auto& [dense, ids] = widths[v1::FeatureScope_Name(feature.scope())];
    dense += static_cast<int>(feature.dense().width());
    ids += feature.has_categorical() ? 1 : 0;
  }
  std::int64_t before_ms = 0;
  for (const auto& event : imported.events) {
    ASSERT_THAT(ValidateEvent(event, EventLimits{}), IsOk()) << event.ShortDebugString();
    ASSERT_GE(event.event_time_ms(), before_ms);
    before_ms = event.event_time_ms();
    if (!event.has_exposure()) continue;
    const auto& item = event.exposure().items(0);
    if (event.user_id() != "900") {  // Not in the table of users: the schema's defaults.
      ASSERT_EQ(event.exposure().user_features().dense_size(), widths["USER"].first);
      ASSERT_EQ(event.exposure().user_features().ids_size(), widths["USER"].second);
    }
    if (item.item_id() != "901") {
      ASSERT_EQ(item.item_features().dense_size(), widths["ITEM"].first);
      ASSERT_EQ(item.item_features().ids_size(), widths["ITEM"].second);
    }
    ASSERT_EQ(event.exposure().context_features().dense_size(), widths["CONTEXT"].first);
    ASSERT_EQ(event.exposure().context_features().ids_size(), widths["CONTEXT"].second);
    ASSERT_EQ(item.task_scores_size(), schema.tasks_size());
  }
  EXPECT_EQ(imported.summary.users_without_features, 1U);
  EXPECT_EQ(imported.summary.items_without_features, 1U);
}

TEST_F(KuaiRandTest, ARepeatedRowGivesRepeatedEventsAndNothingElseDoes) {
  ASSERT_OK_AND_ASSIGN(const auto imported, test::Import(Synthetic()));

  std::map<std::string, std::string> seen;  // Id → bytes.
  std::uint64_t repeated_events = 0, repeated_exposures = 0;
  for (const auto& event : imported.events) {
    const auto [first, is_new] = seen.emplace(event.event_id(), event.SerializeAsString());
    if (is_new) continue;
    EXPECT_EQ(first->second, event.SerializeAsString()) << "a repeat says something else: " << event.event_id();
    ++repeated_events;
    repeated_exposures += event.has_exposure() ? 1 : 0;
  }

  EXPECT_EQ(imported.summary.rows, 600U);
  EXPECT_EQ(imported.summary.duplicate_rows, 10U);
  EXPECT_EQ(repeated_exposures, imported.summary.duplicate_rows);
  EXPECT_EQ(repeated_events, imported.summary.duplicate_events);
  EXPECT_EQ(imported.events.size(), imported.summary.events);
}

TEST_F(KuaiRandTest, AScoreDoesNotChangeWithTheFuture) {
  KuaiRandSummary summary;
  ASSERT_OK_AND_ASSIGN(const auto rows, ReadKuaiRandLog(DataFile("kuairand_log.csv"), {}, {}, &summary));
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    std::size_t compared = 0;
    EXPECT_EQ(test::CountLookAhead(rows, seed, &compared), 0U) << "seed " << seed;
    EXPECT_GT(compared, 100U);
  }
}

// The formula of kuairand_scores.h for the clicks of one row, from a full reading of the log.
double SlowClickScore(const std::vector<KuaiRandRow>& rows, const KuaiRandRow& now) {
  const auto logit = [](double p) { return std::log(p / (1 - p)); };
  double clicks = 1, shown = 10;  // The prior.
  std::array<std::array<double, 2>, 3> own{};
  for (const auto& row : rows) {
    if (row.repeats || row.feedback_ms() >= now.time_ms) continue;
    clicks += row.click;
    ++shown;
    const std::array<bool, 3> same = {row.user_id == now.user_id, row.video_id == now.video_id, row.tab == now.tab};
    for (std::size_t w = 0; w < 3; ++w) {
      own[w][0] += same[w] && row.click ? 1 : 0;
      own[w][1] += same[w] ? 1 : 0;
    }
  }
  const double rate = clicks / shown;
  const std::array<double, 3> worth = {10, 20, 100};
  double value = logit(rate);
  for (std::size_t w = 0; w < 3; ++w) value += logit((own[w][0] + worth[w] * rate) / (own[w][1] + worth[w])) - logit(rate);
  return 1 / (1 + std::exp(-value));
}

TEST_F(KuaiRandTest, ScoresEqualThoseOfASlowScorerThatReadsEverythingAgain) {
  KuaiRandSummary summary;
  ASSERT_OK_AND_ASSIGN(const auto rows, ReadKuaiRandLog(DataFile("kuairand_log.csv"), {}, {}, &summary));
  const auto scores = ScoreFromThePast(rows, {});
  for (std::size_t i = 0; i < rows.size(); ++i) {
    ASSERT_NEAR(scores[i][kClick], SlowClickScore(rows, rows[i]), 1e-6) << "row " << i;
  }
}

TEST_F(KuaiRandTest, RocAreaCountsTiesOneHalf) {
  EXPECT_DOUBLE_EQ(RocArea({{0.1F, false}, {0.2F, true}, {0.3F, false}, {0.4F, true}}), 0.75);
  EXPECT_DOUBLE_EQ(RocArea({{0.5F, false}, {0.5F, true}}), 0.5);
  EXPECT_DOUBLE_EQ(RocArea({{0.5F, true}, {0.7F, true}}), -1);
}

TEST_F(KuaiRandTest, ABadRowIsAnErrorThatNamesFileLineAndColumn) {
  const auto imported = test::Import(Synthetic(DataFile("kuairand_bad_log.csv")));
  EXPECT_THAT(imported, HasCode(Code::kInvalidInput));
  EXPECT_THAT(imported, MessageNames("kuairand_bad_log.csv:6"));
  EXPECT_THAT(imported, MessageNames("time_ms"));
}

TEST_F(KuaiRandTest, BadRowsAreLeftOutAndReportedOnlyWhenAsked) {
  KuaiRandOptions options;
  options.skip_bad_rows = true;

  ASSERT_OK_AND_ASSIGN(const auto imported, test::Import(Synthetic(DataFile("kuairand_bad_log.csv")), options));

  EXPECT_EQ(imported.summary.rows, 20U);
  EXPECT_EQ(imported.summary.bad_rows, 3U);
  EXPECT_EQ(imported.summary.events_by_kind.at("EXPOSURE"), 17U);
  EXPECT_THAT(imported.summary.bad_row_reports,
              ElementsAre(HasSubstr("log.csv:6: time_ms"), HasSubstr("log.csv:11: number of fields"),
                          HasSubstr("log.csv:16: play_time_ms")));
}

TEST_F(KuaiRandTest, AMissingColumnOrFileIsNamed) {
  EXPECT_THAT(test::Import(Synthetic(WriteLog("user_id,video_id\n1,2\n"))), MessageNames("time_ms"));
  EXPECT_THAT(test::Import(Synthetic(WriteLog(""))), HasCode(Code::kInvalidInput));
  EXPECT_THAT(test::Import(Synthetic(folder_ / "none.csv")), HasCode(Code::kNotFound));
}

TEST_F(KuaiRandTest, ALogWithoutRowsMakesNoEvents) {
  ASSERT_OK_AND_ASSIGN(const auto imported, test::Import(Synthetic(WriteLog(kHeader))));
  EXPECT_EQ(imported.events.size(), 0U);
  EXPECT_THAT(imported.summary.auc, Each(-1.0));
}

TEST_F(KuaiRandTest, ItsSettingsLoadAndHoldItsSchema) {
  std::ofstream(folder_ / "kuairand.yaml") << KuaiRandSettings();
  SettingsSources sources;
  sources.file = folder_ / "kuairand.yaml";

  ASSERT_OK_AND_ASSIGN(const auto config, LoadSettings(sources));

  EXPECT_EQ(SchemaDigest(SchemaOf(config)), SchemaDigest(KuaiRandSchema()));
  EXPECT_EQ(config.sessionizer().gap_ms(), 6 * 3'600'000);
  EXPECT_TRUE(config.learner().train_on_static());
  EXPECT_TRUE(config.learner().anchor_on_static());
}

TEST_F(KuaiRandTest, TheCommittedSettingsAreTheImportersOwn) {
  std::ifstream file(std::string(std::getenv("FUSELINE_SOURCE_DIR")) + "/deploy/kuairand.yaml");
  const std::string committed((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  EXPECT_EQ(committed, KuaiRandSettings());
}

}  // namespace
}  // namespace fuseline
