#include "fuseline/ingest/file_source.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>

#include "byte_stream.h"
#include "fuseline/core/check.h"
#include "record_intake.h"
#include "record_reader.h"

namespace fuseline {
namespace {

constexpr std::int64_t kSettleMs = 10'000;

Framing FramingOf(std::string_view path) {
  if (path.ends_with(".gz")) path.remove_suffix(3);
  if (path.ends_with(".zst")) path.remove_suffix(4);
  return path.ends_with(".pb") ? Framing::kVarintLength : Framing::kLines;
}

}  // namespace

FileSourceOptions FileSourceOptionsOf(const v1::Ingest& ingest, std::vector<std::string> paths) {
  FileSourceOptions options;
  options.paths = std::move(paths);
  options.batch_records = ingest.batch_records();
  options.limits = LimitsOf(ingest);
  return options;
}

struct FileSource::Impl {
  Impl(FileSourceOptions given, DeadLetterSink* dead_letters)
      : options(std::move(given)), intake(options.limits, /*max_future_ms=*/0, dead_letters) {}

  const FileSourceOptions options;
  RecordIntake intake;
  std::unique_ptr<RecordReader> reader;  // Of paths[file]; null: not open yet.
  std::size_t file = 0;
  std::int64_t line = 0;          // Records read of this file.
  std::int64_t next_offset = 0;
  std::int64_t bytes_of_files_done = 0;
  std::int64_t bytes_total = 0;
  std::vector<std::string> damaged;
  EventBatch batch;               // In the making; kept when a call fails half way.
  std::int64_t batch_bytes = 0;
  bool complete = false;          // `batch` waits only for its dead letters.
  bool paused = false;
  bool finished = false;

  Status FillBatch();
  void TakeRecord(const RawRecord& raw);
  void CloseFile();
};

Status FileSource::Impl::FillBatch() {
  while (!complete) {
    if (file == options.paths.size()) {
      batch.end_of_input = true;
      complete = true;
      break;
    }
    if (!reader) {
      FUSELINE_ASSIGN_OR_RETURN(auto stream, ByteStream::Open(options.paths[file]));
      reader = std::make_unique<RecordReader>(std::move(stream), FramingOf(options.paths[file]),
                                              options.limits.event_bytes);
      line = 0;
    }
    FUSELINE_ASSIGN_OR_RETURN(const std::optional<RawRecord> raw, reader->Next());
    if (raw) {
      TakeRecord(*raw);
    } else {
      CloseFile();
    }
    complete = std::ssize(batch.records) >= options.batch_records || batch_bytes >= options.batch_bytes;
  }
  batch.next_offset = next_offset;
  return OkStatus();
}

void FileSource::Impl::TakeRecord(const RawRecord& raw) {
  RecordIntake::Origin origin;
  origin.source = options.paths[file];
  origin.offset = next_offset++;
  origin.line = ++line;
  if (origin.offset < options.start_offset) return;
  batch_bytes += static_cast<std::int64_t>(raw.bytes.size());
  batch.records.push_back(raw.trouble.empty() ? intake.Take(raw.bytes, origin, batch.bytes)
                                              : intake.TakeMalformed(raw.bytes, raw.size_bytes, raw.trouble, origin));
}

void FileSource::Impl::CloseFile() {
  if (reader->damaged()) damaged.push_back(options.paths[file]);
  bytes_of_files_done += reader->bytes_read();
  reader.reset();
  ++file;
}

FileSource::FileSource(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
FileSource::~FileSource() = default;

Result<std::unique_ptr<FileSource>> FileSource::Open(FileSourceOptions options, DeadLetterSink* dead_letters) {
  auto impl = std::make_unique<Impl>(std::move(options), dead_letters);
  bool sizes_known = true;
  for (const std::string& path : impl->options.paths) {
    FUSELINE_FAIL_IF_ERROR([&]() -> Status {
      FUSELINE_ASSIGN_OR_RETURN(const auto probe, ByteStream::Open(path));
      return OkStatus();
    }());
    std::error_code unknown;
    const auto size = std::filesystem::file_size(path, unknown);
    sizes_known = sizes_known && !unknown;
    if (!unknown) impl->bytes_total += static_cast<std::int64_t>(size);
  }
  if (!sizes_known) impl->bytes_total = 0;
  return std::unique_ptr<FileSource>(new FileSource(std::move(impl)));
}

Result<std::optional<EventBatch>> FileSource::Next(std::int64_t timeout_ms) {
  if (impl_->finished) return std::nullopt;
  if (impl_->paused) {
    std::this_thread::sleep_for(std::chrono::milliseconds(timeout_ms));
    return std::nullopt;
  }
  FUSELINE_FAIL_IF_ERROR(impl_->FillBatch());
  FUSELINE_FAIL_IF_ERROR(impl_->intake.Settle(kSettleMs));
  impl_->finished = impl_->batch.end_of_input;
  impl_->complete = false;
  impl_->batch_bytes = 0;
  return std::exchange(impl_->batch, EventBatch());
}

Status FileSource::Pause(std::span<const std::int32_t> partitions) {
  if (std::find(partitions.begin(), partitions.end(), 0) != partitions.end()) impl_->paused = true;
  return OkStatus();
}

Status FileSource::Resume(std::span<const std::int32_t> partitions) {
  if (std::find(partitions.begin(), partitions.end(), 0) != partitions.end()) impl_->paused = false;
  return OkStatus();
}

Status FileSource::Commit(const std::map<std::int32_t, kafka::CommittedOffset>&) { return OkStatus(); }

bool FileSource::finished() const { return impl_->finished; }

FileProgress FileSource::progress() const {
  return {impl_->bytes_of_files_done + (impl_->reader ? impl_->reader->bytes_read() : 0), impl_->bytes_total};
}

const std::vector<std::string>& FileSource::damaged_paths() const { return impl_->damaged; }

}  // namespace fuseline
