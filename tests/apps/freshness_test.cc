// The three freshness figures, and the stages of the pipeline delay: what counts as an observation, and what they add
// up to.
#include "freshness.h"

#include <cmath>
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

  Metrics metrics_;
  Freshness freshness_{metrics_};
};

TEST_F(FreshnessTest, StagesAddUpToThePipelineDelayAndWithTheDecisionDelayToTheSum) {
  // Given a session that closed 30 s of event time after its last event, at wall time 1,000
  freshness_.Closed(Session(0, 7, /*last_ms=*/50'000, /*stream_time_ms=*/80'000), /*wall_ms=*/1'000);
  // When a version knows it at 1,400, is published at 1,410 and in use at 1,425
  freshness_.Learned(3, UpTo(0, 7), 1'400);
  freshness_.Published(3, 1'410);
  freshness_.InUse(3, 1'425);
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
  freshness_.Published(1, 9'250);
  freshness_.Published(1, 99'250);  // A repeat is no second publication.
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
  for (const std::uint64_t version : {1, 2}) freshness_.Published(version, 300);
  freshness_.InUse(1, 400);
  EXPECT_EQ(freshness_.MakeReport().sum.observations, 1U);
  EXPECT_EQ(freshness_.MakeReport().pipeline.p99_ms, 300);
  freshness_.InUse(2, 400);
  freshness_.InUse(2, 500);
  EXPECT_EQ(freshness_.MakeReport().sum.observations, 3U);
  EXPECT_EQ(freshness_.MakeReport().pipeline.p99_ms, 300) << "p99 of {300, 300, 400}, from below";
  freshness_.InUse(7, 600);
  EXPECT_EQ(freshness_.MakeReport().sum.observations, 3U) << "a version of another life";
}

TEST_F(FreshnessTest, ARankersClockThatIsBehindMakesNoNegativeDelay) {
  freshness_.Closed(Session(0, 1, 0, 10), 1'000);
  freshness_.Learned(1, UpTo(0, 1), 1'100);
  freshness_.Published(1, 1'120);
  freshness_.InUse(1, 500);
  const Freshness::Report report = freshness_.MakeReport();
  EXPECT_EQ(report.in_use.p50_ms, 0);
  EXPECT_EQ(report.pipeline.p50_ms, 120);
}

}  // namespace
}  // namespace fuseline
