// Proven on the real log, found through FUSELINE_DATA_DIR: the fitted model ranks a later part of it well above chance, repeats itself,
// and the worlds open on what it writes.

#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "fuseline/response_model/fit.h"
#include "fuseline/test_support/matchers.h"
#include "response_rows.h"

namespace fuseline {
namespace {

KuaiRandFiles SmallFiles() {
  const auto folder = std::filesystem::path(std::getenv("FUSELINE_SOURCE_DIR")) / "tests/datasets/data";
  return {folder / "kuairand_log.csv", folder / "kuairand_users.csv", folder / "kuairand_videos.csv"};
}

TEST(ResponseFitTest, TooFewRowsAreRefused) {
  ResponseFitOptions options;
  options.files = SmallFiles();
  ResponseFitReport report;
  EXPECT_THAT(FitResponseModel(options, {}, &report), HasCode(Code::kInvalidInput));
}

TEST(ResponseFitTest, ARowKnowsTheRatesOfTheRowsBeforeItAlone) {
  ASSERT_OK_AND_ASSIGN(const auto data, ReadResponseRows(SmallFiles(), {}));
  ASSERT_GT(data.rows.size(), 100U);
  const ResponseRow& first = data.rows[0];
  EXPECT_EQ(first.user_rates, first.item_rates);  // Nothing was known of either.
  EXPECT_EQ(first.user_rates[kRateColumns - 1], 0);
  std::vector<double> seen(data.users.size(), 0);
  for (const ResponseRow& row : data.rows) {
    EXPECT_FLOAT_EQ(row.user_rates[kRateColumns - 1], static_cast<float>(0.25 * std::log1p(seen[row.user]++)));
  }
}

TEST(ResponseFitTest, TheAreaUnderACurveCountsTiesOneHalf) {
  EXPECT_DOUBLE_EQ(AreaUnderCurve({1, 2, 3, 4}, {0, 0, 1, 1}), 1);
  EXPECT_DOUBLE_EQ(AreaUnderCurve({1, 2, 2, 3}, {0, 0, 1, 1}), 0.875);
  EXPECT_EQ(AreaUnderCurve({1, 2}, {1, 1}), -1);
}

TEST(ResponseFitTest, OnTheRealLogItRanksLaterRowsAndRepeatsItself) {
  const char* data = std::getenv("FUSELINE_DATA_DIR");
  if (data == nullptr) GTEST_SKIP() << "SKIPPED: FUSELINE_DATA_DIR is not set; the response model was not fitted to the real log";
  const auto folder = std::filesystem::path(data) / "kuairand";
  ResponseFitOptions options;
  options.files = {folder / "log_w1_dense15.csv.gz", folder / "user_features_pure.csv.gz", folder / "video_features_basic_pure.csv.gz"};
  ResponseFitReport report, again;

  ASSERT_OK_AND_ASSIGN(const auto model, FitResponseModel(options, {}, &report));
  ASSERT_OK_AND_ASSIGN(const auto twin, FitResponseModel(options, {}, &again));

  EXPECT_GT(report.auc[0], 0.60);  // Click.
  EXPECT_GT(report.auc[5], 0.60);  // Long view.
  EXPECT_LT(report.watch_error, report.watch_spread);
  EXPECT_EQ(EncodeWeights(model), EncodeWeights(twin));
}

}  // namespace
}  // namespace fuseline
