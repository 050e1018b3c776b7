// The rules of time and sessions, each by a stream of a few records and a literal of what must come of it.

#include "fuseline/sessionizer/partition_sessions.h"

#include <algorithm>
#include <array>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fuseline/core/digest.h"
#include "fuseline/test_support/matchers.h"
#include "session_events.h"

namespace fuseline::test {
namespace {

using ::testing::IsEmpty;

// A partition that is fed one event after the other.
class Stream {
 public:
  explicit Stream(const SessionShape& shape, std::int64_t max_bytes = 1 << 20) : sessions_(0, shape, max_bytes) {}

  PartitionSessions::Processed Feed(const v1::Event& event, RecordFate fate = RecordFate::kEvent) {
    Record record = RecordOf(sessions_.state().next_offset(), event, bytes_);
    record.fate = fate;
    auto processed = sessions_.Process(record);
    EXPECT_THAT(processed, IsOk());
    EXPECT_EQ(sessions_.state().accounting().read(), Accounted(sessions_.state().accounting()));
    return *std::move(processed);
  }
  std::string Closed(v1::Event event) { return Print(Feed(std::move(event)).closings); }
  Verdict VerdictOn(v1::Event event) { return Feed(std::move(event)).verdict; }

  PartitionSessions& sessions() { return sessions_; }
  std::vector<Closing> Flush() { return *sessions_.Flush(); }
  std::uint64_t open_sessions() const { return sessions_.state().open_sessions(); }
  std::string Account() { return Print(sessions_.state().accounting()); }
  std::int64_t stream_time_ms() { return sessions_.state().stream_time_ms(); }

