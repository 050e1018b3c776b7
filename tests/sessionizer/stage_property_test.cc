// Ten thousand random streams through the real stage, RocksDB included: machines are killed, partitions move between
// them at random commits, with old state, with none, and with owners that do not know that they were replaced. After
// the repeats are dropped, the reader has what the plain oracle says, name by name and byte by byte; every account at
// every commit is the oracle's. Each stream is a partition, and many share their machines: so a kill or a move costs
// little. FUSELINE_STREAMS=100000 runs more, FUSELINE_SEED=… another course or one that failed: a failure prints both.

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fuseline/proto/offset_metadata.h"
#include "fuseline/proto/trajectory_name.h"
#include "fuseline/sessionizer/sessionizer.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"
#include "random_stream.h"
#include "session_oracle.h"

namespace fuseline::test {
namespace {

std::uint64_t FromEnvironment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

// A partition's log, and what the oracle says about each point of it.
struct Truth {
  Truth(std::int32_t partition, std::uint64_t seed, const v1::SessionRules& rules, std::int64_t max_trajectory_bytes,
        bool ends)
      : log(RandomStream(seed, rules).records),
        end_offset(log.empty() ? 0 : log.back().offset + 1),
        oracle(partition, {.rules = rules}, max_trajectory_bytes) {
    Remember();
    for (const LoggedRecord& record : log) {
      Keep(oracle.Process(record));
      Remember();
    }
    if (ends) Keep(oracle.Flush(end_offset));
  }

  std::size_t IndexOf(std::int64_t offset) const {
    return static_cast<std::size_t>(std::ranges::lower_bound(log, offset, {}, &LoggedRecord::offset) - log.begin());
  }
  // When everything below `offset` was processed.
  const SessionOracle::State& Before(std::int64_t offset) const { return states[IndexOf(offset)]; }

  const std::vector<LoggedRecord> log;
  const std::int64_t end_offset;
  SessionOracle oracle;                                 // At the end.
  std::vector<SessionOracle::State> states;             // states[i]: before log[i].
  std::vector<std::optional<std::int64_t>> low_waters;  // As `states`.
  std::vector<std::string> trajectories;                // All that ever close, in order.

 private:
  void Keep(const std::vector<SessionOracle::Closed>& closings) {
    for (const auto& closed : closings) {
      if (closed.trajectory) trajectories.push_back(closed.trajectory->SerializeAsString());
    }
  }
  void Remember() {
    states.push_back(oracle.state());
    low_waters.push_back(oracle.low_water());
  }
};

// Who reads the topic of trajectories: takes each name once, in order, and notices what is not as it should be.
class Reader {
 public:
  void Take(const OutboxEntry& entry) {
    v1::Trajectory trajectory;
    ASSERT_TRUE(trajectory.ParseFromString(entry.bytes));
    const std::string name = NameText(trajectory.name());
    ASSERT_EQ(NameText(entry.name), name);
    if (last_ && CompareNames(entry.name, *last_) <= 0) {
      ++repeats;
      ASSERT_TRUE(bytes_of_.contains(name)) << name << " was never said before";
      ASSERT_EQ(bytes_of_[name], entry.bytes) << "a repeat of " << name << " with other bytes";
      return;
    }
    ASSERT_EQ(trajectory.has_predecessor() ? NameText(trajectory.predecessor()) : "none",
              last_ ? NameText(*last_) : "none")
        << "a gap before " << name;
    last_ = entry.name;
    bytes_of_[name] = entry.bytes;
    taken.push_back(trajectory.SerializeAsString());
  }

  std::vector<std::string> taken;
  std::uint64_t repeats = 0;

