// A ranker's word comes back as it was written; what others write there is nobody's. Method: examples.
#include "fuseline/fusion/acknowledgement.h"

#include <cstdint>
#include <limits>
#include <string>

#include <gtest/gtest.h>

namespace fuseline {
namespace {

TEST(AcknowledgementTest, AWordComesBackAsItWasWritten) {
  constexpr auto kMost = std::numeric_limits<std::int64_t>::max();
  for (const Acknowledgement& word : {Acknowledgement{}, Acknowledgement{7, 3, 1'000, 2'000},
                                      Acknowledgement{std::numeric_limits<std::uint64_t>::max(), 1, kMost, kMost}}) {
    EXPECT_EQ(ParseAcknowledgement(AcknowledgementText(word)), word) << AcknowledgementText(word);
  }
  EXPECT_EQ(AcknowledgementText({7, 3, 1'000, 2'000}), "7 3 1000 2000");
}

TEST(AcknowledgementTest, ARankerOfBeforeSaysNotWhenItWrote) {
  EXPECT_EQ(ParseAcknowledgement("7 3 1000"), (Acknowledgement{7, 3, 1'000, 0}));
}

TEST(AcknowledgementTest, WhatIsNoWordIsNone) {
  for (const std::string text :
       {"", " ", "7", "7 3", "7 3 ", "7 3 1000 ", "7  3 1000", " 7 3 1000", "7 3 1000 2000 1", "7 3 -1 2000",
        "-7 3 1 1", "7 3 1000 -1", "a b c", "7 3 1000x", "7 3 99999999999999999999", "7\t3\t1000"}) {
    EXPECT_EQ(ParseAcknowledgement(text), std::nullopt) << '"' << text << '"';
  }
}

}  // namespace
}  // namespace fuseline
