// The bytes of the session store, held by literals: a difference here needs a new format number.

#include "session_codec.h"

#include <gtest/gtest.h>

#include "fuseline/core/digest.h"
#include "fuseline/test_support/matchers.h"
#include "session_events.h"

namespace fuseline::test {
namespace {

OpenEvent Sample() {
  OpenEvent event{.time_ms = 1'000, .offset = 300, .previous_offset = 299, .stream_before_ms = 1'002, .id = "e1"};
  v1::Event payload = FeedbackEvent("", 0, "", "r1", "i1");
  event.payload = payload.SerializeAsString();
  return event;
}

TEST(SessionCodecTest, AnOpenEventHasTheseBytesAndIsReadBack) {
  std::string bytes;
  EncodeOpenEvent(Sample(), &bytes);
  EncodeOpenEvent(Sample(), &bytes);

  const std::string one = "e807ac02010300026531" "0c" "2a0a0a02723112026931" "1801";
  EXPECT_EQ(ToHex(bytes), one + one);
  ASSERT_OK_AND_ASSIGN(const auto events, DecodeChunk(bytes));
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[1].stream_before_ms, 1'002);
  EXPECT_EQ(events[1].previous_offset, 299);
  EXPECT_EQ(events[1].payload, Sample().payload);
}

TEST(SessionCodecTest, TheFirstRecordOfALogKeepsTheTimeBeforeTime) {
  OpenEvent event = Sample();
  event.offset = 0;
  event.previous_offset = -1;
  event.stream_before_ms = kBeforeTimeMs;
  std::string bytes;
  EncodeOpenEvent(event, &bytes);

  ASSERT_OK_AND_ASSIGN(const auto events, DecodeChunk(bytes));
  EXPECT_EQ(events[0].stream_before_ms, kBeforeTimeMs);
  EXPECT_EQ(events[0].previous_offset, -1);
}

TEST(SessionCodecTest, EveryTruncationOfAnEventIsCorrupt) {
  std::string bytes;
  EncodeOpenEvent(Sample(), &bytes);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THAT(DecodeChunk(std::string_view(bytes).substr(0, size)), HasCode(Code::kCorrupt)) << size;
  }
}

TEST(SessionCodecTest, APartitionsStateHasTheseBytesAndIsReadBack) {
  PartitionState state{.next_offset = 5, .previous_offset = 4, .stream_time_ms = 7, .finished = true};
  state.accounting.set_read(5);
  state.last_name.emplace().set_offset(3);

  const std::string bytes = EncodeState(state);

  EXPECT_EQ(ToHex(bytes), "05080e0302100302" "0805");
  ASSERT_OK_AND_ASSIGN(const auto read, DecodeState(bytes));
  EXPECT_EQ(read.accounting.read(), 5u);
  EXPECT_EQ(read.last_name->offset(), 3);
  EXPECT_TRUE(read.finished);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THAT(DecodeState(std::string_view(bytes).substr(0, size)), HasCode(Code::kCorrupt)) << size;
  }
}

}  // namespace
}  // namespace fuseline::test
