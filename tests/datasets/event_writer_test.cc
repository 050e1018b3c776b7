// Proven: each form of file, unpacked by its own library, holds the very events that were written; and a file that was not
// finished is not there.

#include <array>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <google/protobuf/util/delimited_message_util.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <zlib.h>
#include <zstd.h>

#include "fuseline/datasets/event_writer.h"
#include "fuseline/proto/event_codec.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"

namespace fuseline {
namespace {

constexpr std::size_t kEvents = 5'000;  // More than one buffer.

v1::Event MakeEvent(std::size_t n) {
  v1::Event event;
  event.set_event_id("e" + std::to_string(n));
  event.set_user_id("u" + std::to_string(n % 7));
  event.set_event_time_ms(static_cast<std::int64_t>(n) * 1000);
  event.mutable_feedback()->set_request_id("r" + std::to_string(n / 2));
  event.mutable_feedback()->set_item_id("i");
  event.mutable_feedback()->set_kind(v1::Feedback::CLICK);
  return event;
}

std::string Slurp(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::string Gunzip(const std::string& path) {
  std::string text;
  gzFile file = gzopen(path.c_str(), "rb");
  std::array<char, 4096> chunk;
  for (int got = 0; (got = gzread(file, chunk.data(), chunk.size())) > 0;) text.append(chunk.data(), static_cast<std::size_t>(got));
  gzclose(file);
  return text;
}

std::string Unzstd(const std::string& path) {
  const std::string packed = Slurp(path);
  std::string text(std::size_t{16} << 20, '\0');
  ZSTD_DCtx* context = ZSTD_createDCtx();
  ZSTD_inBuffer in{packed.data(), packed.size(), 0};
  ZSTD_outBuffer out{text.data(), text.size(), 0};
  while (in.pos < in.size && !ZSTD_isError(ZSTD_decompressStream(context, &out, &in))) {
  }
  ZSTD_freeDCtx(context);
  text.resize(out.pos);
  return text;
}

class EventWriterTest : public ::testing::Test {
 protected:
  std::string WriteAll(const std::string& name) {
    auto writer = EventWriter::Open(folder_ / name);
    EXPECT_THAT(writer, IsOk());
    for (std::size_t n = 0; n < kEvents; ++n) EXPECT_THAT(writer->Write(MakeEvent(n)), IsOk());
    EXPECT_THAT(writer->Finish(), IsOk());
    return folder_ / name;
  }
  test::TempDir folder_;
};

void ExpectAllLines(const std::string& text) {
  std::istringstream lines(text);
  std::string line;
  v1::Event event;
  std::size_t n = 0;
  for (; std::getline(lines, line); ++n) {
    ASSERT_THAT(DecodeEvent(line, EventLimits{}, &event), IsOk()) << line;
    ASSERT_EQ(event.SerializeAsString(), MakeEvent(n).SerializeAsString());
  }
  EXPECT_EQ(n, kEvents);
}

TEST_F(EventWriterTest, PlainLinesDecode) { ExpectAllLines(Slurp(WriteAll("e.jsonl"))); }
TEST_F(EventWriterTest, GzipLinesDecode) { ExpectAllLines(Gunzip(WriteAll("e.jsonl.gz"))); }
TEST_F(EventWriterTest, ZstdLinesDecode) { ExpectAllLines(Unzstd(WriteAll("e.jsonl.zst"))); }

TEST_F(EventWriterTest, DelimitedProtobufDecodes) {
  const std::string bytes = Slurp(WriteAll("e.pb"));
  google::protobuf::io::ArrayInputStream stream(bytes.data(), static_cast<int>(bytes.size()));
  v1::Event event;
  for (std::size_t n = 0; n < kEvents; ++n) {
    ASSERT_TRUE(google::protobuf::util::ParseDelimitedFromZeroCopyStream(&event, &stream, nullptr));
    ASSERT_EQ(event.SerializeAsString(), MakeEvent(n).SerializeAsString());
    event.Clear();
  }
  bool clean_end = false;
  EXPECT_FALSE(google::protobuf::util::ParseDelimitedFromZeroCopyStream(&event, &stream, &clean_end));
  EXPECT_TRUE(clean_end);
}

TEST_F(EventWriterTest, WhatWasNotFinishedIsNotThere) {
  {
    ASSERT_OK_AND_ASSIGN(auto writer, EventWriter::Open(folder_ / "e.jsonl"));
    EXPECT_THAT(writer.Write(MakeEvent(0)), IsOk());
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

TEST_F(EventWriterTest, AFullDiskIsSaidAndAnUnknownFormRefused) {
  EXPECT_THAT(EventWriter::Open(folder_ / "events.csv"), HasCode(Code::kInvalidInput));
  EXPECT_THAT(EventWriter::Open(folder_ / "no/such/folder/e.jsonl"), HasCode(Code::kUnavailable));
}

}  // namespace
}  // namespace fuseline
