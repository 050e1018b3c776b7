// The off-policy estimators on a real log with true propensities: the Open Bandit Dataset (men, 10,000 impressions each of the uniform
// policy and of Bernoulli Thompson sampling). What each log says of the policy that made the other one is held against what that policy
// really earned. FUSELINE_DATA_DIR names the folder that holds obd/.

#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/datasets/csv_reader.h"
#include "fuseline/learner/estimators.h"
#include "fuseline/test_support/matchers.h"

namespace fuseline {
namespace {

constexpr double kItems = 34;

struct Impression {
  std::pair<std::string, std::string> item_at;  // Item, position.
  double click = 0, propensity = 0;
};

double Number(std::string_view text) {
  double value = -1;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

class OpenBanditTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* data = std::getenv("FUSELINE_DATA_DIR");
    if (data == nullptr || !std::filesystem::exists(std::filesystem::path(data) / "obd"))
      GTEST_SKIP() << "SKIPPED: FUSELINE_DATA_DIR names no folder with obd/; the estimators were not held against a real log";
    folder_ = std::filesystem::path(data) / "obd";
    uniform_ = Read("random_men.csv.gz");
    thompson_ = Read("bts_men.csv.gz");
    ASSERT_EQ(uniform_.size(), 10'000U);
    ASSERT_EQ(thompson_.size(), 10'000U);
  }

  std::vector<Impression> Read(const std::string& name) const {
    std::vector<Impression> impressions;
    auto reader = CsvReader::Open(folder_ / name, {"item_id", "position", "click", "propensity_score"});
    EXPECT_THAT(reader, IsOk());
    while (reader && reader->Next().value_or(false)) {
      const auto& fields = reader->fields();
      impressions.push_back({{std::string(fields[0]), std::string(fields[1])}, Number(fields[2]), Number(fields[3])});
    }
    return impressions;
  }

  static double Clicks(const std::vector<Impression>& log) {
    double clicks = 0;
    for (const Impression& impression : log) clicks += impression.click;
    return clicks;
  }

  // `target`: the density of the judged policy at an impression of the log.
  template <typename Target>
  static OffPolicyEstimates Judge(const std::vector<Impression>& log, const Target& target) {
    OffPolicyEstimator estimator(10);
    for (const Impression& impression : log) {
      estimator.Add(DensityRatio(impression.propensity, target(impression)).value(), impression.click);
      estimator.CloseCluster();
    }
    return estimator.Finish();
  }

  static void Print(const char* what, const OffPolicyEstimates& found, double truth) {
    const auto ips = *Interval95(*found.ips), snips = *Interval95(*found.snips);
    std::cout << what << ": earned " << truth << "  ips " << found.ips->value << " [" << ips[0] << ", " << ips[1] << "]  snips "
              << found.snips->value << " [" << snips[0] << ", " << snips[1] << "]  clipped " << found.clipped_ips->value << "  ess "
              << *found.ess << '\n';
  }

  static void ExpectInside(const std::optional<Estimate>& estimate, double truth) {
    const auto [low, high] = *Interval95(*estimate);
    EXPECT_LE(low, truth);
    EXPECT_GE(high, truth);
  }

  std::filesystem::path folder_;
  std::vector<Impression> uniform_, thompson_;
};

TEST_F(OpenBanditTest, APolicyJudgedByItsOwnLogEarnsWhatItEarned) {
  for (const auto& [log, clicks] : {std::pair(&uniform_, 46.0), {&thompson_, 69.0}}) {
    ASSERT_EQ(Clicks(*log), clicks);
    const OffPolicyEstimates found = Judge(*log, [](const Impression& impression) { return impression.propensity; });
    for (const auto& estimate : {found.ips, found.snips, found.clipped_ips, found.dr, found.sndr})
      EXPECT_NEAR(estimate->value, clicks / 10'000, 1e-12);
    EXPECT_NEAR(*found.ess, 10'000, 1e-6);
  }
}

// Thompson sampling's propensities drift over the week; on average over it they are the shares of its own impressions.
TEST_F(OpenBanditTest, TheUniformLogTellsWhatThompsonSamplingEarned) {
  std::map<std::pair<std::string, std::string>, double> shown;
  std::map<std::string, double> shown_at;
  for (const Impression& impression : thompson_) {
    ++shown[impression.item_at];
    ++shown_at[impression.item_at.second];
  }
  const OffPolicyEstimates found = Judge(
      uniform_, [&](const Impression& i) { return shown[i.item_at] / shown_at[i.item_at.second]; });
  const double truth = Clicks(thompson_) / 10'000;
  Print("Thompson sampling by the uniform log", found, truth);
  ExpectInside(found.ips, truth);
  ExpectInside(found.snips, truth);
}

// The other way round ratios reach 178: the plain estimate's interval is too narrow there.
TEST_F(OpenBanditTest, ThompsonSamplingsLogTellsWhatTheUniformPolicyEarned) {
  const OffPolicyEstimates found = Judge(thompson_, [](const Impression&) { return 1 / kItems; });
  const double truth = Clicks(uniform_) / 10'000;
  Print("the uniform policy by Thompson sampling's log", found, truth);
  ExpectInside(found.snips, truth);
  EXPECT_LT(*found.ess, 1'000);
  // The truth is a sample too (46 clicks): it and the plain estimate are within both errors of each other.
  const double both = std::hypot(*found.ips->standard_error, std::sqrt(46.0) / 10'000);
  EXPECT_LE(std::abs(found.ips->value - truth), 1.96 * both);
}

}  // namespace
}  // namespace fuseline
