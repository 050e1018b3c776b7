// Any bytes at all as an event file, of each name that FileSource knows: every record is accounted for by offset, what cannot be
// read leaves a letter, and plain bytes split the same whatever the pieces in which they come. The first byte chooses.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fuseline/core/check.h"
#include "fuseline/ingest/file_source.h"
#include "fuseline/test_support/temp_dir.h"
#include "record_reader.h"

namespace fuseline {
namespace {

constexpr std::int64_t kRecordBytes = 300;

class Pieces final : public ByteStream {
 public:
  Pieces(std::string_view bytes, std::size_t piece) : rest_(bytes), piece_(piece) {}
  Result<std::size_t> Read(char* into, std::size_t size) override {
    const std::string_view taken = rest_.substr(0, std::min(size, piece_));
    std::copy(taken.begin(), taken.end(), into);
    rest_.remove_prefix(taken.size());
    return taken.size();
  }
  std::int64_t bytes_read() const override { return 0; }

 private:
  std::string_view rest_;
  const std::size_t piece_;
};

// Every record's bytes, or its trouble: how much of the rest a letter holds may depend on the pieces.
std::vector<std::string> RecordsOf(std::string_view bytes, Framing framing, std::size_t piece) {
  RecordReader reader(std::make_unique<Pieces>(bytes, piece), framing, kRecordBytes);
  std::vector<std::string> records;
  for (;;) {
    const auto record = reader.Next();
    FUSELINE_CHECK(record.has_value());
    if (!*record) return records;
    FUSELINE_CHECK((*record)->bytes.size() <= static_cast<std::size_t>(kRecordBytes));
    FUSELINE_CHECK((*record)->size_bytes >= static_cast<std::int64_t>((*record)->bytes.size()) && records.size() <= bytes.size());
    records.push_back((*record)->trouble.empty() ? std::string((*record)->bytes) : "trouble: " + (*record)->trouble);
  }
}

struct CountingSink final : DeadLetterSink {
  Status Write(DeadLetter&& letter) override {
    FUSELINE_CHECK(!letter.reason.empty() && letter.fate == RecordFate::kMalformed);
    ++letters;
    return OkStatus();
  }
  Status Flush(std::int64_t) override { return OkStatus(); }
  std::int64_t letters = 0;
};

void CheckFile(std::string_view bytes, const char* name) {
  const test::TempDir dir;
  std::ofstream(dir / name, std::ios::binary) << bytes;
  FileSourceOptions options;
  options.paths = {dir / name};
  options.batch_records = 7;
  options.limits.event_bytes = kRecordBytes;
  CountingSink sink;
  const auto source = FileSource::Open(std::move(options), &sink);
  FUSELINE_CHECK(source.has_value());
  std::int64_t records = 0, malformed = 0;
  while (!(*source)->finished()) {
    const auto batch = (*source)->Next(0);
    FUSELINE_CHECK(batch.has_value() && batch->has_value());
    for (const Record& record : (*batch)->records) {
      FUSELINE_CHECK(record.offset == records++);
      malformed += record.fate == RecordFate::kMalformed ? 1 : 0;
    }
    FUSELINE_CHECK((*batch)->next_offset == records);
  }
  FUSELINE_CHECK(malformed == sink.letters);
}

}  // namespace
}  // namespace fuseline

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fuseline;
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  for (const Framing framing : {Framing::kLines, Framing::kVarintLength}) {
    FUSELINE_CHECK(RecordsOf(bytes, framing, 1) == RecordsOf(bytes, framing, 1 << 20));
  }
  constexpr const char* kNames[] = {"a.jsonl", "a.pb", "a.jsonl.gz", "a.pb.gz", "a.jsonl.zst", "a.pb.zst"};
  CheckFile(bytes, kNames[data[0] % 6]);
  return 0;
}
