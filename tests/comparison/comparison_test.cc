// Tables, intervals and curves of a comparison, against arithmetic done by hand on runs that are written down here.
#include "fuseline/comparison/charts.h"
#include "fuseline/comparison/run_record.h"
#include "fuseline/comparison/summary.h"
#include "fuseline/comparison/tables.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <gtest/gtest.h>

#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/well_formed.h"

namespace fuseline {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

RunRecord MakeRun(const std::string& algorithm, std::uint64_t seed, double learned, double fixed, double best) {
  RunRecord run;
  run.world = "a<b>&\"c";  // Nobody's world is called so; a chart must live through it.
  run.algorithm = algorithm;
  run.preset = "small";
  run.seed = seed;
  run.sessions = 100;
  run.settings_digest = "d1";
  run.build = "b1";
  run.learned = {.sessions = 10, .mean_return = learned, .valid = learned / 2, .watch_s = 10 * learned, .requests = 4};
  run.fixed = {.sessions = 10, .mean_return = fixed, .valid = fixed / 2, .watch_s = 10 * fixed, .requests = 4};
  run.best = {.sessions = 10, .mean_return = best, .valid = best / 2, .watch_s = 10 * best, .requests = 4};
  run.best_is_optimal = true;
  for (const std::uint64_t sessions : {50U, 100U}) {
    run.curve.push_back({.sessions = sessions + seed,
                         .figures = {.sessions = 50, .mean_return = learned * static_cast<double>(sessions) / 100, .valid = 1, .watch_s = 2, .requests = 3},
                         .accepted_share = 0.5,
                         .versions = 2});
  }
  run.versions = 4;
  run.versions_accepted = 3;
  run.wall_s = 7;
  return run;
}

// Gaps closed: a 0.5, 0.75, 1.0; b 0.25, 0.5 (seed 3 is missing).
std::vector<RunRecord> Runs() {
  return {MakeRun("b", 1, 12.5, 10, 20), MakeRun("b", 2, 15, 10, 20), MakeRun("a", 1, 15, 10, 20), MakeRun("a", 2, 17.5, 10, 20), MakeRun("a", 3, 16, 12, 16)};
}

TEST(IntervalTest, QuantilesAreThoseOfTheTables) {
  EXPECT_NEAR(StudentQuantile(1), 12.706204736432, 1e-8);
  EXPECT_NEAR(StudentQuantile(4), 2.776445105198, 1e-9);
  EXPECT_NEAR(StudentQuantile(30), 2.042272456301, 1e-9);
  EXPECT_NEAR(StudentQuantile(1e6), 1.959966, 1e-6);
}

TEST(IntervalTest, IsTheMeanAndStudentsShareOfItsError) {
  // given: mean 3, standard deviation sqrt(2.5), its error sqrt(2.5 / 5)
  const std::array values{1.0, 2.0, 3.0, 4.0, 5.0};

  // when
  const MeanInterval interval = IntervalOf(values);

  // then
  EXPECT_DOUBLE_EQ(interval.mean, 3);
  EXPECT_NEAR(interval.lower, 3 - 2.776445105198 * std::sqrt(0.5), 1e-9);
  EXPECT_NEAR(interval.upper, 3 + 2.776445105198 * std::sqrt(0.5), 1e-9);
}

TEST(IntervalTest, OneValueHasNone) {
  const std::array values{2.0};
  const MeanInterval interval = IntervalOf(values);
  EXPECT_EQ(interval.lower, 2);
  EXPECT_EQ(interval.upper, 2);
}

TEST(RunRecordTest, ReadsBackWhatItPrints) {
  const RunRecord run = MakeRun("enhanced_rl", 7, 1.0 / 3, 0.1, 0.7);
  ASSERT_OK_AND_ASSIGN(const RunRecord read, ParseRunRecord(PrintRunRecord(run)));
  EXPECT_EQ(PrintRunRecord(read), PrintRunRecord(run));
  EXPECT_EQ(read.learned.mean_return, 1.0 / 3);
  EXPECT_EQ(read.curve.size(), 2U);
}

TEST(RunRecordTest, RefusesWhatIsNoRecord) {
  EXPECT_THAT(ParseRunRecord("{}"), HasCode(Code::kCorrupt));
  EXPECT_THAT(ParseRunRecord("{\"format\":1}"), HasCode(Code::kCorrupt));
  EXPECT_THAT(ParseRunRecord("half a fi"), HasCode(Code::kCorrupt));
}

TEST(SummaryTest, OrdersAlgorithmsByReturnAndCountsOverSeeds) {
  // when
  const ComparisonSummary summary = Summarise(Runs());

  // then
  ASSERT_EQ(summary.algorithms.size(), 2U);
  const AlgorithmSummary& a = summary.algorithms[0];
  EXPECT_EQ(a.algorithm, "a");
  EXPECT_THAT(a.seeds, ElementsAre(1, 2, 3));
  EXPECT_THAT(a.gap_closed.values, ElementsAre(0.5, 0.75, 1.0));
  EXPECT_THAT(a.regret.values, ElementsAre(5, 2.5, 0));
  EXPECT_NEAR(a.mean_return.interval.mean, 48.5 / 3, 1e-12);
  EXPECT_EQ(a.versions, 12U);
  EXPECT_EQ(a.versions_accepted, 9U);
  // The references have each seed once, whoever ran it: 10, 10, 12 and 20, 20, 16.
  EXPECT_NEAR(summary.fixed.mean_return.interval.mean, 32.0 / 3, 1e-12);
  EXPECT_NEAR(summary.best.mean_return.interval.mean, 56.0 / 3, 1e-12);
}

TEST(SummaryTest, PairsOnlySeedsThatBothHave) {
  const ComparisonSummary summary = Summarise(Runs());
  const SeedValues difference = PairedDifference(summary.algorithms[0], summary.algorithms[1]);
  EXPECT_THAT(difference.values, ElementsAre(0.25, 0.25));
  EXPECT_DOUBLE_EQ(difference.interval.lower, 0.25);
}

TEST(SummaryTest, ACurveIsTheMeanOfEachPointOverSeeds) {
  const auto curve = SummariseCurve(Runs(), "a");
  ASSERT_EQ(curve.size(), 2U);
  EXPECT_DOUBLE_EQ(curve[0].sessions, 52);
  EXPECT_NEAR(curve[0].mean_return.mean, 48.5 / 6, 1e-12);
  EXPECT_NEAR(curve[1].mean_return.mean, 48.5 / 3, 1e-12);
}

TEST(SummaryTest, NothingBetweenStaticAndBestIsNoGapClosed) { EXPECT_EQ(MakeRun("a", 1, 12, 10, 10).gap_closed(), 0); }

TEST(TablesTest, RowsSayWhatWasComputedByHand) {
  const std::string table = MarkdownOf(Summarise(Runs()));
  // b: returns 12.5 and 15: mean 13.75, error 1.25, quantile 12.7062; gaps 25 and 50.
  EXPECT_THAT(table, HasSubstr("| b | 13.75 [-2.13, 29.63] | 6.88 [-1.07, 14.82] | 137.50 [-21.33, 296.33] | 6.25 [-9.63, 22.13] | "
                               "37.50 [-121.33, 196.33] | 25, 50 | 8 / 6 | 7 |"));
  EXPECT_THAT(table, HasSubstr("| *known optimum* | 18.67"));
  EXPECT_THAT(table, HasSubstr("| *static weights* | 10.67"));
  EXPECT_THAT(table, HasSubstr("| a | | **+25.0** |"));
  EXPECT_THAT(table, HasSubstr("| b | **-25.0** | |"));
}

TEST(TablesTest, OneRowForEachRunAndForEachPoint) {
  const std::string runs = RunsCsv(Runs()), curves = CurvesCsv(Runs());
  EXPECT_EQ(std::count(runs.begin(), runs.end(), '\n'), 1 + 5);
  EXPECT_EQ(std::count(curves.begin(), curves.end(), '\n'), 1 + 5 * 2);
  EXPECT_THAT(runs, HasSubstr("\na,2,17.5,8.75,175,4,10,10,20,2.5,0.75,4,3,0,0,7.000\n"));
  EXPECT_THAT(curves, HasSubstr("\na,2,52,8.75,1,2,3,2,0.5\n"));
}

TEST(ChartsTest, AreWellFormedWithEveryAlgorithmAndSeed) {
  const auto runs = Runs();
  const ComparisonSummary summary = Summarise(runs);
  const std::string curves = CurvesSvg(runs, summary), gaps = GapClosedSvg(summary);
  EXPECT_EQ(test::WhyNotWellFormed(curves), "");
  EXPECT_EQ(test::WhyNotWellFormed(gaps), "");
  EXPECT_THAT(curves, HasSubstr(">a</text>"));
  std::size_t dots = 0;
  for (std::size_t at = gaps.find("<circle"); at != std::string::npos; at = gaps.find("<circle", at + 1)) ++dots;
  EXPECT_EQ(dots, 5U);
}

TEST(ChartsTest, OneRunWithOnePointIsDrawn) {
  auto run = MakeRun("a<b", 1, 5, 5, 5);
  run.curve.resize(1);
  const ComparisonSummary summary = Summarise(std::vector{run});
  EXPECT_EQ(test::WhyNotWellFormed(CurvesSvg({run}, summary)), "");
  EXPECT_EQ(test::WhyNotWellFormed(GapClosedSvg(summary)), "");
}

}  // namespace
}  // namespace fuseline
