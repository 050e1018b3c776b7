// Every write, sync and rename of the store fails once, for every n until none is left: the sessionizer says
// kUnavailable and loses nothing, whether it goes on or is opened again.

#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include "fuseline/sessionizer/sessionizer.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"
#include "session_events.h"

namespace fuseline::test {
namespace {

// Lets `left` writes succeed, then fails one.
struct Fuse {
  int left = -1;  // -1: none fails.
  bool blown = false;
  rocksdb::IOStatus Burn() {
    if (blown || left < 0) return rocksdb::IOStatus::OK();
    if (left-- > 0) return rocksdb::IOStatus::OK();
    blown = true;
    return rocksdb::IOStatus::NoSpace("injected");
  }
};

class FaultyFile final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  FaultyFile(std::unique_ptr<rocksdb::FSWritableFile> file, Fuse* fuse)
      : FSWritableFileOwnerWrapper(std::move(file)), fuse_(fuse) {}
  using FSWritableFileOwnerWrapper::Append;
  rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                           rocksdb::IODebugContext* context) override {
    const rocksdb::IOStatus status = fuse_->Burn();
    return status.ok() ? FSWritableFileOwnerWrapper::Append(data, options, context) : status;
  }
  rocksdb::IOStatus Sync(const rocksdb::IOOptions& options, rocksdb::IODebugContext* context) override {
    const rocksdb::IOStatus status = fuse_->Burn();
    return status.ok() ? FSWritableFileOwnerWrapper::Sync(options, context) : status;
  }

 private:
  Fuse* fuse_;
};

class FaultyFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  explicit FaultyFileSystem(Fuse* fuse) : FileSystemWrapper(rocksdb::FileSystem::Default()), fuse_(fuse) {}
  const char* Name() const override { return "FaultyFileSystem"; }
  rocksdb::IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* file,
                                    rocksdb::IODebugContext* context) override {
    rocksdb::IOStatus status = fuse_->Burn();
    if (status.ok()) status = FileSystemWrapper::NewWritableFile(name, options, file, context);
    if (status.ok() && name.find("LOG") == std::string::npos) *file = std::make_unique<FaultyFile>(std::move(*file), fuse_);
    return status;
  }
  rocksdb::IOStatus RenameFile(const std::string& from, const std::string& to, const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* context) override {
    const rocksdb::IOStatus status = fuse_->Burn();
    return status.ok() ? FileSystemWrapper::RenameFile(from, to, options, context) : status;
  }

 private:
  Fuse* fuse_;
};

constexpr int kRecords = 40;

EventBatch BatchFrom(std::int64_t from) {
  EventBatch batch{.partition = 0, .next_offset = std::min<std::int64_t>(from + 8, kRecords)};
  for (std::int64_t offset = from; offset < batch.next_offset; ++offset) {
    batch.records.push_back(RecordOf(offset, ExposureEvent("u" + std::to_string(offset % 3), offset * 4,
                                                           "e" + std::to_string(offset), "r" + std::to_string(offset)),
                                     batch.bytes));
  }
  batch.end_of_input = batch.next_offset == kRecords;
  return batch;
}

// Runs to the end; after an error, opens again or (`reopen` false) tries the commit again first. Returns the outbox's bytes.
std::string RunToTheEnd(Fuse* fuse, bool reopen) {
  TempDir dir;
  const std::unique_ptr<rocksdb::Env> env = rocksdb::NewCompositeEnv(std::make_shared<FaultyFileSystem>(fuse));
  v1::Sessionizer settings;
  settings.set_gap_ms(5);
  settings.set_lateness_ms(1);
  settings.set_max_events(100);
  settings.set_max_trajectory_bytes(1 << 20);
  settings.set_max_memory_bytes(16 << 20);
  SystemClock clock;
  Log log(Severity::kError);
  Metrics metrics;
  std::unique_ptr<Sessionizer> sessionizer;
  for (int attempts = 0; attempts < 100; ++attempts) {
    if (!sessionizer) {
      auto opened = Sessionizer::Open(dir / "sessions", settings, clock, log, metrics, env.get());
      if (!opened) {
        EXPECT_TRUE(fuse->blown) << opened.error().message;
        EXPECT_THAT(opened, HasCode(Code::kUnavailable));
        continue;
      }
      sessionizer = *std::move(opened);
    }
    const PartitionPosition before = sessionizer->Position(0);
    if (before.finished) break;
    // Closings may commit on the way, so that both may fail.
    const auto take = [&] {
      const Status processed = sessionizer->Process(BatchFrom(before.next_offset));
      return processed.ok() ? sessionizer->Commit() : processed;
    };
    Status committed = take();
    if (!committed.ok() && !reopen) {
      EXPECT_THAT(committed, HasCode(Code::kUnavailable));
      committed = take();
    }
    if (!committed.ok()) sessionizer.reset();
  }
  if (!sessionizer) return "never finished";
  const v1::Accounting account = sessionizer->Position(0).accounting;
  EXPECT_EQ(Print(account), "read=40 used=40");
  std::string bytes;
  const auto offered = sessionizer->Outbox(0, std::nullopt, 1'000);
  EXPECT_THAT(offered, IsOk());
  for (const OutboxEntry& entry : *offered) bytes += entry.bytes;
  return bytes;
}

TEST(SessionFaultTest, EachWriteThatFailsOnceLosesNothing) {
  Fuse none;
  const std::string expected = RunToTheEnd(&none, true);
  ASSERT_GT(expected.size(), 1'000u);
  for (const bool reopen : {true, false}) {
    int n = 0;
    for (bool blown = true; blown; ++n) {
      SCOPED_TRACE("write " + std::to_string(n) + (reopen ? ", opened again" : ", going on"));
      Fuse fuse{.left = n};
      ASSERT_EQ(RunToTheEnd(&fuse, reopen), expected);
      blown = fuse.blown;
    }
    EXPECT_GT(n, 20);
    RecordProperty(reopen ? "failures_reopened" : "failures_going_on", n - 1);
  }
}

TEST(SessionFaultTest, OtherSettingsThanThoseInForceAreWarnedOfAndNotFollowed) {
  TempDir dir;
  SystemClock clock;
  Log log(Severity::kError);
  Metrics metrics;
  v1::Sessionizer settings;
  settings.set_gap_ms(5);
  settings.set_max_events(1);
  {
    ASSERT_OK_AND_ASSIGN(auto sessionizer, Sessionizer::Open(dir / "sessions", settings, clock, log, metrics));
    ASSERT_THAT(sessionizer->Process(BatchFrom(0)), IsOk());
    ASSERT_THAT(sessionizer->Commit(), IsOk());
  }
  settings.set_gap_ms(6);

  ASSERT_OK_AND_ASSIGN(auto sessionizer, Sessionizer::Open(dir / "sessions", settings, clock, log, metrics));

  ASSERT_THAT(sessionizer->Process(BatchFrom(8)), IsOk());
  EXPECT_EQ(sessionizer->Processed(0).rules.gap_ms(), 5);
}

}  // namespace
}  // namespace fuseline::test
