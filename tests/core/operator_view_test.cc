// What operators see: log lines, metrics, the HTTP server.

#include <algorithm>
#include <functional>

#include <gtest/gtest.h>

#include "fuseline/core/http.h"
#include "fuseline/core/log.h"
#include "fuseline/core/metrics.h"
#include "fuseline/test_support/matchers.h"

namespace fuseline {
namespace {

using testing::HasSubstr;

std::string Logged(Severity least, const std::function<void(Log&)>& body) {
  testing::internal::CaptureStderr();
  Log log(least);
  body(log);
  return testing::internal::GetCapturedStderr();
}

TEST(LogTest, AValueIsQuotedWhenItMustBeAndNeverBreaksItsLine) {
  const auto line = Logged(Severity::kInfo, [](Log& log) {
    log.Error("ingest.record_refused", "partition", 3, "reason", "two words", "id", "a\"b", "text", "x\ny", "none", "", "k", "a=b");
  });
  EXPECT_THAT(line, HasSubstr(R"(error ingest.record_refused partition=3 reason="two words" id="a\"b" text="x y" none="" k="a=b")"));
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
}

TEST(LogTest, WhatIsLessSevereIsNotWritten) {
  EXPECT_EQ(Logged(Severity::kWarn, [](Log& log) { log.Info("room.noun_verb"), log.Debug("room.noun_verb"); }), "");
  EXPECT_NE(Logged(Severity::kWarn, [](Log& log) { log.Warn("room.noun_verb"); }), "");
  EXPECT_EQ(*ParseSeverity("warn"), Severity::kWarn);
  EXPECT_THAT(ParseSeverity("loud"), HasCode(Code::kInvalidInput));
}

TEST(MetricsTest, TheSameNameAndLabelsAreTheSameMetric) {
  Metrics metrics;
  metrics.GetCounter("fuseline_ingest_records_total", "records read", {{"fate", "used"}}).Increment(2);
  metrics.GetCounter("fuseline_ingest_records_total", "records read", {{"fate", "used"}}).Increment();
  metrics.GetCounter("fuseline_ingest_records_total", "records read", {{"fate", "late"}}).Increment();
  metrics.GetGauge("fuseline_ingest_lag_ms", "lag").Set(-1.5);
  metrics.GetHistogram("fuseline_ranker_latency_ms", "latency", {1, 10}).Observe(5);

  const auto text = metrics.Text();

  EXPECT_THAT(text, HasSubstr("# HELP fuseline_ingest_records_total records read"));
  EXPECT_THAT(text, HasSubstr("# TYPE fuseline_ingest_records_total counter"));
  EXPECT_THAT(text, HasSubstr("fuseline_ingest_records_total{fate=\"used\"} 3"));
  EXPECT_THAT(text, HasSubstr("fuseline_ingest_records_total{fate=\"late\"} 1"));
  EXPECT_THAT(text, HasSubstr("fuseline_ingest_lag_ms -1.5"));
  EXPECT_THAT(text, HasSubstr("fuseline_ranker_latency_ms_bucket{le=\"1\"} 0"));
  EXPECT_THAT(text, HasSubstr("fuseline_ranker_latency_ms_bucket{le=\"10\"} 1"));
}

TEST(HttpServerTest, AnswersItsPathsAndNoOther) {
  HttpServer server;
  server.Get("/livez", [] { return HttpServer::Response{.body = "alive\n"}; });
  server.Get("/readyz", [] { return HttpServer::Response{.code = 503, .body = "not yet\n"}; });
  ASSERT_THAT(server.Start("127.0.0.1:0"), IsOk());
  const auto address = "127.0.0.1:" + std::to_string(server.port());

  EXPECT_EQ(HttpGet(address, "/livez", 10'000), "alive\n");
  EXPECT_THAT(HttpGet(address, "/readyz", 10'000), HasCode(Code::kInternal));
  EXPECT_THAT(HttpGet(address, "/other", 10'000), HasCode(Code::kNotFound));

  HttpServer second;
  EXPECT_THAT(second.Start("not an address"), HasCode(Code::kInvalidInput));
  EXPECT_THAT(second.Start("127.0.0.1:70000"), HasCode(Code::kInvalidInput));
}

}  // namespace
}  // namespace fuseline
