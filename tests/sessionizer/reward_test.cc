// What a closed session amounts to: each rule of the join and of the reward components, by a session of a few events and
// a literal of what must come of it; and random sessions, of which the bytes are those that whole messages give.

#include "fuseline/sessionizer/reward.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/core/digest.h"
#include "fuseline/core/random.h"
#include "reward_oracle.h"
#include "session_events.h"

namespace fuseline::test {
namespace {

constexpr std::int64_t kMaxBytes = 1 << 20;

// Events as a session holds them.
struct Joined {
  explicit Joined(const std::vector<v1::Event>& given) {
    for (const v1::Event& event : given) {
      const EventView view = ViewOf(event, bytes);
      events.push_back({.time_ms = view.event_time_ms,
                        .is_exposure = view.kind == EventView::Kind::kExposure,
                        .id = view.event_id,
                        .body = view.body});
    }
  }
  ByteArena bytes;
  std::vector<JoinedEvent> events;
};

struct Outcome : SessionOutcome {
  std::string bytes;
  std::optional<v1::Trajectory> trajectory;
};

TrajectoryHead Head() {
  TrajectoryHead head{.stream_time_ms = 99};
  head.name.set_offset(7);
  head.predecessor.emplace().set_offset(3);
  return head;
}

Outcome OutcomeOf(const SessionToJoin& session, std::int64_t max_bytes = kMaxBytes) {
  const TrajectoryHead head = Head();
  const bool expected = HasTrajectory(session.events);
  Outcome outcome;
  static_cast<SessionOutcome&>(outcome) = JoinRewards(session, expected ? &head : nullptr, max_bytes, &outcome.bytes);
  EXPECT_EQ(!outcome.bytes.empty(), expected);
  if (expected) {
    EXPECT_TRUE(outcome.trajectory.emplace().ParseFromString(outcome.bytes));
  }
  return outcome;
}

// REQUIRES: `events` by (time, id).
Outcome OutcomeOf(const std::vector<v1::Event>& events, std::int64_t max_bytes = kMaxBytes) {
  const Joined joined(events);
  return OutcomeOf({.user_id = "u", .events = joined.events, .events_total = events.size()}, max_bytes);
}

v1::Event Exposure(std::int64_t time_ms, const std::string& request, const std::vector<std::string>& items = {"i1"}) {
  return ExposureEvent("u", time_ms, "exposure-" + std::to_string(time_ms) + request, request, items);
}

v1::Event Feedback(std::int64_t time_ms, v1::Feedback::Kind kind, std::int64_t watch_ms = 0, const std::string& item = "i1",
                   const std::string& request = "r1") {
  return FeedbackEvent("u", time_ms, "feedback-" + std::to_string(time_ms), request, item, kind, watch_ms);
}

// "watch=7 clicks=2": what is not zero; "-" for nothing.
std::string Print(const v1::RewardComponents& reward) {
  const std::pair<const char*, std::int64_t> fields[] = {
      {"watch", reward.watch_ms()},      {"duration", reward.item_duration_ms()}, {"clicks", reward.clicks()},
      {"completes", reward.completes()}, {"likes", reward.likes()},               {"shares", reward.shares()},
      {"comments", reward.comments()},   {"collects", reward.collects()},         {"follows", reward.follows()},
      {"profiles", reward.profiles()},   {"dislikes", reward.dislikes()}};
  std::string out;
  for (const auto& [name, value] : fields) {
    if (value != 0) out += (out.empty() ? "" : " ") + std::string(name) + '=' + std::to_string(value);
  }
  return out.empty() ? "-" : out;
}

// "TIME REQUEST(ITEM: reward, …)"
std::string Print(const v1::Step& step) {
  std::string out = std::to_string(step.event_time_ms()) + ' ' + step.exposure().request_id() + '(';
  EXPECT_TRUE(step.rewards_size() == step.exposure().items_size() || step.rewards().empty());
  for (int i = 0; i < step.exposure().items_size(); ++i) {
    out += (i == 0 ? "" : ", ") + step.exposure().items(i).item_id();
    if (!step.rewards().empty()) out += ": " + Print(step.rewards(i));
  }
  return out + ')';
}

std::string Print(const Outcome& outcome) {
  if (!outcome.trajectory) return "none";
  std::string out;
  for (const v1::Step& step : outcome.trajectory->steps()) out += (out.empty() ? "" : " | ") + Print(step);
  return out;
}

TEST(RewardTest, WatchTimeIsTheLargestReportedAndNotTheSum) {
  const auto outcome = OutcomeOf({Exposure(0, "r1"), Feedback(1, v1::Feedback::WATCH, 4'000),
                                  Feedback(2, v1::Feedback::COMPLETE, 9'000), Feedback(3, v1::Feedback::WATCH, 7'000)});

  EXPECT_EQ(Print(outcome), "0 r1(i1: watch=9000 completes=1)");
}

TEST(RewardTest, WatchTimeOfAKindThatDoesNotWatchIsNotCounted) {
  EXPECT_EQ(Print(OutcomeOf({Exposure(0, "r1"), Feedback(1, v1::Feedback::LIKE, 4'000)})), "0 r1(i1: likes=1)");
}

TEST(RewardTest, TheItemsDurationIsTheLargestOfAnyFeedback) {
  auto like = Feedback(1, v1::Feedback::LIKE);
  like.mutable_feedback()->set_item_duration_ms(60'000);
  auto watch = Feedback(2, v1::Feedback::WATCH, 5);
  watch.mutable_feedback()->set_item_duration_ms(50'000);

  EXPECT_EQ(Print(OutcomeOf({Exposure(0, "r1"), like, watch})), "0 r1(i1: watch=5 duration=60000 likes=1)");
}

TEST(RewardTest, EveryKindIsCountedByItself) {
  std::vector<v1::Event> events{Exposure(0, "r1")};
  for (int kind = v1::Feedback::CLICK; kind <= v1::Feedback::DISLIKE; ++kind) {
    for (int i = 0; i < kind; ++i) {  // As often as its number says, so that none passes for another.
      events.push_back(Feedback(std::ssize(events), static_cast<v1::Feedback::Kind>(kind)));
    }
  }

  EXPECT_EQ(Print(OutcomeOf(events)),
            "0 r1(i1: clicks=1 completes=3 likes=4 shares=5 comments=6 collects=7 follows=8 profiles=9 dislikes=10)");
}

TEST(RewardTest, AnUnknownKindIsPresenceOnly) {
  auto unknown = Feedback(1, static_cast<v1::Feedback::Kind>(77), 4'000);
  unknown.mutable_feedback()->set_item_duration_ms(60'000);

  const auto outcome = OutcomeOf({Exposure(0, "r1"), unknown, Feedback(2, v1::Feedback::UNSPECIFIED)});

  EXPECT_EQ(Print(outcome), "0 r1(i1: duration=60000)");
  EXPECT_EQ(outcome.unknown_kinds, 2u);
  EXPECT_EQ(outcome.orphans, 0u);
  EXPECT_EQ(outcome.trajectory->events(), 3u);
  EXPECT_EQ(outcome.trajectory->last_ms(), 2);
}

TEST(RewardTest, ARepeatedExposureAddsOnlyTheItemsThatItsRequestHadNot) {
  auto later = Exposure(5, "r1", {"i2", "i3", "i1", "i4"});
  later.mutable_exposure()->set_surface("later");
  const auto outcome = OutcomeOf({Exposure(0, "r1", {"i1", "i2"}), later, Feedback(6, v1::Feedback::CLICK, 0, "i4"),
                                  Feedback(7, v1::Feedback::LIKE, 0, "i2")});

  EXPECT_EQ(Print(outcome), "0 r1(i1: -, i2: likes=1, i3: -, i4: clicks=1)");
  EXPECT_EQ(outcome.trajectory->steps(0).exposure().surface(), "");
  EXPECT_EQ(outcome.repeated_exposures, 1u);
}

TEST(RewardTest, WhereAnItemIsListedTwiceTheFirstTakesTheFeedback) {
  EXPECT_EQ(Print(OutcomeOf({Exposure(0, "r1", {"i0", "i1", "i1"}), Feedback(1, v1::Feedback::CLICK)})),
            "0 r1(i0: -, i1: clicks=1, i1: -)");
}

TEST(RewardTest, FeedbackFindsAnExposureThatIsYounger) {
  EXPECT_EQ(Print(OutcomeOf({Feedback(1, v1::Feedback::CLICK), Exposure(2, "r1")})), "2 r1(i1: clicks=1)");
}

TEST(RewardTest, FeedbackOnWhatWasNeverShownIsAnOrphan) {
  const auto outcome = OutcomeOf({Exposure(0, "r1"), Exposure(1, "r2", {"i2"}), Feedback(2, v1::Feedback::CLICK, 0, "i9"),
                                  Feedback(3, v1::Feedback::CLICK, 0, "i2"),  // Shown, but by r2.
                                  Feedback(4, v1::Feedback::CLICK, 0, "i1", "r9")});

  EXPECT_EQ(Print(outcome), "0 r1(i1: -) | 1 r2(i2: -)");
  EXPECT_EQ(outcome.orphans, 3u);
}

TEST(RewardTest, ASessionWithoutExposureHasOnlyOrphansAndNoTrajectory) {
  const auto outcome = OutcomeOf({Feedback(1, v1::Feedback::CLICK), Feedback(2, v1::Feedback::CLICK)});

  EXPECT_EQ(Print(outcome), "none");
  EXPECT_EQ(outcome.orphans, 2u);
}

TEST(RewardTest, StepsAreByEventTimeThenRequest) {
  EXPECT_EQ(Print(OutcomeOf({Exposure(0, "r5"), Exposure(7, "r3"), Exposure(7, "r2"), Exposure(9, "r1"),
                             Feedback(10, v1::Feedback::CLICK, 0, "i1", "r2")})),
            "0 r5(i1: -) | 7 r2(i1: clicks=1) | 7 r3(i1: -) | 9 r1(i1: -)");
}

TEST(RewardTest, AnExposureWithoutItemsIsAStepWithoutRewards) {
  EXPECT_EQ(Print(OutcomeOf({Exposure(0, "r1", {}), Exposure(1, "r2")})), "0 r1() | 1 r2(i1: -)");
}

TEST(RewardTest, UnknownFieldsOfAnExposureAreKept) {
  auto exposure = Exposure(0, "r1");
  exposure.GetReflection()->MutableUnknownFields(&exposure)->AddVarint(900, 1);
  v1::Exposure* inner = exposure.mutable_exposure();
  inner->GetReflection()->MutableUnknownFields(inner)->AddVarint(901, 2);

  const auto outcome = OutcomeOf({exposure, Feedback(1, v1::Feedback::CLICK)});

  EXPECT_EQ(Print(outcome), "0 r1(i1: clicks=1)");
  const v1::Exposure& kept = outcome.trajectory->steps(0).exposure();
  EXPECT_EQ(kept.GetReflection()->GetUnknownFields(kept).field_count(), 1);
}

TEST(RewardTest, TheTrajectorySaysItsTimesCountsAndPolicyVersions) {
  std::vector<v1::Event> events{Exposure(3, "r1"), Exposure(4, "r2"), Exposure(5, "r3"), Feedback(8, v1::Feedback::CLICK)};
  events[0].mutable_exposure()->set_policy_version(6);
  events[1].mutable_exposure()->set_policy_version(9);
  events[2].mutable_exposure()->set_policy_version(5);

  const auto outcome = OutcomeOf(events);

  ASSERT_TRUE(outcome.trajectory);
  v1::Trajectory head = *outcome.trajectory;
  head.clear_steps();
  EXPECT_EQ(head.ShortDebugString(),
            R"(name { offset: 7 } predecessor { offset: 3 } user_id: "u" stream_time_ms: 99 first_ms: 3 last_ms: 8 events: 4 )"
            R"(end: TERMINATED oldest_policy_version: 5 newest_policy_version: 9)");
}

TEST(RewardTest, EventsLeftOutAreCountedAndUnknownToTheJoin) {
  Joined joined({Exposure(0, "r1"), Exposure(1, "r2"), Feedback(2, v1::Feedback::CLICK, 0, "i1", "r2")});
  joined.events[1].body = {};

  const auto outcome = OutcomeOf({.user_id = "u", .events = joined.events, .events_total = 5});  // Two are not even listed.

  EXPECT_EQ(Print(outcome), "0 r1(i1: -)");
  EXPECT_EQ(outcome.left_out, 3u);
  EXPECT_EQ(outcome.trajectory->events(), 5u);
  EXPECT_EQ(outcome.orphans, 1u);
}

TEST(RewardTest, ATrajectoryThatIsTooLargeIsAStubThatSaysWhy) {
  const std::vector<v1::Event> events{Exposure(0, "r1", {"i1", std::string(2'000, 'x')}), Feedback(1, v1::Feedback::CLICK)};
  const auto whole = OutcomeOf(events);
  const auto bytes = static_cast<std::int64_t>(whole.bytes.size());

  EXPECT_EQ(OutcomeOf(events, bytes).trajectory->ShortDebugString(), whole.trajectory->ShortDebugString());
  const auto outcome = OutcomeOf(events, bytes - 1);
  EXPECT_TRUE(outcome.is_stub);
  EXPECT_EQ(outcome.trajectory->steps_size(), 0);
  EXPECT_EQ(outcome.trajectory->name().offset(), 7);
  EXPECT_EQ(outcome.trajectory->events(), 2u);
  EXPECT_EQ(outcome.trajectory->stub_reason(), "trajectory of " + std::to_string(bytes) +
                                                   " bytes exceeds max_trajectory_bytes " + std::to_string(bytes - 1));
}

TEST(RewardTest, ATruncatedSessionsNextStepIsTheEarliestRequestBehindTheCut) {
  const Joined joined({Exposure(0, "r1")});
  const Joined next({Exposure(5, "r8", {"i8"}), Exposure(5, "r7", {"i7"}), Exposure(5, "r9", {"i9"}), Exposure(5, "r7", {"i6"})});

  const auto outcome = OutcomeOf({.user_id = "u", .events = joined.events, .end = v1::TRUNCATED, .next_requests = next.events,
                                  .events_total = 1});

  EXPECT_EQ(outcome.trajectory->end(), v1::TRUNCATED);
  EXPECT_EQ(Print(outcome), "0 r1(i1: -)");
  EXPECT_EQ(Print(outcome.trajectory->next_step()), "5 r7(i7)");
  EXPECT_TRUE(outcome.trajectory->next_step().rewards().empty());
}

TEST(RewardTest, ATruncatedSessionWithoutRequestBehindTheCutHasNoNextStep) {
  const Joined joined({Exposure(0, "r1")});

  const auto outcome = OutcomeOf({.user_id = "u", .events = joined.events, .end = v1::TRUNCATED, .events_total = 1});

  EXPECT_FALSE(outcome.trajectory->has_next_step());
}

TEST(RewardTest, AnExposureWithAGroupOfAnotherTimeIsJoinedAndKeptAsItIs) {
  Joined joined({Exposure(0, "r1", {"i1", "i2"}), Exposure(1, "r1", {"i3"}), Feedback(2, v1::Feedback::CLICK, 0, "i3")});
  const std::string group = "\xa3\x38\x08\x01\xa4\x38";  // Field 900, around one number: no walk passes it.
  std::string first(joined.events[0].body), second(joined.events[1].body), click(joined.events[2].body);
  joined.events[0].body = first += group;
  joined.events[1].body = second += group;
  joined.events[2].body = click += group;

  const auto outcome = OutcomeOf({.user_id = "u", .events = joined.events, .events_total = 3});

  EXPECT_EQ(Print(outcome), "0 r1(i1: -, i2: -, i3: clicks=1)");
  EXPECT_NE(outcome.bytes.find(first), std::string::npos);
  EXPECT_EQ(outcome.repeated_exposures, 1u);
}

// Few requests and items, so that repetitions, orphans and items listed twice happen often.
std::vector<v1::Event> RandomEvents(Random& random, std::int64_t from_ms, bool with_unknown_fields) {
  const auto below = [&](std::uint64_t n) { return static_cast<std::int64_t>(random.NextBelow(n)); };
  std::vector<v1::Event> events;
  std::int64_t time_ms = from_ms;
  for (auto left = 1 + below(12); left > 0; --left, time_ms += below(3)) {
    const std::string request = "r" + std::to_string(below(4));
    const std::string item = "i" + std::to_string(below(5));
    const std::string id = "e" + std::to_string(100 + std::ssize(events));
    if (below(2) == 0) {
      const auto kind = static_cast<v1::Feedback::Kind>(below(14));
      events.push_back(FeedbackEvent("u", time_ms, id, request, item, kind, below(2) * below(1'000'000)));
      events.back().mutable_feedback()->set_item_duration_ms(below(2) * below(100));
    } else {
      events.push_back(ExposureEvent("u", time_ms, id, request, {item, "i" + std::to_string(below(5)), std::string(200, 'x')}));
      v1::Exposure& exposure = *events.back().mutable_exposure();
      exposure.set_policy_version(static_cast<std::uint64_t>(below(3)) * 200);
      if (with_unknown_fields) exposure.GetReflection()->MutableUnknownFields(&exposure)->AddVarint(900, 5);
    }
  }
  return events;
}

TEST(RewardTest, OfThreeThousandRandomSessionsTheBytesAreThoseOfWholeMessages) {
  int stubs = 0, repeated = 0, next_steps = 0;
  for (std::uint64_t seed = 0; seed < 3'000; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random(seed, "rewards", 0);
    const bool with_unknown_fields = seed % 3 == 0;
    Joined joined(RandomEvents(random, static_cast<std::int64_t>(random.NextBelow(2)), with_unknown_fields));
    Joined next(RandomEvents(random, 1'000, with_unknown_fields));
    std::erase_if(next.events, [](const JoinedEvent& event) { return !event.is_exposure; });
    for (JoinedEvent& event : joined.events) {
      if (random.NextBelow(10) == 0) event.body = {};
    }
    const SessionToJoin session{.user_id = "u", .events = joined.events, .end = v1::TRUNCATED, .next_requests = next.events,
                                .events_total = joined.events.size()};
    const std::int64_t max_bytes = random.NextBelow(4) == 0 ? 900 : kMaxBytes;

    const Outcome outcome = OutcomeOf(session, max_bytes);

    const TrajectoryHead head = Head();
    std::string expected;
    const SessionOutcome by_messages = JoinByMessages(session, &head, max_bytes, &expected);
    const bool is_canonical = !with_unknown_fields || outcome.repeated_exposures == 0;  // Else items may stand behind them.
    ASSERT_EQ(outcome.trajectory.value_or(v1::Trajectory()).SerializeAsString(), expected);
    if (is_canonical) {
      ASSERT_EQ(ToHex(outcome.bytes), ToHex(expected));
    }
    ASSERT_EQ(outcome.orphans, by_messages.orphans);
    ASSERT_EQ(outcome.left_out, by_messages.left_out);
    ASSERT_EQ(outcome.repeated_exposures, by_messages.repeated_exposures);
    ASSERT_EQ(outcome.unknown_kinds, by_messages.unknown_kinds);
    ASSERT_EQ(outcome.is_stub, by_messages.is_stub);
    stubs += outcome.is_stub ? 1 : 0;
    repeated += outcome.repeated_exposures > 0 ? 1 : 0;
    next_steps += outcome.trajectory && outcome.trajectory->has_next_step() ? 1 : 0;
  }
  EXPECT_GT(std::min({stubs, repeated, next_steps}), 100);
}

}  // namespace
}  // namespace fuseline::test
