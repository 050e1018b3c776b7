// Proven on the real log, found through FUSELINE_DATA_DIR: counts against figures taken from the files by other means, and
// that the scores neither look ahead nor are broken.

#include <cstdlib>
#include <filesystem>
#include <unordered_set>

#include "fuseline/test_support/matchers.h"
#include "imported.h"

namespace fuseline {
namespace {

class KuaiRandRealTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* data = std::getenv("FUSELINE_DATA_DIR");
    if (data == nullptr) GTEST_SKIP() << "SKIPPED: FUSELINE_DATA_DIR is not set; the real KuaiRand log was not looked at";
    const std::filesystem::path folder = std::filesystem::path(data) / "kuairand";
    files_ = {folder / "log_w1.csv.gz", folder / "user_features_pure.csv.gz", folder / "video_features_basic_pure.csv.gz"};
  }
  KuaiRandFiles files_;
};

TEST_F(KuaiRandRealTest, TheWeekHasItsKnownCounts) {
  std::unordered_set<std::string> ids;
  std::uint64_t repeated = 0, repeated_exposures = 0;
  const auto count = [&](const v1::Event& event) {
    const bool is_new = ids.insert(event.event_id()).second;
    repeated += is_new ? 0 : 1;
    repeated_exposures += !is_new && event.has_exposure() ? 1 : 0;
    return OkStatus();
  };

  ASSERT_OK_AND_ASSIGN(const auto summary, ImportKuaiRand(files_, {}, count));

  EXPECT_EQ(summary.rows, 94'784U);
  EXPECT_EQ(summary.users, 21'184U);
  EXPECT_EQ(summary.items, 5'564U);
  EXPECT_EQ(summary.users_without_features, 0U);
  EXPECT_EQ(summary.items_without_features, 0U);
  EXPECT_EQ(summary.duplicate_rows, 2'750U);
  EXPECT_EQ(repeated_exposures, 2'750U);
  EXPECT_EQ(repeated, summary.duplicate_events);
  EXPECT_EQ(summary.first_ms, 1'650'812'741'436);
  const std::map<std::string, std::uint64_t> kinds = {
      {"EXPOSURE", 94'784}, {"WATCH", 94'784}, {"CLICK", 41'503}, {"COMPLETE", 12'735}, {"LIKE", 1'625}, {"SHARE", 76},
      {"COMMENT", 220},     {"FOLLOW", 128},   {"PROFILE", 1'840}, {"DISLIKE", 65}};
  EXPECT_EQ(summary.events_by_kind, kinds);
  // What smoothed rates reach on this log; much less is a broken scorer. Comment and forward have few positives.
  EXPECT_GT(summary.auc[kClick], 0.71);
  EXPECT_GT(summary.auc[kLongView], 0.705);
  EXPECT_GT(summary.auc[kLike], 0.76);
  EXPECT_GT(summary.auc[kComment], 0.60);
}

TEST_F(KuaiRandRealTest, AScoreDoesNotChangeWithTheFuture) {
  KuaiRandSummary summary;
  ASSERT_OK_AND_ASSIGN(const auto rows, ReadKuaiRandLog(files_.log, {}, {}, &summary));
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    std::size_t compared = 0;
    EXPECT_EQ(test::CountLookAhead(rows, seed, &compared), 0U) << "seed " << seed;
    EXPECT_GT(compared, 20'000U);
  }
}

}  // namespace
}  // namespace fuseline
