// Each way in which feedback can come has its account and its rewards, through the whole stage: what is printed is the
// account at the end of the input, then the trajectories.

#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/sessionizer/sessionizer.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"
#include "session_events.h"

namespace fuseline::test {
namespace {

constexpr std::int64_t kMinuteMs = 60'000;

class FeedbackAccountTest : public ::testing::Test {
 protected:
  FeedbackAccountTest() : log_(Severity::kError) {
    v1::Sessionizer settings;
    settings.set_gap_ms(30 * kMinuteMs);
    settings.set_lateness_ms(2 * kMinuteMs);
    settings.set_max_events(100);
    settings.set_max_trajectory_bytes(1 << 20);
    settings.set_commit_records(1'000'000);
    settings.set_commit_interval_ms(60'000);
    settings.set_max_outbox(1'000);
    settings.set_max_memory_bytes(64 << 20);
    auto opened = Sessionizer::Open(dir_ / "sessions", settings, clock_, log_, metrics_);
    EXPECT_THAT(opened, IsOk());
    if (opened) sessionizer_ = *std::move(opened);
  }

  // The events in order of arrival, then the end of the input.
  std::string Outcome(const std::vector<v1::Event>& events) {
    EventBatch batch;
    for (const v1::Event& event : events) batch.records.push_back(RecordOf(batch.next_offset++, event, batch.bytes));
    batch.end_of_input = true;
    EXPECT_THAT(sessionizer_->Process(std::move(batch)), IsOk());
    EXPECT_THAT(sessionizer_->Commit(), IsOk());
    std::string outcome = Print(sessionizer_->Position(0).accounting);
    const auto entries = sessionizer_->Outbox(0, std::nullopt, 100);
    EXPECT_THAT(entries, IsOk());
    if (entries) {
      for (const OutboxEntry& entry : *entries) outcome += " | " + Rewards(entry.bytes);
    }
    return outcome;
  }

 private:
  // "r1: i1 clicks=1, i2 -"
  static std::string Rewards(const std::string& bytes) {
    v1::Trajectory trajectory;
    EXPECT_TRUE(trajectory.ParseFromString(bytes));
    std::string out;
    for (const v1::Step& step : trajectory.steps()) {
      out += (out.empty() ? "" : "; ") + step.exposure().request_id() + ':';
      for (int i = 0; i < step.rewards_size(); ++i) {
        const std::string said = step.rewards(i).ShortDebugString();
        out += (i == 0 ? " " : ", ") + step.exposure().items(i).item_id() + ' ' + (said.empty() ? "-" : said);
      }
    }
    return out;
  }

  TempDir dir_;
  SystemClock clock_;
  Log log_;
  Metrics metrics_;
  std::unique_ptr<Sessionizer> sessionizer_;
};

v1::Event Shown(std::int64_t time_ms, const std::string& id = "shown", const std::string& request = "r1") {
  return ExposureEvent("u", time_ms, id, request, {"i1", "i2"});
}
v1::Event Click(std::int64_t time_ms, const std::string& id = "click", const std::string& item = "i1") {
  return FeedbackEvent("u", time_ms, id, "r1", item);
}
v1::Event Watch(std::int64_t time_ms, const std::string& id, std::int64_t watch_ms) {
  return FeedbackEvent("u", time_ms, id, "r1", "i1", v1::Feedback::WATCH, watch_ms);
}

TEST_F(FeedbackAccountTest, BeforeItsExposureItIsUsed) {
  EXPECT_EQ(Outcome({Click(1'000), Shown(2'000)}), "read=2 used=2 | r1: i1 clicks: 1, i2 -");
}

TEST_F(FeedbackAccountTest, MinutesAfterItsExposureItIsUsed) {
  EXPECT_EQ(Outcome({Shown(0), Click(30 * kMinuteMs)}), "read=2 used=2 | r1: i1 clicks: 1, i2 -");
}

TEST_F(FeedbackAccountTest, SentTwiceItIsADuplicateAndDoneTwiceItCountsTwice) {
  EXPECT_EQ(Outcome({Shown(0), Click(1), Click(1), Click(2, "again")}), "read=4 used=3 dup=1 | r1: i1 clicks: 2, i2 -");
}

TEST_F(FeedbackAccountTest, ForAnItemNeverShownItIsAnOrphan) {
  EXPECT_EQ(Outcome({Shown(0), Click(1, "click", "i9")}), "read=2 used=1 orphan=1 | r1: i1 -, i2 -");
}

TEST_F(FeedbackAccountTest, OfASessionThatHasClosedItIsLate) {
  EXPECT_EQ(Outcome({Shown(0), FeedbackEvent("other", 33 * kMinuteMs, "clock"), Click(1)}),
            "read=3 used=1 late=1 orphan=1 | r1: i1 -, i2 -");
}

TEST_F(FeedbackAccountTest, BehindTheGapItIsAnOrphanOfASessionWithoutExposure) {
  EXPECT_EQ(Outcome({Shown(0), Click(30 * kMinuteMs + 1)}), "read=2 used=1 orphan=1 | r1: i1 -, i2 -");
}

TEST_F(FeedbackAccountTest, WatchTimeReportedSeveralTimesIsTheLargest) {
  EXPECT_EQ(Outcome({Shown(0), Watch(1, "a", 4'000), Watch(2, "b", 9'000), Watch(3, "c", 7'000)}),
            "read=4 used=4 | r1: i1 watch_ms: 9000, i2 -");
}

}  // namespace
}  // namespace fuseline::test
