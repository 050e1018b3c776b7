#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/core/random.h"
#include "fuseline/proto/offset_metadata.h"
#include "fuseline/proto/trajectory_name.h"
#include "fuseline/sessionizer/sessionizer.h"
#include "fuseline/test_support/matchers.h"
#include "session_events.h"

namespace fuseline::test {

// Who reads the topic of trajectories: takes each name once and in order. Keeps a digest of the bytes where they are many.
class TrajectoryReader {
 public:
  void Take(const OutboxEntry& entry) {
    v1::Trajectory trajectory;
    ASSERT_TRUE(trajectory.ParseFromString(entry.bytes));
    if (last_ && CompareNames(entry.name, *last_) <= 0) {
      ++repeats_;
      return;
    }
    ASSERT_EQ(trajectory.has_predecessor(), last_.has_value()) << "a gap before " << NameText(entry.name);
    if (last_) {
      ASSERT_TRUE(CompareNames(trajectory.predecessor(), *last_) == 0) << "a gap before " << NameText(entry.name);
    }
    last_ = entry.name;
    ++taken_;
    digest_ = std::hash<std::string>()(std::to_string(digest_) + entry.bytes);
  }

  std::string said() const { return std::to_string(taken_) + " trajectories, " + std::to_string(digest_); }
  std::uint64_t taken() const { return taken_; }
  std::uint64_t repeats() const { return repeats_; }

 private:
  std::optional<v1::TrajectoryName> last_;
  std::uint64_t taken_ = 0, repeats_ = 0;
  std::size_t digest_ = 0;
};

// Drives the log of one partition through the real stage to a reader, as `fuseline sessionize` does: from where the state and
// the group's word say, again and again where the state is lost, until everything is committed and taken.
class StageCourse {
 public:
  struct Plan {
    std::function<v1::Event(std::int64_t offset)> event_at;
    v1::Sessionizer settings;
    std::int64_t records_per_batch = 100;
    bool acknowledges = true;  // Else the outbox stays, and the group hears nothing new.
  };

  explicit StageCourse(Plan plan) : plan_(std::move(plan)) {}
  void set_acknowledges(bool acknowledges) { plan_.acknowledges = acknowledges; }

  // Begins with the reader and the group's word of another.
  void Follow(const StageCourse& other) {
    reader_ = other.reader_;
    word_ = other.word_;
  }

  // Until everything below `end` is committed, and with `finishes` flushed. After kCorrupt the state is opened again.
  void ReadUntil(const std::string& folder, std::int64_t end, bool finishes, const std::function<void(Sessionizer&)>& after_commit = nullptr) {
    for (int attempt = 0; attempt < 10; ++attempt) {
      const Status status = Try(folder, end, finishes, after_commit);
      if (status.ok() || ::testing::Test::HasFatalFailure()) return;
      errors_ += (errors_.empty() ? "" : " | ") + status.message;
      ASSERT_EQ(CodeName(status.code), CodeName(Code::kCorrupt)) << status.message;
    }
    FAIL() << "does not come to an end: " << errors_;
  }

  const TrajectoryReader& reader() const { return reader_; }
  const std::string& errors() const { return errors_; }  // After which it was opened again.
  double states_set_aside() const { return metrics_->GetCounter("fuseline_sessionizer_states_set_aside_total", "").value(); }

 private:
  static std::string CodeName(Code code) { return std::to_string(static_cast<int>(code)); }

  Status Try(const std::string& folder, std::int64_t end, bool finishes, const std::function<void(Sessionizer&)>& after_commit) {
    auto opened = Sessionizer::Open(folder, plan_.settings, clock_, *log_, *metrics_);
    if (!opened) return opened.error();
    Sessionizer& stage = **opened;
    FUSELINE_ASSIGN_OR_RETURN(const std::optional<std::int64_t> begin, stage.TakeOver(0, word_, /*log_start=*/0));
    std::int64_t next = begin.value_or(0);
    FUSELINE_RETURN_IF_ERROR(Deliver(stage));
    while (next < end || (finishes && !stage.Position(0).finished)) {
      EventBatch batch{.partition = 0};
      for (const std::int64_t stop = std::min(end, next + plan_.records_per_batch); next < stop; ++next) {
        batch.records.push_back(RecordOf(next, plan_.event_at(next), batch.bytes));
      }
      batch.next_offset = next;
      batch.end_of_input = finishes && next == end;
      FUSELINE_RETURN_IF_ERROR(stage.Process(std::move(batch)));
      if (next != end && !stage.NeedsCommit()) continue;
      FUSELINE_RETURN_IF_ERROR(stage.Commit());
      if (after_commit) after_commit(stage);
      FUSELINE_RETURN_IF_ERROR(Deliver(stage));
    }
    return stage.Commit();
  }

  Status Deliver(Sessionizer& stage) {
    for (std::optional<v1::TrajectoryName> after;;) {
      FUSELINE_ASSIGN_OR_RETURN(const std::vector<OutboxEntry> page, stage.Outbox(0, after, 100));
      if (page.empty() || ::testing::Test::HasFatalFailure()) break;
      for (const OutboxEntry& entry : page) reader_.Take(entry);
      after = page.back().name;
      if (plan_.acknowledges) stage.Acknowledge(*after);
    }
    if (!plan_.acknowledges) return OkStatus();
    if (auto word = stage.Committable(0)) word_ = std::move(word);
    return OkStatus();
  }

  Plan plan_;
  SystemClock clock_;
  std::unique_ptr<Log> log_ = std::make_unique<Log>(Severity::kError);
  std::unique_ptr<Metrics> metrics_ = std::make_unique<Metrics>();
  TrajectoryReader reader_;
  std::optional<CommittableOffset> word_;
  std::string errors_;
};

}  // namespace fuseline::test
