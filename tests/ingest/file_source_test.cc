// Files of every format, whole and broken. Compressed files are made here with zlib and zstd themselves.
#include "fuseline/ingest/file_source.h"

#include <fstream>
#include <numeric>

#include <zlib.h>
#include <zstd.h>

#include "event_samples.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"

namespace fuseline {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Gzip(const std::string& plain) {
  z_stream deflater = {};
  deflateInit2(&deflater, 6, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY);
  std::string packed(deflateBound(&deflater, plain.size()) + 64, '\0');
  deflater.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(plain.data()));
  deflater.avail_in = static_cast<uInt>(plain.size());
  deflater.next_out = reinterpret_cast<Bytef*>(packed.data());
  deflater.avail_out = static_cast<uInt>(packed.size());
  deflate(&deflater, Z_FINISH);
  packed.resize(deflater.total_out);
  deflateEnd(&deflater);
  return packed;
}

std::string Zstd(const std::string& plain) {
  std::string packed(ZSTD_compressBound(plain.size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), plain.data(), plain.size(), 3));
  return packed;
}

std::string Varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes.push_back(static_cast<char>(value | 0x80));
  bytes.push_back(static_cast<char>(value));
  return bytes;
}

std::string Frame(const std::string& bytes) { return Varint(bytes.size()) + bytes; }

struct Reading {
  std::vector<std::int64_t> offsets;
  std::string fates;                 // One letter a record: e event, m malformed, q quarantined.
  std::vector<std::string> ids;      // Of events.
  std::vector<DeadLetter> letters;
  std::int64_t next_offset = 0;
  std::vector<std::string> damaged;
  FileProgress progress;
};

class FileSourceTest : public ::testing::Test {
 protected:
  std::string Write(const std::string& name, const std::string& bytes) {
    const std::string path = dir_ / name;
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }

  static std::string JsonLines(int from, int to) {
    std::string lines;
    for (int i = from; i < to; ++i) lines += EncodeEventJson(ClickAt(i, "e" + std::to_string(i))) + '\n';
    return lines;
  }
  static std::string Frames(int from, int to) {
    std::string frames;
    for (int i = from; i < to; ++i) frames += Frame(ClickAt(i, "e" + std::to_string(i)).SerializeAsString());
    return frames;
  }

  static FileSourceOptions OptionsOf(std::vector<std::string> paths) {
    FileSourceOptions options;
    options.paths = std::move(paths);
    options.batch_records = 7;
    options.limits.event_bytes = 4'096;
    return options;
  }

  static Reading ReadAll(FileSourceOptions options) {
    FakeSink sink;
    Reading reading;
    auto source = FileSource::Open(std::move(options), &sink);
    EXPECT_THAT(source, IsOk());
    while (source && !(*source)->finished()) {
      const auto batch = (*source)->Next(0);
      EXPECT_THAT(batch, IsOk());
      if (!batch || !*batch) break;
      EXPECT_EQ((*batch)->partition, 0);
      EXPECT_EQ((*batch)->end_of_input, (*source)->finished());
      EXPECT_EQ(sink.durable, sink.written.size());
      for (const Record& record : (*batch)->records) {
        reading.offsets.push_back(record.offset);
        reading.fates += "emqv"[static_cast<int>(record.fate)];
        if (record.fate == RecordFate::kEvent) reading.ids.emplace_back(record.event.event_id);
      }
      reading.next_offset = (*batch)->next_offset;
    }
    EXPECT_TRUE(source && (*source)->finished());
    reading.letters = sink.written;
    reading.damaged = (*source)->damaged_paths();
    reading.progress = (*source)->progress();
    return reading;
  }

  const test::TempDir dir_;
};

TEST_F(FileSourceTest, EveryFormatGivesTheSameEventsWithRunningOffsets) {
  const std::vector<std::string> paths = {
      Write("a.jsonl", JsonLines(0, 10)),        Write("b.jsonl.gz", Gzip(JsonLines(10, 20))),
      Write("c.jsonl.zst", Zstd(JsonLines(20, 30))), Write("d.pb", Frames(30, 40)),
      Write("e.pb.gz", Gzip(Frames(40, 50))),    Write("f.pb.zst", Zstd(Frames(50, 60)))};
  const Reading reading = ReadAll(OptionsOf(paths));

  EXPECT_EQ(reading.fates, std::string(60, 'e'));
  for (std::size_t i = 0; i < reading.ids.size(); ++i) {
    EXPECT_EQ(reading.ids[i], "e" + std::to_string(i));
    EXPECT_EQ(reading.offsets[i], static_cast<std::int64_t>(i));
  }
  EXPECT_EQ(reading.next_offset, 60);
  EXPECT_EQ(reading.progress.bytes_read, reading.progress.bytes_total);
  EXPECT_GT(reading.progress.bytes_total, 0);
  EXPECT_TRUE(reading.damaged.empty());
}