 private:
  std::optional<v1::TrajectoryName> last_;
  std::map<std::string, std::string> bytes_of_;
};

std::string Shown(const std::vector<std::string>& trajectories, std::size_t i) {
  v1::Trajectory trajectory;
  return i < trajectories.size() && trajectory.ParseFromString(trajectories[i]) ? trajectory.ShortDebugString()
                                                                                : "nothing";
}

std::string Text(const v1::Accounting& account) { return account.ShortDebugString(); }
std::string Text(const std::optional<v1::TrajectoryName>& name) { return name ? NameText(*name) : "none"; }
std::string Text(const v1::SessionRules& rules) {  // Without the format: a file has none.
  v1::SessionRules shape = rules;
  shape.clear_format();
  return shape.ShortDebugString();
}

struct Counts {
  std::uint64_t streams = 0, records = 0, trajectories = 0, repeats = 0, opens = 0, moves = 0, commits = 0,
                rebuilds = 0;
};

class World {
 public:
  World(std::uint64_t seed, std::int64_t partitions, const std::string& folder, Counts* counts)
      : dice_(seed, "world", 0), folder_(folder), counts_(counts) {
    max_trajectory_bytes_ = dice_.OneIn(3) ? 40 + dice_.Below(200) : 1 << 20;
    max_memory_bytes_ = dice_.Of<std::int64_t>({1, 3'000, 1 << 30});
    for (std::int64_t p = 0; p < partitions; ++p) {
      truths_.emplace_back(static_cast<std::int32_t>(p), seed * 1'000'003 + static_cast<std::uint64_t>(p), rules_,
                           max_trajectory_bytes_, ends_);
      counts_->records += truths_.back().log.size();
      counts_->trajectories += truths_.back().trajectories.size();
    }
    counts_->streams += truths_.size();
    readers_.resize(truths_.size());
    committed_.resize(truths_.size());
    owners_.assign(truths_.size(), kNobody);
    taken_over_.assign(truths_.size(), -1);
    machines_.resize(static_cast<std::size_t>(1 + dice_.Below(3)));
  }
  ~World() {
    machines_.clear();
    for (const Reader& reader : readers_) counts_->repeats += reader.repeats;
    std::filesystem::remove_all(folder_);
  }

  void Run() {
    for (std::int64_t left = 20 + dice_.Below(60); left > 0 && !::testing::Test::HasFatalFailure(); --left) Act();
    for (std::int32_t p = 0; p < size() && !::testing::Test::HasFatalFailure(); ++p) Finish(p);
  }

 private:
  struct Machine {
    std::unique_ptr<Sessionizer> sessionizer;
    std::map<std::int32_t, std::int64_t> next_read;  // Of the partitions that it believes to own.
  };
  static constexpr std::size_t kNobody = ~std::size_t{0};
  std::int32_t size() const { return static_cast<std::int32_t>(truths_.size()); }
  std::string FolderOf(std::size_t m) const { return folder_ + "/" + std::to_string(m); }

  void Act() {
    const auto m = static_cast<std::size_t>(dice_.Below(static_cast<std::int64_t>(machines_.size())));
    Machine& machine = machines_[m];
    if (!machine.sessionizer) {
      ASSERT_NO_FATAL_FAILURE(Open(m));
    } else if (dice_.OneIn(10)) {
      Crash(m);
      return;
    }
    for (std::int32_t p = 0; p < size(); ++p) {
      if (owners_[p] == kNobody || (owners_[p] != m && dice_.OneIn(12))) {
        ASSERT_NO_FATAL_FAILURE(Move(p, m));
      }
    }
    for (auto& [p, next_read] : machine.next_read) {
      if (!dice_.OneIn(4)) {
        ASSERT_NO_FATAL_FAILURE(Read(machine, p, dice_.Below(16)));
      }
    }
    if (dice_.OneIn(3)) return;  // Not committed: the next crash loses it.
    ASSERT_NO_FATAL_FAILURE(Commit(m));
    for (auto& [p, next_read] : machine.next_read) {
      if (!dice_.OneIn(3)) {
        ASSERT_NO_FATAL_FAILURE(Deliver(m, p, dice_.OneIn(2) ? 1'000 : static_cast<std::size_t>(dice_.Below(4))));
      }
    }
  }

  // Loses what it has not committed; sometimes its disk, too.
  void Crash(std::size_t m) {
    machines_[m].sessionizer.reset();
    machines_[m].next_read.clear();
    std::ranges::replace(owners_, m, kNobody);
    if (dice_.OneIn(3)) std::filesystem::remove_all(FolderOf(m));
  }

  v1::Sessionizer SettingsOf(const v1::SessionRules& rules) const {
    v1::Sessionizer settings;
    settings.set_gap_ms(rules.gap_ms());
    settings.set_lateness_ms(rules.lateness_ms());
    settings.set_cut_every_ms(rules.cut_every_ms());
    settings.set_max_events(rules.max_events());
    settings.set_max_trajectory_bytes(max_trajectory_bytes_);
    settings.set_max_memory_bytes(max_memory_bytes_);
    settings.set_commit_records(1'000'000);
    settings.set_commit_interval_ms(60'000);
    settings.set_max_outbox(1'000'000);
    return settings;
  }

  // The file is believed only as long as the log has said nothing and no state is there to move: after that it may say
  // anything.
  void Open(std::size_t m) {
    const bool known = std::ranges::all_of(committed_, [](const auto& history) { return !history.empty(); });
    const v1::SessionRules file = known && dice_.OneIn(2) ? RandomRules(0, dice_) : rules_;
    auto opened = Sessionizer::Open(FolderOf(m), SettingsOf(file), clock_, log_, metrics_);
    ASSERT_THAT(opened, IsOk());
    machines_[m].sessionizer = *std::move(opened);
    ++counts_->opens;
  }

  // What was committed goes through its form in the group's metadata.
  std::optional<CommittableOffset> Committed(std::int32_t p) {
    const auto& history = committed_[p];
    if (history.empty()) return std::nullopt;
    const auto& [offset, json] =
        history[dice_.OneIn(6) ? static_cast<std::size_t>(dice_.Below(static_cast<std::int64_t>(history.size())))
                               : history.size() - 1];
    const auto metadata = DecodeOffsetMetadata(json);
    EXPECT_THAT(metadata, IsOk()) << json;
    return metadata ? std::optional(CommittableOffset{.offset = offset, .metadata = *metadata}) : std::nullopt;
  }

  // The old owner is told, or (a zombie) is not.
  void Move(std::int32_t p, std::size_t to) {
    const std::size_t from = owners_[p];
    if (from != kNobody && dice_.OneIn(2)) {
      machines_[from].sessionizer->Release(p);
      machines_[from].next_read.erase(p);
    }
    Machine& machine = machines_[to];
    if (machine.next_read.contains(p)) machine.sessionizer->Release(p);  // It was a zombie until now.
    const auto committed = Committed(p);
    const auto begin = machine.sessionizer->TakeOver(p, committed, /*log_start=*/0);
    ASSERT_THAT(begin, IsOk()) << Where(p);
    if (committed && *begin && **begin < committed->offset) ++counts_->rebuilds;
    taken_over_[p] = committed ? committed->offset : -1;
    machine.next_read[p] = std::max<std::int64_t>(0, begin->value_or(0) - dice_.Below(3));
    owners_[p] = to;
    ++counts_->moves;
  }

  void Read(Machine& machine, std::int32_t p, std::int64_t records) {
    const Truth& truth = truths_[p];
    std::int64_t& next_read = machine.next_read[p];
    EventBatch batch{.partition = p, .next_offset = next_read};
    for (std::size_t i = truth.IndexOf(next_read); i < truth.log.size() && records > 0; ++i, --records) {
      const LoggedRecord& record = truth.log[i];
      batch.records.push_back({.offset = record.offset, .fate = record.fate});
      if (record.fate == RecordFate::kEvent) batch.records.back().event = ViewOf(record.event, batch.bytes);
      batch.next_offset = dice_.OneIn(4) && i + 1 < truth.log.size() ? truth.log[i + 1].offset : record.offset + 1;
    }
    next_read = batch.next_offset;
    batch.end_of_input = ends_ && next_read >= truth.end_offset;
    ASSERT_THAT(machine.sessionizer->Process(std::move(batch)), IsOk()) << Where(p);
    CheckPosition(p, machine.sessionizer->Processed(p));
  }

  void Commit(std::size_t m) {
    ASSERT_THAT(machines_[m].sessionizer->Commit(), IsOk());
    ++counts_->commits;
    for (const auto& [p, next_read] : machines_[m].next_read) {
      ASSERT_NO_FATAL_FAILURE(CheckPosition(p, machines_[m].sessionizer->Position(p)));
    }
  }

  void Deliver(std::size_t m, std::int32_t p, std::size_t max) {
    Sessionizer& sessionizer = *machines_[m].sessionizer;
    const auto offered = sessionizer.Outbox(p, std::nullopt, max);
    ASSERT_THAT(offered, IsOk()) << Where(p);
    for (const OutboxEntry& entry : *offered) ASSERT_NO_FATAL_FAILURE(readers_[p].Take(entry)) << Where(p);
    if (!offered->empty() && !dice_.OneIn(3)) sessionizer.Acknowledge(offered->back().name);
    if (owners_[p] != m || dice_.OneIn(3)) return;  // The group refuses a zombie's commit.
    const auto committable = sessionizer.Committable(p);
    if (!committable) return;
    ASSERT_GE(committable->offset, taken_over_[p]) << Where(p) << "the group's word goes back";
    ASSERT_NO_FATAL_FAILURE(CheckCommittable(p, *committable));
    const std::string json = EncodeOffsetMetadata(committable->metadata);
    ASSERT_LT(json.size(), 1'024u);
    committed_[p].emplace_back(committable->offset, json);
  }

  // At the end of a finite input, before its flush or after it.
  const SessionOracle::State& StateAt(std::int32_t p, std::int64_t offset, const v1::Accounting& account) const {
    const Truth& truth = truths_[p];
    const bool flushed = ends_ && offset >= truth.end_offset && account.pending() == 0;
    return flushed ? truth.oracle.state() : truth.Before(offset);
  }

  void CheckPosition(std::int32_t p, const PartitionPosition& position) {
    if (position.rebuilding || position.rules.format() == 0) return;  // Of the latter nothing was committed yet.
    const SessionOracle::State& state = StateAt(p, position.next_offset, position.accounting);
    if (position.finished) {
      ASSERT_EQ(position.accounting.pending(), 0u);
    }
    const std::string where = Where(p) + "at " + std::to_string(position.next_offset);
    ASSERT_EQ(Text(position.accounting), Text(state.account)) << where;
    ASSERT_EQ(position.accounting.read(), Accounted(position.accounting)) << where;
    ASSERT_EQ(position.stream_time_ms, state.stream_time_ms) << where;
    ASSERT_EQ(position.previous_offset, state.previous_offset) << where;
    ASSERT_EQ(Text(position.rules), Text(state.rules)) << where;
    ASSERT_EQ(Text(position.last_name), Text(state.last_name)) << where;
  }

  // All that a machine without state needs, as it was.
  void CheckCommittable(std::int32_t p, const CommittableOffset& point) {
    const Truth& truth = truths_[p];
    const v1::OffsetMetadata& metadata = point.metadata;
    const std::string where = Where(p) + "at " + std::to_string(point.offset) + ": " + metadata.ShortDebugString();
    const SessionOracle::State& begin = truth.Before(metadata.low_water_offset());
    ASSERT_EQ(metadata.stream_time_ms(), begin.stream_time_ms) << where;
    ASSERT_EQ(metadata.previous_offset(), begin.previous_offset) << where;
    ASSERT_EQ(metadata.late_floor_ms(), begin.late_floor_ms) << where;
    ASSERT_EQ(Text(metadata.rules()), Text(begin.rules)) << where;

    const SessionOracle::State& end = StateAt(p, point.offset, metadata.accounting());
    ASSERT_EQ(Text(metadata.accounting()), Text(end.account)) << where;
    ASSERT_EQ(metadata.has_last_name(), end.last_name.has_value()) << where;
    ASSERT_EQ(Text(std::optional(metadata.last_name())), Text(end.last_name.value_or(v1::TrajectoryName()))) << where;
    const auto low = truth.low_waters[truth.IndexOf(point.offset)];
    if (metadata.accounting().pending() > 0) {
      ASSERT_LE(metadata.low_water_offset(), low.value_or(point.offset)) << where;
    }
  }

  // Reads the rest by one owner, and once more by one that has nothing but what the other one committed.
  void Finish(std::int32_t p) {
    for (int owner = 0; owner < 2; ++owner) {
      const auto m = static_cast<std::size_t>(dice_.Below(static_cast<std::int64_t>(machines_.size())));
      if (!machines_[m].sessionizer) {
        ASSERT_NO_FATAL_FAILURE(Open(m));
      }
      if (owner == 1 && p < 2) {
        Crash(m);
        std::filesystem::remove_all(FolderOf(m));
        ASSERT_NO_FATAL_FAILURE(Open(m));
      }
      if (owners_[p] != m) {
        ASSERT_NO_FATAL_FAILURE(Move(p, m));
      }
      ASSERT_NO_FATAL_FAILURE(Read(machines_[m], p, 1'000'000));
      ASSERT_NO_FATAL_FAILURE(Commit(m));
      ASSERT_NO_FATAL_FAILURE(Deliver(m, p, 1'000'000));
      const PartitionPosition position = machines_[m].sessionizer->Position(p);
      ASSERT_FALSE(position.rebuilding) << Where(p);
      ASSERT_GE(position.next_offset, truths_[p].end_offset) << Where(p);
      ASSERT_EQ(position.finished, ends_) << Where(p);
      ASSERT_NO_FATAL_FAILURE(CheckOpen(p, *machines_[m].sessionizer));
    }
    const auto& expected = truths_[p].trajectories;
    const auto& taken = readers_[p].taken;
    for (std::size_t i = 0; i < std::max(expected.size(), taken.size()); ++i) {
      ASSERT_TRUE(i < expected.size() && i < taken.size() && expected[i] == taken[i])
          << Where(p) << "\nsaid: " << Shown(taken, i) << "\noracle: " << Shown(expected, i);
    }
  }

  // What a person is shown of the sessions that are open at the end.
  void CheckOpen(std::int32_t p, Sessionizer& sessionizer) {
    for (const auto& [user, sessions] : truths_[p].oracle.sessions()) {
      const auto shown = sessionizer.Show(user);
      ASSERT_THAT(shown, IsOk());
      std::string said, expected;
      for (const ShownSession& session : *shown) {
        if (session.partition != p) continue;
        for (const ShownEvent& event : session.events)
          said += event.id + "@" + std::to_string(event.offset) + (event.left_out ? "- " : " ");
        said += "| ";
      }
      for (const SessionOracle::Session& session : sessions) {
        if (session.closed) continue;
        for (const auto& each : session.events)
          expected += each.event.event_id() + "@" + std::to_string(each.offset) + (each.left_out ? "- " : " ");
        expected += "| ";
      }
      ASSERT_EQ(said, expected) << Where(p) << " " << user;
    }
  }

  std::string Where(std::int32_t p) const { return "partition " + std::to_string(p) + " "; }

  Dice dice_;
  const std::string folder_;
  Counts* counts_;
  const v1::SessionRules rules_ = RandomRules(0, dice_);  // Those of the settings file.
  const bool ends_ = dice_.OneIn(2);                      // Its inputs are finite.
  std::int64_t max_trajectory_bytes_ = 0, max_memory_bytes_ = 0;
  std::vector<Truth> truths_;
  std::vector<Reader> readers_;
  std::vector<std::vector<std::pair<std::int64_t, std::string>>> committed_;  // What the group was told, all of it.
  std::vector<std::size_t> owners_;
  std::vector<std::int64_t> taken_over_;  // The group's word when the owner began.
  SystemClock clock_;
  Log log_{Severity::kError};
  Metrics metrics_;
  std::vector<Machine> machines_;
};

// A broken invariant ends the process: the seed must be said even then.
char g_seed[64] = "";
void SaySeed(int) {
  if (::write(STDERR_FILENO, g_seed, std::strlen(g_seed)) < 0) std::_Exit(1);
}

TEST(StagePropertyTest, WhateverIsKilledOrMovedTheReaderHasWhatThePlainRulesSay) {
  const std::uint64_t streams = FromEnvironment("FUSELINE_STREAMS", 10'000);
  const std::uint64_t first_seed = FromEnvironment("FUSELINE_SEED", 1);
  // A commit is synced: in memory, where there is such a folder, that costs nothing.
  if (std::getenv("TMPDIR") == nullptr && std::filesystem::is_directory("/dev/shm")) setenv("TMPDIR", "/dev/shm", 1);
  std::signal(SIGABRT, SaySeed);
  const TempDir dir;
  Counts counts;
  std::uint64_t seed = first_seed;
  for (; counts.streams < streams && !HasFatalFailure(); ++seed) {
    const std::string again = "FUSELINE_SEED=" + std::to_string(seed) + " FUSELINE_STREAMS=1";
    SCOPED_TRACE(again);
    std::snprintf(g_seed, sizeof g_seed, "%s\n", again.c_str());
    Dice dice(seed, "size of a world", 0);
    World(seed, dice.OneIn(3) ? 1 + dice.Below(3) : 20 + dice.Below(60), dir / std::to_string(seed), &counts).Run();
  }
  std::cout << "seeds " << first_seed << " to " << seed - 1 << ": " << counts.streams << " streams, " << counts.records
            << " records, " << counts.trajectories << " trajectories, " << counts.repeats << " repeats dropped, "
            << counts.opens << " starts, " << counts.moves << " moves (" << counts.rebuilds << " rebuilt), "
            << counts.commits << " commits\n";
}

}  // namespace
}  // namespace fuseline::test
