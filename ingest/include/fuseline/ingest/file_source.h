#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/ingest/dead_letter.h"
#include "fuseline/ingest/event_source.h"
#include "fuseline/proto/event_codec.h"
#include "fuseline/v1/config.pb.h"

namespace fuseline {

struct FileSourceOptions {
  // Read one after another. NAME.pb[.gz|.zst]: protobuf frames, each behind its length as a varint. Any other name
  // [.gz|.zst], and "-" for standard input: JSON lines.
  std::vector<std::string> paths;
  std::int64_t start_offset = 0;  // Records before it are passed over without decoding.
  std::int64_t batch_records = 2000;
  std::int64_t batch_bytes = 16 << 20;
  EventLimits limits;
};
FileSourceOptions FileSourceOptionsOf(const v1::Ingest& ingest, std::vector<std::string> paths);

// In bytes as they lie on disk, compressed or not.
struct FileProgress {
  std::int64_t bytes_read = 0;
  std::int64_t bytes_total = 0;  // 0: unknown, standard input is among the files.
};

// Events of files, as partition 0; the offset of a record is the number of records before it in all files. A blank line is
// a malformed record like any other. What cannot be read to its end (a cut or damaged stream, a frame longer than what is
// left) ends its file with one malformed record; the next file goes on. Nothing is quarantined: files carry no record time.
class FileSource final : public EventSource {
 public:
  // `dead_letters` is borrowed for the source's life. Errors: kNotFound if a file cannot be opened: all are tried here.
  static Result<std::unique_ptr<FileSource>> Open(FileSourceOptions options, DeadLetterSink* dead_letters);
  ~FileSource() override;

  Result<std::optional<EventBatch>> Next(std::int64_t timeout_ms) override;  // Never waits, unless paused.
  Status Pause(std::span<const std::int32_t> partitions) override;
  Status Resume(std::span<const std::int32_t> partitions) override;
  Status Commit(const std::map<std::int32_t, kafka::CommittedOffset>& offsets) override;
  bool caught_up(std::int32_t) const override { return false; }  // A file ends; nobody writes on.
  bool finished() const override;

  FileProgress progress() const;
  const std::vector<std::string>& damaged_paths() const;  // Files that could not be read to their end.

 private:
  struct Impl;
  explicit FileSource(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace fuseline
