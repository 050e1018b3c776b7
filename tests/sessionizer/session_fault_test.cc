// Every write, sync and rename of the store fails once, for every n until none is left: the sessionizer says
// kUnavailable and loses nothing, whether it goes on or is opened again.

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
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

// Lets `left` writes succeed, then fails one; the store writes tables from a thread of its own.
struct Fuse {
  std::atomic<int> left = -1;  // -1: none fails.
  bool only_tables = false;    // Fails, and counts down, none but writes to tables and their blobs.
  std::atomic<bool> blown = false;
  std::atomic<int> in_tables = 0;  // Writes to tables and their blobs so far.

  rocksdb::IOStatus Burn(const std::string& file) {
    const bool is_table = file.ends_with(".sst") || file.ends_with(".blob");
    if (is_table) ++in_tables;
    if (blown || left < 0 || (only_tables && !is_table)) return rocksdb::IOStatus::OK();
    if (left-- != 0) return rocksdb::IOStatus::OK();
    blown = true;
    return rocksdb::IOStatus::NoSpace("injected");
  }
};

class FaultyFile final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  FaultyFile(std::unique_ptr<rocksdb::FSWritableFile> file, std::string name, Fuse* fuse)
      : FSWritableFileOwnerWrapper(std::move(file)), name_(std::move(name)), fuse_(fuse) {}
  using FSWritableFileOwnerWrapper::Append;
  rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                           rocksdb::IODebugContext* context) override {
    const rocksdb::IOStatus status = fuse_->Burn(name_);
    return status.ok() ? FSWritableFileOwnerWrapper::Append(data, options, context) : status;
  }
  rocksdb::IOStatus Sync(const rocksdb::IOOptions& options, rocksdb::IODebugContext* context) override {
    const rocksdb::IOStatus status = fuse_->Burn(name_);
    return status.ok() ? FSWritableFileOwnerWrapper::Sync(options, context) : status;
  }

 private:
  const std::string name_;
  Fuse* fuse_;
};

class FaultyFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  explicit FaultyFileSystem(Fuse* fuse) : FileSystemWrapper(rocksdb::FileSystem::Default()), fuse_(fuse) {}
  const char* Name() const override { return "FaultyFileSystem"; }
  rocksdb::IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* file,
                                    rocksdb::IODebugContext* context) override {
    rocksdb::IOStatus status = fuse_->Burn(name);
    if (status.ok()) status = FileSystemWrapper::NewWritableFile(name, options, file, context);
    if (status.ok() && name.find("LOG") == std::string::npos) *file = std::make_unique<FaultyFile>(std::move(*file), name, fuse_);
    return status;
  }
  rocksdb::IOStatus RenameFile(const std::string& from, const std::string& to, const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* context) override {
    const rocksdb::IOStatus status = fuse_->Burn(from);
    return status.ok() ? FileSystemWrapper::RenameFile(from, to, options, context) : status;
  }

 private:
  Fuse* fuse_;
};

constexpr int kRecords = 40;
constexpr std::size_t kSmall = 1, kLarge = 150'000;  // Bytes of a request id: large ones fill the store's buffers, so that they are flushed.

EventBatch BatchFrom(std::int64_t from, std::size_t id_bytes = kSmall) {
  EventBatch batch{.partition = 0, .next_offset = std::min<std::int64_t>(from + 8, kRecords)};
  for (std::int64_t offset = from; offset < batch.next_offset; ++offset) {
    batch.records.push_back(RecordOf(offset, ExposureEvent("u" + std::to_string(offset % 3), offset * 4,
                                                           "e" + std::to_string(offset),
                                                           std::string(id_bytes, 'r') + std::to_string(offset)),
                                     batch.bytes));
  }
  batch.end_of_input = batch.next_offset == kRecords;
  return batch;
}

// Runs to the end; after an error, opens again or (`reopen` false) tries the commit again first. Returns the outbox's bytes.
std::string RunToTheEnd(Fuse* fuse, bool reopen, std::size_t id_bytes) {
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
      const Status processed = sessionizer->Process(BatchFrom(before.next_offset, id_bytes));
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

// Thousands of synced commits: in memory, where there is such a folder.
class SessionFaultTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (std::getenv("TMPDIR") == nullptr && std::filesystem::is_directory("/dev/shm")) setenv("TMPDIR", "/dev/shm", 1);
  }
};

TEST_F(SessionFaultTest, EachWriteThatFailsOnceLosesNothing) {
  Fuse none;
  const std::string expected = RunToTheEnd(&none, true, kSmall);
  ASSERT_GT(expected.size(), 1'000u);
  for (const bool reopen : {true, false}) {
    int n = 0;
    for (bool blown = true; blown; ++n) {
      SCOPED_TRACE("write " + std::to_string(n) + (reopen ? ", opened again" : ", going on"));
      Fuse fuse;
      fuse.left = n;
      ASSERT_EQ(RunToTheEnd(&fuse, reopen, kSmall), expected);
      blown = fuse.blown;
    }
    EXPECT_GT(n, 20);
    RecordProperty(reopen ? "failures_reopened" : "failures_going_on", n - 1);
  }
}

// In the background, between commits: the store writes nothing more until it is resumed, and every commit until then fails.
TEST_F(SessionFaultTest, AFlushThatFailsOnceLosesNothing) {
  Fuse none;
  const std::string expected = RunToTheEnd(&none, true, kLarge);
  ASSERT_GT(expected.size(), kRecords * kLarge);
  int failures = 0;
  for (int n = 0; n < none.in_tables; n += 1 + n / 3) {  // Each costs the second after which the store tries again.
    SCOPED_TRACE("write to a table " + std::to_string(n));
    Fuse fuse;
    fuse.left = n;
    fuse.only_tables = true;
    ASSERT_EQ(RunToTheEnd(&fuse, /*reopen=*/false, kLarge), expected);
    failures += fuse.blown ? 1 : 0;
  }
  EXPECT_GT(failures, 3);
  RecordProperty("failures", failures);
}

TEST_F(SessionFaultTest, OtherSettingsThanThoseInForceAreWarnedOfAndNotFollowed) {
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
