// The accounting identity and its two spellings.
#include "fuseline/ingest/accounting.h"

#include <gtest/gtest.h>

namespace fuseline {
namespace {

v1::Accounting Sample() {
  v1::Accounting accounting;
  accounting.set_read(36);
  accounting.set_used(1);
  accounting.set_pending(2);
  accounting.set_duplicate(3);
  accounting.set_late(4);
  accounting.set_orphan(5);
  accounting.set_malformed(6);
  accounting.set_quarantined(7);
  accounting.set_control(8);
  accounting.set_used_over_max_events(1);
  return accounting;
}

TEST(AccountingTest, EveryRecordIsSomewhere) {
  v1::Accounting accounting = Sample();
  EXPECT_TRUE(IsBalanced(accounting));
  EXPECT_EQ(AccountingText(accounting),
            "read 36 = used 1 + pending 2 + duplicate 3 + late 4 + orphan 5 + malformed 6 + quarantined 7 + control 8");
  accounting.set_late(3);
  EXPECT_FALSE(IsBalanced(accounting));
  EXPECT_NE(AccountingText(accounting).find("read 36 != used 1"), std::string::npos);
}

TEST(AccountingTest, AddingKeepsTheIdentity) {
  v1::Accounting total = Sample();
  AddAccounting(Sample(), &total);
  EXPECT_TRUE(IsBalanced(total));
  EXPECT_EQ(AccountingJson(total),
            R"({"read":72,"used":2,"pending":4,"duplicate":6,"late":8,"orphan":10,"malformed":12,"quarantined":14,"control":16})");
  EXPECT_EQ(total.used_over_max_events(), 2u);
}

}  // namespace
}  // namespace fuseline
