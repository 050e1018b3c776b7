// Proven on a made-up log: the file says of every pair what the network says. On the real log, found through
// FUSELINE_DATA_DIR: the fitted model ranks a later part of it well above chance and repeats itself.

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <numeric>

#include "exported_heads.h"
#include "fitted_network.h"
#include "fuseline/core/file.h"
#include "fuseline/core/random.h"
#include "fuseline/fusion/whole_numbers.h"
#include "fuseline/proto/schema.h"
#include "fuseline/response_model/fit.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"
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

// 1,500 impressions of 30 users and 40 videos, of which those of a low number are busier and liked more.
std::string MadeUpLog() {
  std::string text = "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
                     "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab\n";
  Random random(1, "log", 0);
  for (int row = 0; row < 1'500; ++row) {
    const auto user = random.NextBelow(1 + random.NextBelow(30)), video = random.NextBelow(1 + random.NextBelow(40));
    const double liking = 1 / (1 + 0.1 * static_cast<double>(user + video));
    const auto answer = [&](double share) { return random.NextUniform() < share * liking ? ",1" : ",0"; };
    text += std::to_string(user) + "," + std::to_string(video) + ",20231115,0," + std::to_string(1'700'000'000'000 + row * 60'000LL);
    for (const double share : {0.9, 0.4, 0.2, 0.2, 0.2, 0.1, 0.5}) text += answer(share);
    text += "," + std::to_string(random.NextBelow(40'000)) + ",30000,0,0,0,0," + std::to_string(random.NextBelow(5)) + "\n";
  }
  return text;
}

// Those with the most rows first, as the file has them.
std::vector<std::size_t> Busiest(const std::vector<Side>& sides) {
  std::vector<std::size_t> order(sides.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, std::greater(), [&](std::size_t side) { return sides[side].rates.count; });
  return order;
}

TEST(ResponseFitTest, TheFileSaysOfEveryPairWhatTheNetworkSays) {
  // given
  const test::TempDir folder;
  ResponseFitOptions options;
  options.files = SmallFiles();
  options.files.log = folder / "log.csv";
  options.learning_rate = 0.01;
  options.users_max = 10;
  options.items_max = 15;
  ASSERT_THAT(WriteFileAtomically(options.files.log, MadeUpLog()), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto data, ReadResponseRows(options.files, {}));

  // when
  ResponseFitReport report, again;
  const FittedNetwork network = FittedNetwork::Fit(data, options, {}, &report);
  const TensorMap file = network.Export(data, options, report.watch_error);

  // then: what is checked below is what is written
  ASSERT_OK_AND_ASSIGN(const auto written, FitResponseModel(options, {}, &again));
  EXPECT_EQ(EncodeWeights(written), EncodeWeights(file));
  const auto users = Busiest(data.users), items = Busiest(data.items);
  ResponseRow row = data.rows[0];
  for (std::size_t c = 0; c < row.context.size(); ++c) {
    double sum = 0;
    for (const ResponseRow& other : data.rows) sum += other.context[c];
    row.context[c] = static_cast<float>(sum / static_cast<double>(data.rows.size()));
  }
  float lowest = 1, highest = 0;  // Of a click.
  for (std::size_t u = 0; u < options.users_max; ++u)
    for (std::size_t i = 0; i < options.items_max; ++i) {
      row.user = users[u];
      row.item = items[i];
      row.user_rates = data.users[row.user].rates.Columns(data.overall);
      row.item_rates = data.items[row.item].rates.Columns(data.overall);
      const std::vector<float> heads = network.Heads(data, row);
      ASSERT_OK_AND_ASSIGN(const auto exported, test::ExportedHeads(file, u, i));
      for (std::size_t head = 0; head < exported.size(); ++head) {
        const double expected = head < kResponseTasks ? 1 / (1 + std::exp(-static_cast<double>(heads[head]))) : heads[head];
        EXPECT_NEAR(exported[head], expected, 1e-5) << "user " << u << " item " << i << " head " << head;
      }
      lowest = std::min(lowest, exported[0]);
      highest = std::max(highest, exported[0]);
    }
  EXPECT_GT(highest - lowest, 0.1) << "pairs must differ, or the rows' order is not checked";
}

TEST(ResponseFitTest, TheFileHoldsTheLogsIdsFeaturesAndTabs) {
  // given
  const test::TempDir folder;
  ResponseFitOptions options;
  options.files = SmallFiles();
  options.files.log = folder / "log.csv";
  options.users_max = 10;
  ASSERT_THAT(WriteFileAtomically(options.files.log, MadeUpLog()), IsOk());
  std::map<std::string, v1::Features> users;
  std::map<std::string, std::map<std::uint64_t, int>> tabs;  // Rows by user and tab.
  const auto see = [&](const v1::Event& event) {
    if (event.has_exposure()) {
      users[event.user_id()] = event.exposure().user_features();
      ++tabs[event.user_id()][event.exposure().context_features().ids(0)];
    }
    return OkStatus();
  };
  ASSERT_THAT(ImportKuaiRand(options.files, {}, see), IsOk());

  // when
  ResponseFitReport report;
  ASSERT_OK_AND_ASSIGN(const TensorMap file, FitResponseModel(options, {}, &report));

  // then
  ASSERT_OK_AND_ASSIGN(const std::string schema, BytesOf(file.at("schema")));
  EXPECT_EQ(schema, CanonicalBytes(KuaiRandSchema()));
  ASSERT_OK_AND_ASSIGN(const auto names, IdsOf(file.at("user.id")));
  ASSERT_OK_AND_ASSIGN(const auto ids, IdsOf(file.at("user.ids")));
  ASSERT_OK_AND_ASSIGN(const auto tab_ids, IdsOf(file.at("tab.id")));
  ASSERT_EQ(names.size(), 10U);
  std::size_t with_features = 0;
  for (std::size_t u = 0; u < names.size(); ++u) {
    const std::string name = std::to_string(names[u]);
    const v1::Features& features = users.at(name);
    with_features += features.ids_size() > 0 ? 1 : 0;
    for (int f = 0; f < 14; ++f) EXPECT_EQ(ids[u * 14 + static_cast<std::size_t>(f)], features.ids_size() > 0 ? features.ids(f) : 0) << name;
    for (int f = 0; f < 4; ++f) {
      EXPECT_EQ(file.at("user.dense").values[u * 4 + static_cast<std::size_t>(f)], features.dense_size() > 0 ? features.dense(f) : 0) << name;
    }
    const auto mine = tabs.at(name);
    const auto most = std::ranges::max_element(mine, {}, [](const auto& tab) { return tab.second; })->second;
    EXPECT_EQ(mine.at(tab_ids[static_cast<std::size_t>(file.at("user.tab").values[u])]), most) << name;
  }
  EXPECT_GT(with_features, 0U);
  EXPECT_EQ(file.at("tab.first").shape, (std::vector<std::uint32_t>{5, file.at("first.bias").shape[0]}));
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
