// The bytes of the session store, held by literals: a difference here needs a new format number.

#include "session_codec.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/core/digest.h"
#include "fuseline/test_support/matchers.h"
#include "session_events.h"

namespace fuseline::test {
namespace {

const std::string kBody = FeedbackEvent("", 0, "", "r1", "i1").feedback().SerializeAsString();

SessionWindow::NewEvent Sample(std::int64_t offset, bool glued = false) {
  return {.time_ms = 1'000, .offset = offset, .is_exposure = false, .glued = glued, .id = "e1", .body = kBody};
}

TEST(SessionCodecTest, EventsOfASegmentHaveTheseBytesAndAreReadBack) {
  std::string bytes;
  EventEncoder encoder;
  encoder.Put("u", Sample(300), &bytes);
  encoder.Put("v", Sample(299, /*glued=*/true), &bytes);

  EXPECT_EQ(ToHex(bytes), "0175" "d804" "d00f" "00" "026531" "0a" "0a0272311202693118" "01"
                          "0176" "01" "00" "02" "026531" "0a" "0a0272311202693118" "01");
  std::vector<std::string> read;
  EXPECT_THAT(DecodeSegment(bytes, [&](std::string_view user_id, const SessionWindow::NewEvent& event) {
    EXPECT_EQ(event.body, kBody);
    read.push_back(std::string(user_id) + ' ' + std::to_string(event.offset) + ' ' + std::to_string(event.time_ms) + ' ' +
                   std::string(event.id) + (event.glued ? " glued" : ""));
  }), IsOk());
  EXPECT_EQ(read, (std::vector<std::string>{"u 300 1000 e1", "v 299 1000 e1 glued"}));
}

TEST(SessionCodecTest, EveryTruncationOfAnEventIsCorrupt) {
  std::string bytes;
  EventEncoder().Put("u", Sample(300), &bytes);
  for (std::size_t size = 1; size < bytes.size(); ++size) {
    EXPECT_THAT(DecodeSegment(std::string_view(bytes).substr(0, size), [](std::string_view, const auto&) {}), HasCode(Code::kCorrupt)) << size;
  }
}

TEST(SessionCodecTest, APageOfTheOutboxHasTheseBytesAndEveryTruncationIsCorrupt) {
  std::string page;
  AppendToPage({.offset = 300, .ordinal = 2, .bytes = "abc"}, &page);

  EXPECT_EQ(ToHex(page), "ac02" "02" "03616263");
  ASSERT_OK_AND_ASSIGN(const auto read, DecodePage(page));
  ASSERT_EQ(read.size(), 1u);
  EXPECT_EQ(read[0].offset, 300);
  EXPECT_EQ(read[0].ordinal, 2u);
  EXPECT_EQ(read[0].bytes, "abc");
  for (std::size_t size = 1; size < page.size(); ++size) {
    EXPECT_THAT(DecodePage(std::string_view(page).substr(0, size)), HasCode(Code::kCorrupt)) << size;
  }
}

}  // namespace
}  // namespace fuseline::test
