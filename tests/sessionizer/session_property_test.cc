// Thousands of random streams: after every record the sessions of a partition are what the plain oracle says, with what
// they close, what they count and what they keep open. The whole stage is put to the same test by stage_property_test.

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fuseline/test_support/matchers.h"
#include "random_stream.h"
#include "session_oracle.h"

namespace fuseline::test {
namespace {

std::string PrintWhole(const std::vector<SessionOracle::Closed>& closings) {
  std::string out;
  for (const auto& closed : closings) {
    Closing closing{.user_id = closed.user_id, .first_ms = closed.first_ms, .last_ms = closed.last_ms};
    closing.events = closed.events;
    closing.end = closed.end;
    out += Print(closing) + " " + (closed.trajectory ? closed.trajectory->ShortDebugString() : "none") + "\n";
  }
  return out;
}

std::string PrintWhole(const std::vector<Closing>& closings) {
  std::string out;
  for (const Closing& closing : closings) {
    const auto trajectory = TrajectoryOf(closing);
    EXPECT_EQ(trajectory ? trajectory->SerializeAsString() : "", closing.trajectory);
    out += Print(closing) + " " + (trajectory ? trajectory->ShortDebugString() : "none") + "\n";
  }
  return out;
}

std::string PrintOpen(const SessionOracle& oracle, const std::string& user) {
  std::string out;
  const auto sessions = oracle.sessions().find(user);
  if (sessions == oracle.sessions().end()) return out;
  for (const auto& session : sessions->second) {
    for (const auto& each : session.events) {
      if (session.closed) continue;
      out += (&each == &session.events.front() ? "[" : " ") + each.event.event_id() + (each.left_out ? "-" : "");
    }
  }
  return out;
}

std::string PrintOpen(const SessionWindow& window) {
  std::string out;
  for (const OpenEvent& event : window.events()) {
    out += (event.starts_session ? "[" : " ") + std::string(window.id(event)) + (event.body_bytes == 0 ? "-" : "");
  }
  return out;
}

TEST(SessionPropertyTest, AfterEveryRecordOfThousandsOfStreamsThePlainRulesAgree) {
  for (std::uint64_t seed = 0; seed < 5'000; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Dice dice(seed, "rules of the file", 0);
    const v1::SessionRules rules = RandomRules(0, dice);
    const std::int64_t max_trajectory_bytes = dice.OneIn(3) ? 40 + dice.Below(200) : 1 << 20;
    SessionOracle oracle(0, {.rules = rules}, max_trajectory_bytes);
    PartitionSessions sessions(0, ShapeOf(rules), max_trajectory_bytes);

    for (const LoggedRecord& record : RandomStream(seed, rules).records) {
      SCOPED_TRACE("offset " + std::to_string(record.offset));
      ByteArena bytes;
      Record given{.offset = record.offset, .fate = record.fate};
      if (record.fate == RecordFate::kEvent) given.event = ViewOf(record.event, bytes);

      const auto closings = oracle.Process(record);
      ASSERT_OK_AND_ASSIGN(const auto processed, sessions.Process(given));

      ASSERT_EQ(PrintWhole(processed.closings), PrintWhole(closings));
      ASSERT_EQ(sessions.state().accounting().ShortDebugString(), oracle.state().account.ShortDebugString());
      ASSERT_EQ(sessions.state().accounting().read(), Accounted(sessions.state().accounting()));
      ASSERT_EQ(sessions.state().stream_time_ms(), oracle.state().stream_time_ms);
      ASSERT_EQ(sessions.state().late_floor_ms(), oracle.state().late_floor_ms);
      ASSERT_EQ(sessions.rules().version(), oracle.state().rules.version());
      ASSERT_LE(sessions.low_water().offset(), oracle.low_water().value_or(sessions.state().next_offset()));
      const std::string user = "u" + std::to_string(dice.Below(4));
      ASSERT_OK_AND_ASSIGN(const SessionWindow open, sessions.Look(user));
      ASSERT_EQ(PrintOpen(open), PrintOpen(oracle, user));
      if (dice.OneIn(5)) sessions.Forget();
    }

    const auto closings = oracle.Flush(sessions.state().next_offset());
    ASSERT_OK_AND_ASSIGN(const auto flushed, sessions.Flush());
    ASSERT_EQ(PrintWhole(flushed), PrintWhole(closings));
    ASSERT_EQ(sessions.state().accounting().ShortDebugString(), oracle.state().account.ShortDebugString());
    ASSERT_EQ(sessions.state().accounting().pending(), 0u);
  }
}

}  // namespace
}  // namespace fuseline::test
