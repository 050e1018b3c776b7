// Thousands of random streams: the windows say after every record what the plain oracle says, and a sessionizer that
// loses everything after random commits and reads again ends with the same bytes as one that was never disturbed.

#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fuseline/proto/trajectory_name.h"
#include "fuseline/sessionizer/sessionizer.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"
#include "random_stream.h"
#include "session_oracle.h"

namespace fuseline::test {
namespace {

TEST(SessionPropertyTest, AfterEveryRecordOfTwoThousandStreamsThePlainRulesAgree) {
  for (std::uint64_t seed = 0; seed < 2'000; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomStream stream = MakeRandomStream(seed);
    SessionOracle oracle(stream.shape);
    PartitionSessions sessions(0, stream.shape, 1 << 20);
    std::vector<std::string> names;
    const auto take_names = [&names](const std::vector<Closing>& closings) {
      for (const Closing& closing : closings) {
        if (!closing.name) continue;
        const v1::TrajectoryName& name = *closing.name;
        names.push_back(std::to_string(name.offset()) + '-' + std::to_string(name.ordinal()));
      }
    };

    for (Record& record : stream.records) {
      SCOPED_TRACE("offset " + std::to_string(record.offset));
      const std::string expected = oracle.Process(record.offset, record.fate, EventOf(record));
      ASSERT_OK_AND_ASSIGN(const auto processed, sessions.Process(record));
      take_names(processed.closings);
      ASSERT_EQ(Print(processed.closings), expected);
      ASSERT_EQ(Print(sessions.state().accounting()), Print(oracle.account()));
      ASSERT_EQ(sessions.state().accounting().read(), Accounted(sessions.state().accounting()));
      ASSERT_EQ(sessions.state().stream_time_ms(), oracle.stream_time_ms());
      const std::int64_t low = oracle.low_water().value_or(sessions.state().next_offset());
      ASSERT_LE(sessions.low_water().offset(), low);
      if (record.offset % 5 == 0) sessions.Forget();
    }
    const std::string expected = oracle.Flush(sessions.state().next_offset());
    ASSERT_OK_AND_ASSIGN(const auto flushed, sessions.Flush());
    take_names(flushed);
    ASSERT_EQ(Print(flushed), expected);
    ASSERT_EQ(names, oracle.names());
    ASSERT_EQ(Print(sessions.state().accounting()), Print(oracle.account()));
    ASSERT_EQ(sessions.state().accounting().pending(), 0u);
  }
}

v1::Sessionizer SettingsOf(const SessionShape& shape) {
  v1::Sessionizer settings;
  settings.set_gap_ms(shape.gap_ms);
  settings.set_lateness_ms(shape.lateness_ms);
  settings.set_cut_every_ms(shape.cut_every_ms);
  settings.set_max_events(shape.max_events);
  settings.set_max_trajectory_bytes(1 << 20);
  settings.set_commit_records(1'000'000);
  settings.set_commit_interval_ms(60'000);
  settings.set_max_outbox(1'000);
  return settings;
}

class Undisturbed {
 public:
  explicit Undisturbed(const RandomStream& stream) : sessions_(3, stream.shape, 1 << 20) {
    for (const Record& record : stream.records) Take(sessions_.Process(record)->closings);
    Take(*sessions_.Flush());
  }
  const std::vector<std::string>& trajectories() const { return trajectories_; }
  std::string account() const { return Print(sessions_.state().accounting()); }

 private:
  void Take(const std::vector<Closing>& closings) {
    for (const Closing& closing : closings) {
      if (closing.name) trajectories_.push_back(closing.trajectory);
    }
  }
  PartitionSessions sessions_;
  std::vector<std::string> trajectories_;
};

// Reads the log in random batches; commits now and then; now and then forgets all that is not committed.
std::vector<std::string> RunWithCrashes(const RandomStream& stream, Random random, std::string* account) {
  TempDir dir;
  SystemClock clock;
  Log log(Severity::kError);
  Metrics metrics;
  std::vector<std::string> received;
  std::optional<v1::TrajectoryName> last_received;
  std::unique_ptr<Sessionizer> sessionizer;
  bool finished = false;
  while (!finished) {
    if (!sessionizer || random.NextBelow(6) == 0) {
      sessionizer.reset();
      auto opened = Sessionizer::Open(dir / "sessions", SettingsOf(stream.shape), clock, log, metrics);
      EXPECT_THAT(opened, IsOk());
      if (!opened) return received;
      sessionizer = *std::move(opened);
    }
    // From anywhere at or before the next offset: what was processed is skipped.
    for (std::int64_t from = sessionizer->Position(3).next_offset - static_cast<std::int64_t>(random.NextBelow(4));;) {
      EventBatch batch{.partition = 3, .next_offset = from};
      const std::size_t size = random.NextBelow(12);
      for (const Record& record : stream.records) {
        if (record.offset < from) continue;
        if (batch.records.size() == size) break;
        batch.records.push_back(record);
        from = batch.next_offset = record.offset + 1;
      }
      batch.end_of_input = stream.records.empty() || from > stream.records.back().offset;
      EXPECT_THAT(sessionizer->Process(std::move(batch)), IsOk());
      if (random.NextBelow(2) == 0 || from > (stream.records.empty() ? -1 : stream.records.back().offset)) break;
    }
    if (random.NextBelow(4) == 0) continue;  // Uncommitted: lost by the next crash.
    EXPECT_THAT(sessionizer->Commit(), IsOk());
    const PartitionPosition position = sessionizer->Position(3);
    EXPECT_EQ(position.accounting.read(), Accounted(position.accounting));
    auto offered = sessionizer->Outbox(3, last_received, 1'000);
    EXPECT_THAT(offered, IsOk());
    for (const OutboxEntry& entry : *offered) {
      v1::Trajectory trajectory;
      EXPECT_TRUE(trajectory.ParseFromString(entry.bytes));
      if (last_received && CompareNames(trajectory.name(), *last_received) <= 0) continue;
      EXPECT_EQ(trajectory.has_predecessor(), last_received.has_value());
      if (last_received) {
        EXPECT_EQ(NameText(trajectory.predecessor()), NameText(*last_received));
      }
      received.push_back(entry.bytes);
      last_received = trajectory.name();
    }
    if (last_received && random.NextBelow(2) == 0) sessionizer->Acknowledge(*last_received);
    finished = position.finished;
    *account = Print(position.accounting);
  }
  return received;
}

TEST(SessionPropertyTest, WhateverIsLostAfterACommitIsSaidAgainByteForByte) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const RandomStream stream = MakeRandomStream(1'000'000 + seed);
    const Undisturbed expected(stream);

    std::string account;
    const auto received = RunWithCrashes(stream, Random(seed, "crashes", 0), &account);

    ASSERT_EQ(received, expected.trajectories());
    ASSERT_EQ(account, expected.account());
  }
}

}  // namespace
}  // namespace fuseline::test
