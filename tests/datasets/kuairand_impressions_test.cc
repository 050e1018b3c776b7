// Proven on the made-up log: impressions are the log's rows, each once, and the frozen rates know nothing of later days (against a log
// that ends there).

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "fuseline/datasets/kuairand_impressions.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"
#include "imported.h"

namespace fuseline {
namespace {

constexpr const char* kHeader =
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab\n";
constexpr std::int64_t kDayMs = 86'400'000, kEightHoursMs = 8 * 3'600'000;

class KuaiRandImpressionsTest : public ::testing::Test {
 protected:
  KuaiRandFiles Files(const std::string& log) {
    std::ofstream(folder_ / "log.csv") << log;
    const std::string data = std::string(std::getenv("FUSELINE_SOURCE_DIR")) + "/tests/datasets/data/";
    return {folder_ / "log.csv", data + "kuairand_users.csv", data + "kuairand_videos.csv"};
  }
  static std::string Row(int user, int video, std::int64_t time_ms, int click, int long_view, std::int64_t play_ms) {
    std::ostringstream row;
    row << user << ',' << video << ",20231115,0," << time_ms << ',' << click << ",0,0,0,0,0," << long_view << ',' << play_ms
        << ",8000,0,0,0,0,1\n";
    return row.str();
  }
  test::TempDir folder_;
};

TEST_F(KuaiRandImpressionsTest, ARowIsOneImpressionAndARepeatedOneIsNone) {
  const std::string row = Row(3, 5, 16 * 3'600'000, 1, 0, 9'000);  // 00:00 of the second local day.
  ASSERT_OK_AND_ASSIGN(const auto all, ReadKuaiRandImpressions(Files(kHeader + row + row + Row(4, 5, 1'000, 0, 1, 0)), {}, 1));

  ASSERT_EQ(all.rows.size(), 2U);
  EXPECT_EQ(all.duplicate_rows, 1U);
  EXPECT_EQ(all.rows[0].user_id, 4U);
  EXPECT_EQ(all.rows[0].local_day, 0);
  EXPECT_TRUE(all.rows[0].outcomes[kLongView] == 1 && all.rows[0].outcomes[kClick] == 0);
  EXPECT_EQ(all.rows[1].local_day, 1);
  EXPECT_EQ(all.rows[1].known_ms, 16 * 3'600'000 + 9'000);
  EXPECT_TRUE(all.rows[1].outcomes[kClick] == 1 && all.rows[1].outcomes[kLongView] == 0);
  EXPECT_TRUE(all.users.contains(3) && all.videos.contains(5));
}

TEST_F(KuaiRandImpressionsTest, FrozenRatesKnowNothingOfLaterDays) {
  Random random(5, "log", 0);
  std::string past, future;
  const std::int64_t second_day_ms = kDayMs - kEightHoursMs;
  for (int i = 0; i < 300; ++i) {
    const std::int64_t time_ms = i * second_day_ms / 200;  // The last third is of the second day.
    const std::string row = Row(static_cast<int>(random.NextBelow(5)), static_cast<int>(random.NextBelow(5)), time_ms,
                                static_cast<int>(random.NextBelow(2)), static_cast<int>(random.NextBelow(2)), 1'000);
    (time_ms < second_day_ms ? past : future) += row;
  }
  ASSERT_OK_AND_ASSIGN(const auto all, ReadKuaiRandImpressions(Files(kHeader + past + future), {}, 1));
  ASSERT_OK_AND_ASSIGN(const auto asked,  // Of the second day nothing but one row stands behind the first.
                       ReadKuaiRandImpressions(Files(kHeader + past + Row(1, 1, second_day_ms + kDayMs / 4, 0, 0, 1'000)), {}, 1));

  std::size_t differ = 0, compared = 0;
  for (const auto& one : all.rows) {
    if (one.local_day == 0) {
      EXPECT_EQ(one.rates, one.frozen_rates);
    } else {
      differ += one.rates == one.frozen_rates ? 0 : 1;
      if (one.user_id != 1 || one.video_id != 1) continue;
      EXPECT_EQ(one.frozen_rates, asked.rows.back().rates);
      ++compared;
    }
  }
  EXPECT_GT(differ, 50U);
  EXPECT_GT(compared, 0U);
}

TEST_F(KuaiRandImpressionsTest, ALogWithoutRowsIsRefused) {
  EXPECT_THAT(ReadKuaiRandImpressions(Files(kHeader), {}, 1), HasCode(Code::kInvalidInput));
}

}  // namespace
}  // namespace fuseline