TEST_F(FileSourceTest, FilesOfSeveralMembersAndLargerThanABufferAreReadThrough) {
  const std::string big = JsonLines(0, 5'000);
  ASSERT_GT(big.size(), 256u << 10);
  const Reading reading = ReadAll(OptionsOf({Write("a.jsonl.gz", Gzip(big) + Gzip(JsonLines(5'000, 5'010))),
                                             Write("b.jsonl.zst", Zstd(big) + Zstd(JsonLines(5'000, 5'010)))}));
  EXPECT_EQ(reading.fates, std::string(10'020, 'e'));
  EXPECT_EQ(reading.ids.back(), "e5009");
}

TEST_F(FileSourceTest, TenMalformedLinesLeaveTenDeadLettersAndStopNothing) {
  const auto inputs = MalformedInputs();
  std::string lines = JsonLines(0, 1);
  std::string frames = Frames(0, 1);
  for (const auto& [what, bytes] : inputs) {
    if (bytes.find('\n') == std::string::npos) lines += bytes + '\n' + JsonLines(1, 2);
    frames += Frame(bytes) + Frames(1, 2);
  }
  const Reading from_frames = ReadAll(OptionsOf({Write("a.pb", frames)}));
  EXPECT_EQ(from_frames.fates, "ememememememememememe");
  ASSERT_EQ(from_frames.letters.size(), 10u);
  for (std::size_t i = 0; i < 10; ++i) {
    const auto& [what, bytes] = inputs[i];
    SCOPED_TRACE(what);
    const DeadLetter& letter = from_frames.letters[i];
    EXPECT_EQ(letter.offset, static_cast<std::int64_t>(2 * i + 1));
    EXPECT_EQ(letter.line, letter.offset + 1);
    EXPECT_EQ(letter.fate, RecordFate::kMalformed);
    EXPECT_FALSE(letter.reason.empty());
    EXPECT_EQ(letter.size_bytes, static_cast<std::int64_t>(bytes.size()));
    EXPECT_EQ(letter.bytes, bytes.substr(0, 4'096));
  }

  const Reading from_lines = ReadAll(OptionsOf({Write("a.jsonl", lines)}));
  EXPECT_EQ(std::count(from_lines.fates.begin(), from_lines.fates.end(), 'm'), std::ssize(from_lines.letters));
  EXPECT_EQ(from_lines.letters.size(), 6u);  // Those without a newline among their bytes.
  EXPECT_EQ(from_lines.fates.front(), 'e');
  EXPECT_EQ(from_lines.fates.back(), 'e');
}

TEST_F(FileSourceTest, ALineLongerThanTheLimitIsOneDeadLetterHoweverLongItIs) {
  const std::string huge(1'000'000, 'x');
  const Reading reading = ReadAll(OptionsOf({Write("a.jsonl", JsonLines(0, 1) + huge + "\n" + JsonLines(1, 2) + huge)}));
  EXPECT_EQ(reading.fates, "emem");
  ASSERT_EQ(reading.letters.size(), 2u);
  EXPECT_EQ(reading.letters[0].size_bytes, 1'000'000);
  EXPECT_EQ(reading.letters[0].bytes.size(), 4'096u);
  EXPECT_EQ(reading.letters[1].size_bytes, 1'000'000);
}

TEST_F(FileSourceTest, ABlankLineIsARecordALastNewlineIsNot) {
  const Reading reading = ReadAll(OptionsOf({Write("a.jsonl", JsonLines(0, 1) + "\n" + JsonLines(1, 2)),
                                             Write("b.jsonl", "  \r\n" + EncodeEventJson(ClickAt(2, "e2")) + "\r\n" +
                                                                  EncodeEventJson(ClickAt(3, "e3")))}));
  EXPECT_EQ(reading.fates, "ememee");
  EXPECT_THAT(reading.ids, ElementsAre("e0", "e1", "e2", "e3"));
}

TEST_F(FileSourceTest, AFileCutAnywhereGivesWhatIsWholeThenOneDeadLetterAndTheNextFile) {
  const std::string frames = Frames(1, 6);
  const std::string next = Write("z.jsonl", JsonLines(5, 6));
  const auto records_before = [&](std::size_t cut) {  // Whole frames in the first `cut` bytes; frames are equal in size.
    return cut / (frames.size() / 5);
  };
  for (std::size_t cut = 0; cut <= frames.size(); ++cut) {
    SCOPED_TRACE(cut);
    const Reading reading = ReadAll(OptionsOf({Write("a.pb", frames.substr(0, cut)), next}));
    const bool inside = cut % (frames.size() / 5) != 0;
    EXPECT_EQ(reading.fates, std::string(records_before(cut), 'e') + (inside ? "me" : "e"));
    EXPECT_EQ(reading.damaged.size(), inside ? 1u : 0u);
  }
}

TEST_F(FileSourceTest, ACompressedFileCutAnywhereIsNamedAndTheNextFileGoesOn) {
  const std::string next = Write("z.jsonl", JsonLines(5, 6));
  for (const auto& [name, packed] : {std::pair{std::string("a.jsonl.gz"), Gzip(JsonLines(0, 5))},
                                     std::pair{std::string("a.jsonl.zst"), Zstd(JsonLines(0, 5))}}) {
    for (std::size_t cut = 0; cut < packed.size(); ++cut) {
      SCOPED_TRACE(name + " " + std::to_string(cut));
      const std::string path = Write(name, packed.substr(0, cut));
      const Reading reading = ReadAll(OptionsOf({path, next}));
      EXPECT_THAT(reading.damaged, ElementsAre(path));
      EXPECT_TRUE(reading.fates.ends_with("me")) << reading.fates;
      EXPECT_EQ(reading.ids.back(), "e5");
      ASSERT_FALSE(reading.letters.empty());
      EXPECT_THAT(reading.letters.back().reason, HasSubstr("cut short"));
    }
  }
}

TEST_F(FileSourceTest, ADamagedCompressedFileNeverPassesForWhole) {
  const std::string packed = Gzip(JsonLines(0, 50));
  for (std::size_t at = 10; at < packed.size(); at += 3) {  // Behind the header.
    SCOPED_TRACE(at);
    std::string damaged = packed;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    const Reading reading = ReadAll(OptionsOf({Write("a.jsonl.gz", damaged)}));
    EXPECT_EQ(reading.damaged.size(), 1u);
    EXPECT_EQ(reading.fates.back(), 'm');
  }
}

TEST_F(FileSourceTest, AFrameLengthThatCannotBeEndsItsFile) {
  const Reading reading = ReadAll(OptionsOf({Write("a.pb", Frames(0, 2) + std::string(11, '\xff') + Frames(2, 3)),
                                             Write("b.pb", Frames(3, 4) + Varint(1ull << 60) + "abc")}));
  EXPECT_EQ(reading.fates, "eemem");
  EXPECT_EQ(reading.letters[0].reason, "frame length is not a varint");
  EXPECT_EQ(reading.letters[1].reason, "file ends inside a frame");
  EXPECT_EQ(reading.damaged.size(), 2u);
}

TEST_F(FileSourceTest, AStartOffsetPassesOverRecordsWithoutJudgingThem) {
  FileSourceOptions options = OptionsOf({Write("a.jsonl", "bad\n" + JsonLines(1, 4)), Write("b.jsonl", JsonLines(4, 6))});
  options.start_offset = 3;
  const Reading reading = ReadAll(options);
  EXPECT_THAT(reading.offsets, ElementsAre(3, 4, 5));
  EXPECT_THAT(reading.ids, ElementsAre("e3", "e4", "e5"));
  EXPECT_TRUE(reading.letters.empty());
}

TEST_F(FileSourceTest, NoInputEndsAtOnce) {
  EXPECT_EQ(ReadAll(OptionsOf({})).next_offset, 0);
  EXPECT_EQ(ReadAll(OptionsOf({Write("a.jsonl", "")})).next_offset, 0);
}

TEST_F(FileSourceTest, AMissingFileIsFoundBeforeAnythingIsRead) {
  const auto source = FileSource::Open(OptionsOf({Write("a.jsonl", JsonLines(0, 1)), dir_ / "nobody.jsonl"}), nullptr);
  EXPECT_THAT(source, HasCode(Code::kNotFound));
  EXPECT_THAT(source, MessageNames("nobody.jsonl"));
  EXPECT_THAT(FileSource::Open(OptionsOf({dir_.path()}), nullptr), HasCode(Code::kInvalidInput));
}

TEST_F(FileSourceTest, ASinkThatFailsStopsReadingAndLosesNothing) {
  FakeSink sink;
  ASSERT_OK_AND_ASSIGN(const auto source, FileSource::Open(OptionsOf({Write("a.jsonl", "bad\nworse\n" + JsonLines(2, 3))}), &sink));
  sink.refuse_writes = 1;
  sink.refuse_flushes = 1;
  EXPECT_THAT(source->Next(0), HasCode(Code::kUnavailable));
  EXPECT_THAT(source->Next(0), HasCode(Code::kUnavailable));
  ASSERT_OK_AND_ASSIGN(const auto batch, source->Next(0));
  ASSERT_TRUE(batch.has_value());
  EXPECT_EQ(batch->records.size(), 3u);
  EXPECT_EQ(sink.durable, 2u);
}

TEST_F(FileSourceTest, APausedFileGivesNothingUntilItIsResumed) {
  ASSERT_OK_AND_ASSIGN(const auto source, FileSource::Open(OptionsOf({Write("a.jsonl", JsonLines(0, 3))}), nullptr));
  const std::int32_t all[] = {0};
  ASSERT_THAT(source->Pause(all), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto nothing, source->Next(1));
  EXPECT_FALSE(nothing.has_value());
  ASSERT_THAT(source->Resume(all), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto batch, source->Next(1));
  ASSERT_TRUE(batch.has_value());
  EXPECT_EQ(batch->records.size(), 3u);
}

}  // namespace
}  // namespace fuseline
