// The three freshness figures, and the stages of the pipeline delay: what counts as an observation, and what they add
// up to.
#include "freshness.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <string>

#include <gtest/gtest.h>

namespace fuseline {
namespace {

v1::Trajectory Session(std::int32_t partition, std::int64_t offset, std::int64_t last_ms, std::int64_t stream_time_ms) {
  v1::Trajectory trajectory;
  trajectory.mutable_name()->set_partition(partition);
  trajectory.mutable_name()->set_offset(offset);
  trajectory.set_last_ms(last_ms);
  trajectory.set_stream_time_ms(stream_time_ms);
  return trajectory;
}

std::map<std::int32_t, v1::TrajectoryName> UpTo(std::int32_t partition, std::int64_t offset) {
  v1::TrajectoryName name;
  name.set_partition(partition);
  name.set_offset(offset);
  return {{partition, name}};
}

class FreshnessTest : public testing::Test {
 protected:
  // What /metrics says of one histogram, by the end of its name and labels: "_count{…}" or "_sum{…}".
  double Metric(const std::string& line) {
    const std::string text = metrics_.Text();
    const std::size_t at = text.find(line + ' ');
    return at == std::string::npos ? std::nan("") : std::stod(text.substr(at + line.size()));
  }

  // A session closes, and a version that knows it is made and published in the same moment.
  void Teach(std::uint64_t version, std::int64_t wall_ms, bool is_live = true) {
    freshness_.Closed(Session(0, static_cast<std::int64_t>(version), 0, 10), wall_ms);
    freshness_.Learned(version, UpTo(0, static_cast<std::int64_t>(version)), wall_ms);
    freshness_.Published(version, is_live, wall_ms);
  }
  std::uint64_t Observations() { return freshness_.MakeReport().sum.observations; }