 private:
  PartitionSessions sessions_;
  ByteArena bytes_;
};

v1::Event Click(const std::string& user, std::int64_t time_ms, const std::string& id) {
  return FeedbackEvent(user, time_ms, id);
}

TEST(PartitionSessionsTest, EveryArrivalOrderWithinTheLatenessGivesTheSameSessions) {
  std::array<int, 5> order{};
  std::iota(order.begin(), order.end(), 0);
  const std::array events{Click("u", 0, "a"), ExposureEvent("u", 700, "b", "r1"), Click("u", 700, "c"),
                          ExposureEvent("u", 2'900, "d", "r2"), Click("v", 1'700, "e")};
  do {
    Stream stream({.gap_ms = 1'000, .lateness_ms = 10'000});
    for (const int i : order) ASSERT_EQ(stream.VerdictOn(events[i]), Verdict::kAccepted);

    const std::string closed = Print(stream.Flush());

    EXPECT_EQ(closed, "u [0,700] n=3 FLUSHED | u [2900,2900] n=1 FLUSHED | v [1700,1700] n=1 FLUSHED");
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST(PartitionSessionsTest, ADistanceEqualToTheGapStillJoins) {
  Stream stream({.gap_ms = 10, .lateness_ms = 100});
  stream.Feed(Click("u", 0, "a"));
  stream.Feed(Click("u", 10, "b"));
  stream.Feed(Click("u", 21, "c"));

  EXPECT_EQ(Print(stream.Flush()), "u [0,10] n=2 FLUSHED | u [21,21] n=1 FLUSHED");
}

TEST(PartitionSessionsTest, AnEventBetweenTwoSessionsJoinsThem) {
  Stream stream({.gap_ms = 10, .lateness_ms = 100});
  stream.Feed(Click("u", 0, "a"));
  stream.Feed(Click("u", 20, "b"));
  EXPECT_EQ(stream.open_sessions(), 2u);

  stream.Feed(Click("u", 10, "c"));

  EXPECT_EQ(stream.open_sessions(), 1u);
  EXPECT_EQ(Print(stream.Flush()), "u [0,20] n=3 FLUSHED");
}

TEST(PartitionSessionsTest, AnEventExactlyAsOldAsTheLatenessIsAcceptedAndOneOlderIsLate) {
  Stream stream({.gap_ms = 10, .lateness_ms = 5});
  stream.Feed(Click("u", 100, "a"));

  EXPECT_EQ(stream.VerdictOn(Click("u", 95, "b")), Verdict::kAccepted);
  EXPECT_EQ(stream.VerdictOn(Click("u", 94, "c")), Verdict::kLate);
  EXPECT_EQ(stream.VerdictOn(Click("new", 94, "d")), Verdict::kLate);
  EXPECT_EQ(stream.Account(), "read=4 pending=2 late=2");
}

TEST(PartitionSessionsTest, AnOpenSessionDoesNotRescueALateEvent) {
  Stream stream({.gap_ms = 50, .lateness_ms = 5});
  stream.Feed(Click("u", 80, "a"));
  stream.Feed(Click("u", 100, "b"));

  EXPECT_EQ(stream.VerdictOn(Click("u", 90, "c")), Verdict::kLate);
}

TEST(PartitionSessionsTest, ASessionClosesOnlyOnceItsEndIsMoreThanGapAndLatenessBehind) {
  Stream stream({.gap_ms = 10, .lateness_ms = 5});
  stream.Feed(Click("u", 0, "a"));

  EXPECT_EQ(stream.Closed(Click("v", 15, "b")), "");
  EXPECT_EQ(stream.Closed(Click("v", 16, "c")), "u [0,0] n=1 TERMINATED");
  EXPECT_EQ(stream.Account(), "read=3 pending=2 orphan=1");
}

TEST(PartitionSessionsTest, WithGapAndLatenessZeroOnlyEqualTimesAreASession) {
  Stream stream({.gap_ms = 0, .lateness_ms = 0});
  stream.Feed(Click("u", 0, "a"));
  stream.Feed(Click("u", 0, "b"));

  EXPECT_EQ(stream.Closed(Click("u", 1, "c")), "u [0,0] n=2 TERMINATED");
  EXPECT_EQ(stream.VerdictOn(Click("u", 0, "d")), Verdict::kLate);
}

TEST(PartitionSessionsTest, OneRecordClosesSessionsByUserThenFirstEvent) {
  Stream stream({.gap_ms = 10, .lateness_ms = 100});
  stream.Feed(Click("v", 0, "a"));
  stream.Feed(Click("u", 40, "b"));
  stream.Feed(Click("u", 5, "c"));
  stream.Feed(Click("t", 50, "d"));

  EXPECT_EQ(stream.Closed(Click("z", 1'000, "e")),
            "t [50,50] n=1 TERMINATED | u [5,5] n=1 TERMINATED | u [40,40] n=1 TERMINATED | v [0,0] n=1 TERMINATED");
}

TEST(PartitionSessionsTest, ARepeatedIdInAnOpenSessionIsADuplicateAndMovesNothing) {
  Stream stream({.gap_ms = 10, .lateness_ms = 5});
  stream.Feed(Click("u", 0, "a"));

  EXPECT_EQ(stream.VerdictOn(Click("u", 0, "a")), Verdict::kDuplicate);
  EXPECT_EQ(stream.VerdictOn(Click("u", 1'000, "a")), Verdict::kDuplicate);  // Same id, another time.
  EXPECT_EQ(stream.VerdictOn(Click("v", 0, "a")), Verdict::kAccepted);       // Another user's.

  EXPECT_EQ(stream.stream_time_ms(), 0);
  EXPECT_EQ(stream.Account(), "read=4 pending=2 dup=2");
}

TEST(PartitionSessionsTest, AResendIsLateOnceItIsOlderThanTheLatenessWhetherOrNotItsSessionIsOpen) {
  Stream stream({.gap_ms = 100, .lateness_ms = 5});
  stream.Feed(Click("u", 0, "a"));
  stream.Feed(Click("u", 6, "b"));

  EXPECT_EQ(stream.VerdictOn(Click("u", 0, "a")), Verdict::kLate);
  stream.Feed(Click("v", 1'000, "c"));
  EXPECT_EQ(stream.VerdictOn(Click("u", 0, "a")), Verdict::kLate);
  EXPECT_EQ(stream.VerdictOn(Click("u", 1'000, "a")), Verdict::kAccepted);  // Its session is closed: a new event.
}

TEST(PartitionSessionsTest, LateMalformedAndQuarantinedRecordsMoveNothing) {
  Stream stream({.gap_ms = 10, .lateness_ms = 5});
  stream.Feed(Click("u", 0, "a"));

  stream.Feed(Click("u", 9'999, "b"), RecordFate::kMalformed);
  stream.Feed(Click("u", 9'999, "c"), RecordFate::kQuarantined);

  EXPECT_EQ(stream.stream_time_ms(), 0);
  EXPECT_EQ(stream.sessions().state().next_offset(), 3);
  EXPECT_EQ(stream.Account(), "read=3 pending=1 bad=1 quarantined=1");
}

TEST(PartitionSessionsTest, ATickCountsOnlyDirectlyBehindTheRecordThatItsAuthorRead) {
  Stream stream({.gap_ms = 10, .lateness_ms = 5});
  EXPECT_EQ(stream.Closed(TickEvent(50, 7)), "");  // Nothing is before it.
  stream.Feed(Click("u", 0, "a"));                 // Offset 1.
  EXPECT_EQ(stream.Closed(TickEvent(100, 0)), "");
  EXPECT_EQ(stream.stream_time_ms(), 0);

  EXPECT_EQ(stream.Closed(TickEvent(100, 2)), "u [0,0] n=1 TERMINATED");  // Behind the void tick.
  EXPECT_EQ(stream.stream_time_ms(), 100);
  EXPECT_EQ(stream.Closed(TickEvent(50, 3)), "");
  EXPECT_EQ(stream.stream_time_ms(), 100);
  EXPECT_EQ(stream.Account(), "read=5 orphan=1 control=4");
}

class CutLines : public ::testing::Test {
 protected:
  static constexpr std::int64_t kCutEvery = 1'000;
  // The first cut line of user "u" that leaves room before it.
  const std::int64_t line_ = CutPhase(Fnv1a64("u"), kCutEvery) + kCutEvery;
};

TEST_F(CutLines, ThePhaseIsAHashOfTheUser) {
  EXPECT_EQ(CutPhase(Fnv1a64("u"), kCutEvery), static_cast<std::int64_t>(Fnv1a64("u") % 1'000));
  EXPECT_EQ(CutPhase(Fnv1a64("u"), 0), 0);
}

TEST_F(CutLines, AnEventAtTheInstantBelongsToTheNextCellAndTruncatesTheSessionBefore) {
  Stream stream({.gap_ms = 10, .lateness_ms = 5, .cut_every_ms = kCutEvery});
  stream.Feed(ExposureEvent("u", line_ - 1, "a", "r1"));
  stream.Feed(ExposureEvent("u", line_, "b", "r2"));

  const auto closings = stream.Feed(ExposureEvent("v", line_ + 15, "c", "r3")).closings;

  ASSERT_EQ(closings.size(), 1u);
  EXPECT_EQ(closings[0].end, v1::TRUNCATED);
  EXPECT_EQ(closings[0].last_ms, line_ - 1);
  EXPECT_EQ(TrajectoryOf(closings[0])->next_step().exposure().request_id(), "r2");
  EXPECT_EQ(TrajectoryOf(closings[0])->next_step().event_time_ms(), line_);
  EXPECT_EQ(TrajectoryOf(closings[0])->next_step().rewards_size(), 0);
}

TEST_F(CutLines, AUserWhoComesBackExactlyTheGapLaterTruncatesAndOneLaterDoesNot) {
  for (const std::int64_t distance : {10, 11}) {
    Stream stream({.gap_ms = 10, .lateness_ms = 5, .cut_every_ms = kCutEvery});
    stream.Feed(ExposureEvent("u", line_ - 1, "a", "r1"));
    stream.Feed(ExposureEvent("u", line_ - 1 + distance, "b", "r2"));

    const auto closings = stream.Feed(Click("v", line_ + 500, "c")).closings;

    ASSERT_EQ(closings.size(), 2u);
    EXPECT_EQ(closings[0].end, distance == 10 ? v1::TRUNCATED : v1::TERMINATED);
    EXPECT_EQ(TrajectoryOf(closings[0])->has_next_step(), distance == 10);
    EXPECT_EQ(closings[1].end, v1::TERMINATED);
  }
}

TEST_F(CutLines, ATruncatedSessionWithoutARequestWithinTheGapHasNoNextStep) {
  Stream stream({.gap_ms = 10, .lateness_ms = 50, .cut_every_ms = kCutEvery});
  stream.Feed(ExposureEvent("u", line_ - 1, "a", "r1"));
  stream.Feed(Click("u", line_, "b"));
  stream.Feed(ExposureEvent("u", line_ + 10, "c", "r2"));  // 11 after the end.

  const auto closings = stream.Feed(Click("u", line_ + 60, "d")).closings;

  ASSERT_EQ(closings.size(), 1u);
  EXPECT_EQ(closings[0].end, v1::TRUNCATED);
  EXPECT_FALSE(TrajectoryOf(closings[0])->has_next_step());
}

TEST_F(CutLines, AnEventCannotJoinTwoSessionsAcrossALine) {
  Stream stream({.gap_ms = 10, .lateness_ms = 50, .cut_every_ms = kCutEvery});
  stream.Feed(Click("u", line_ - 8, "a"));
  stream.Feed(Click("u", line_ + 5, "b"));
  stream.Feed(Click("u", line_ - 2, "c"));

  EXPECT_EQ(stream.open_sessions(), 2u);
  const auto closings = stream.Flush();
  ASSERT_EQ(closings.size(), 2u);
  EXPECT_EQ(closings[0].events, 2u);
  EXPECT_EQ(closings[0].end, v1::FLUSHED);
}

TEST_F(CutLines, NegativeTimesRelativeToThePhaseHaveACellOfTheirOwn) {
  Stream stream({.gap_ms = 5'000, .lateness_ms = 5'000, .cut_every_ms = kCutEvery});
  const std::int64_t phase = CutPhase(Fnv1a64("u"), kCutEvery);
  ASSERT_GT(phase, 0);
  stream.Feed(Click("u", 0, "a"));
  stream.Feed(Click("u", phase - 1, "b"));
  stream.Feed(Click("u", phase, "c"));

  EXPECT_EQ(stream.open_sessions(), 2u);
}

TEST(PartitionSessionsTest, EventsPastTheLimitAreCountedAndLeftOutWhateverTheOrderOfArrival) {
  std::array<int, 4> order{0, 1, 2, 3};
  const std::array events{ExposureEvent("u", 0, "a", "r1"), Click("u", 1, "b"), Click("u", 2, "c"),
                          FeedbackEvent("u", 3, "d", "no such request")};
  do {
    Stream stream({.gap_ms = 10, .lateness_ms = 10, .max_events = 2});
    for (const int i : order) stream.Feed(events[i]);
    EXPECT_EQ(stream.VerdictOn(events[3]), Verdict::kDuplicate);

    const auto closings = stream.Flush();

    EXPECT_EQ(Print(closings), "u [0,3] n=4 FLUSHED");
    EXPECT_EQ(TrajectoryOf(closings[0])->events(), 4u);
    EXPECT_EQ(TrajectoryOf(closings[0])->steps(0).rewards(0).clicks(), 1u);
    EXPECT_EQ(stream.Account(), "read=5 used=4 dup=1 over=2");
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST(PartitionSessionsTest, DuplicatesAreFoundInLongSessionsToo) {
  Stream stream({.gap_ms = 10, .lateness_ms = 10'000, .max_events = 100});
  for (int i = 0; i < 500; ++i) stream.Feed(Click("u", i * 7 % 500, "e" + std::to_string(i)));

  for (int i = 0; i < 500; ++i) {
    ASSERT_EQ(stream.VerdictOn(Click("u", 499 - i, "e" + std::to_string(i))), Verdict::kDuplicate) << i;
  }
  EXPECT_EQ(stream.Account(), "read=1000 pending=500 dup=500");
}

TEST(PartitionSessionsTest, NamesCountTheSessionsWithAnExposureAndEachCarriesTheOneBefore) {
  Stream stream({.gap_ms = 10, .lateness_ms = 5});
  stream.Feed(ExposureEvent("c", 0, "1", "r1"));
  stream.Feed(Click("b", 0, "2"));
  stream.Feed(ExposureEvent("a", 1, "3", "r1"));

  const auto first = stream.Feed(ExposureEvent("d", 100, "4", "r1")).closings;  // Offset 3.
  const auto flushed = stream.Flush();

  ASSERT_EQ(first.size(), 3u);
  EXPECT_EQ(TrajectoryOf(first[0])->ShortDebugString().substr(0, 22), "name { offset: 3 } use");
  EXPECT_FALSE(TrajectoryOf(first[1]).has_value());
  EXPECT_EQ(TrajectoryOf(first[2])->name().ordinal(), 1u);
  EXPECT_EQ(TrajectoryOf(first[2])->predecessor().offset(), 3);
  EXPECT_EQ(TrajectoryOf(first[2])->predecessor().ordinal(), 0u);
  EXPECT_EQ(TrajectoryOf(first[2])->stream_time_ms(), 100);
  ASSERT_EQ(flushed.size(), 1u);
  EXPECT_EQ(TrajectoryOf(flushed[0])->name().offset(), 4);  // The next offset.
  EXPECT_EQ(TrajectoryOf(flushed[0])->predecessor().ordinal(), 1u);
  EXPECT_THAT(stream.Flush(), IsEmpty());
}

TEST(PartitionSessionsTest, LowWaterIsACommitPointNotAboveTheOldestRecordOfAnyOpenSession) {
  Stream stream({.gap_ms = 10, .lateness_ms = 20});
  EXPECT_EQ(stream.sessions().low_water().offset(), 0);
  stream.Feed(Click("u", 50, "a"));      // Offset 0.
  stream.Feed(Click("x", 0, "late"));    // Offset 1.
  stream.Feed(Click("v", 40, "b"));      // Offset 2.
  stream.sessions().Forget();            // A commit.
  stream.Feed(Click("v", 75, "c"));      // Offset 3: closes nothing yet.
  EXPECT_EQ(stream.sessions().low_water().offset(), 0);
  EXPECT_EQ(stream.sessions().low_water().previous_offset(), -1);

  stream.Feed(Click("w", 81, "d"));      // Closes u [50] and v [40].

  const v1::CommitPoint low = stream.sessions().low_water();
  EXPECT_EQ(low.offset(), 3);
  EXPECT_EQ(low.previous_offset(), 2);
  EXPECT_EQ(low.stream_time_ms(), 50);
}

}  // namespace
}  // namespace fuseline::test