  Metrics metrics_;
  Freshness freshness_{metrics_};
};

TEST_F(FreshnessTest, StagesAddUpToThePipelineDelayAndWithTheDecisionDelayToTheSum) {
  // Given a session that closed 30 s of event time after its last event, at wall time 1,000
  freshness_.Closed(Session(0, 7, /*last_ms=*/50'000, /*stream_time_ms=*/80'000), /*wall_ms=*/1'000);
  // When a version knows it at 1,400, is published at 1,410 and in use at 1,425
  freshness_.Learned(3, UpTo(0, 7), 1'400);
  freshness_.Published(3, true, 1'410);
  freshness_.InUse("r", 0, 1);
  freshness_.InUse("r", 3, 1'425);
  // Then
  const Freshness::Report report = freshness_.MakeReport();
  EXPECT_EQ(report.decision.p50_ms, 30'000);
  EXPECT_EQ(report.trained.p50_ms, 400);
  EXPECT_EQ(report.published.p50_ms, 10);
  EXPECT_EQ(report.in_use.p50_ms, 15);
  EXPECT_EQ(report.pipeline.p50_ms, 425);
  EXPECT_EQ(report.sum.p99_ms, 30'425);
  EXPECT_EQ(report.sum.observations, 1U);
  EXPECT_EQ(Metric("fuseline_decision_delay_ms_sum"), 30'000);
  EXPECT_EQ(Metric("fuseline_pipeline_delay_ms_sum{stage=\"trained\"}"), 400);
  EXPECT_EQ(Metric("fuseline_pipeline_delay_ms_sum{stage=\"published\"}"), 10);
  EXPECT_EQ(Metric("fuseline_pipeline_delay_ms_sum{stage=\"in_use\"}"), 15);
  EXPECT_EQ(Metric("fuseline_pipeline_whole_delay_ms_sum"), 425);
  EXPECT_EQ(Metric("fuseline_freshness_ms_sum"), 30'425);
}

TEST_F(FreshnessTest, AStageThatStandsStillShowsInTheHistogramOfThoseBeforeIt) {
  for (const std::int64_t offset : {1, 2}) freshness_.Closed(Session(0, offset, 0, 10), 100);
  freshness_.Learned(1, UpTo(0, 2), 250);
  EXPECT_EQ(Metric("fuseline_pipeline_delay_ms_count{stage=\"trained\"}"), 2);
  EXPECT_EQ(Metric("fuseline_pipeline_delay_ms_count{stage=\"published\"}"), 0) << "Redis is away";
  freshness_.Published(1, true, 9'250);
  freshness_.Published(1, true, 99'250);  // A repeat is no second publication.
  EXPECT_EQ(Metric("fuseline_pipeline_delay_ms_count{stage=\"published\"}"), 2);
  EXPECT_EQ(Metric("fuseline_pipeline_delay_ms_sum{stage=\"published\"}"), 18'000);
  EXPECT_EQ(freshness_.MakeReport().sum.observations, 0U) << "no ranker has taken it up";
}

TEST_F(FreshnessTest, ASessionCountsForTheFirstVersionThatKnowsItAndOnceForEachRanker) {
  freshness_.Closed(Session(0, 1, 0, 10), 100);
  freshness_.Closed(Session(0, 1, 0, 10), 900);  // Offered again: it closed when it closed.
  freshness_.Closed(Session(1, 1, 0, 10), 100);
  freshness_.Learned(1, UpTo(0, 1), 200);
  freshness_.Learned(2, {{0, UpTo(0, 1).at(0)}, {1, UpTo(1, 1).at(1)}}, 300);
  for (const std::uint64_t version : {1, 2}) freshness_.Published(version, true, 300);
  for (const std::string ranker : {"a", "b"}) freshness_.InUse(ranker, 0, 1);
  freshness_.InUse("a", 1, 400);
  EXPECT_EQ(Observations(), 1U);
  EXPECT_EQ(freshness_.MakeReport().pipeline.p99_ms, 300);
  freshness_.InUse("a", 2, 400);
  freshness_.InUse("b", 2, 500);  // Version 1 was followed by 2 before it looked.
  EXPECT_EQ(Observations(), 4U);
  EXPECT_EQ(freshness_.MakeReport().pipeline.p99_ms, 400);
  EXPECT_EQ(Metric("fuseline_pipeline_delay_ms_count{stage=\"in_use\"}"), 4);
  EXPECT_EQ(Metric("fuseline_pipeline_delay_ms_sum{stage=\"in_use\"}"), 100 + 100 + 200 + 200);
  freshness_.InUse("a", 7, 600);
  EXPECT_EQ(Observations(), 4U) << "a version of another life";
}

TEST_F(FreshnessTest, ARollbackAndTheWayBackAreNoSecondUse) {
  Teach(1, 100);
  Teach(2, 200);
  freshness_.InUse("r", 0, 1);
  freshness_.InUse("r", 1, 150);
  freshness_.InUse("r", 2, 250);
  EXPECT_EQ(Observations(), 2U);
  for (const std::uint64_t version : {1, 2, 1, 2}) freshness_.InUse("r", version, 90'000);
  EXPECT_EQ(Observations(), 2U);
  Teach(3, 90'100);
  freshness_.InUse("r", 3, 90'150);
  EXPECT_EQ(Observations(), 3U);
  EXPECT_EQ(freshness_.MakeReport().in_use.p99_ms, 50);
}

TEST_F(FreshnessTest, ARankerThatBeginsLaterCountsFromItsSecondVersionOn) {
  Teach(1, 100);
  freshness_.InUse("new", 1, 3'600'000);  // Started an hour later.
  EXPECT_EQ(Observations(), 0U);
  Teach(2, 3'700'000);
  freshness_.InUse("new", 2, 3'700'020);
  EXPECT_EQ(Observations(), 1U);
  EXPECT_EQ(freshness_.MakeReport().in_use.p99_ms, 20);
  freshness_.Gone("new");
  Teach(3, 3'800'000);
  freshness_.InUse("new", 3, 9'000'000);  // Heard of again, after a long time.
  EXPECT_EQ(Observations(), 1U);
}

TEST_F(FreshnessTest, WhatWasPublishedWhileLiveWasHeldElsewhereIsNoDelayOfThePipeline) {
  freshness_.InUse("r", 0, 1);
  Teach(1, 100);
  freshness_.InUse("r", 1, 110);
  Teach(2, 200, /*is_live=*/false);
  freshness_.InUse("r", 2, 90'000);  // It was let go.
  EXPECT_EQ(Observations(), 1U);
  Teach(3, 90'100);
  freshness_.InUse("r", 3, 90'110);
  EXPECT_EQ(Observations(), 2U);
}

TEST_F(FreshnessTest, TheQuantilesAreThoseOfTheLatestHoweverManyThereWere) {
  // Given as many observations as are kept, all slow, by rankers that take up the same session
  const auto observe = [&](std::uint64_t version, std::size_t rankers, std::int64_t delay_ms) {
    const auto wall_ms = static_cast<std::int64_t>(version) * 100'000;
    Teach(version, wall_ms);
    for (std::size_t i = 0; i < rankers; ++i) {
      const std::string name = std::to_string(i);
      freshness_.InUse(name, 0, 1);
      freshness_.InUse(name, version, wall_ms + delay_ms);
    }
  };
  observe(1, Freshness::kObservationsKept, 9'000);
  ASSERT_EQ(Observations(), Freshness::kObservationsKept);

  // When most that follow are fast
  observe(2, Freshness::kObservationsKept - 2, 50);
  EXPECT_EQ(freshness_.MakeReport().in_use.p50_ms, 50);
  EXPECT_EQ(freshness_.MakeReport().in_use.p99_ms, 50);
  observe(3, Freshness::kObservationsKept / 2, 70);  // Round the end of the ring.

  // Then the quantiles say so, of no more than are kept, while the histograms have all
  EXPECT_EQ(Observations(), Freshness::kObservationsKept);
  EXPECT_EQ(freshness_.MakeReport().in_use.p99_ms, 70);
  EXPECT_EQ(Metric("fuseline_pipeline_delay_ms_count{stage=\"in_use\"}"), Freshness::kObservationsKept * 2.5 - 2);
}

TEST_F(FreshnessTest, HostileTimesOfARankerAreNumbersLikeAnyOther) {
  Teach(1, 100);
  Teach(2, 200);
  freshness_.InUse("r", 0, std::numeric_limits<std::int64_t>::min());
  freshness_.InUse("r", 1, std::numeric_limits<std::int64_t>::max());
  freshness_.InUse("r", 2, std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(Observations(), 2U);
  EXPECT_EQ(freshness_.MakeReport().in_use.p50_ms, 0);
  EXPECT_TRUE(std::isfinite(Metric("fuseline_pipeline_whole_delay_ms_sum")));
}

TEST_F(FreshnessTest, ARankersClockThatIsBehindMakesNoNegativeDelay) {
  freshness_.Closed(Session(0, 1, 0, 10), 1'000);
  freshness_.Learned(1, UpTo(0, 1), 1'100);
  freshness_.Published(1, true, 1'120);
  freshness_.InUse("r", 0, 1);
  freshness_.InUse("r", 1, 500);
  const Freshness::Report report = freshness_.MakeReport();
  EXPECT_EQ(report.in_use.p50_ms, 0);
  EXPECT_EQ(report.pipeline.p50_ms, 120);
}

}  // namespace
}  // namespace fuseline
