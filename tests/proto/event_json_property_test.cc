// Any valid event survives JSON and protobuf bit by bit. The events are drawn; a failure prints the seed to run it again with.

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "fuseline/core/random.h"
#include "fuseline/proto/event_codec.h"
#include "fuseline/test_support/matchers.h"

#include "any_event.h"
#include "text.h"

namespace fuseline {
namespace {

using test::AnyEvent;

RC_GTEST_PROP(EventJsonPropertyTest, WhatIsWrittenAsJsonIsReadBack, (std::uint64_t seed)) {
  const auto event = AnyEvent(seed);
  v1::Event again;
  const auto status = DecodeEvent(EncodeEventJson(event), {}, &again);
  RC_ASSERT(status.message == "");
  RC_ASSERT(again.SerializeAsString() == event.SerializeAsString());
}

RC_GTEST_PROP(EventJsonPropertyTest, WhatIsWrittenAsProtobufIsReadBack, (std::uint64_t seed)) {
  const auto event = AnyEvent(seed);
  v1::Event again;
  const auto status = DecodeEvent(event.SerializeAsString(), {}, &again);
  RC_ASSERT(status.message == "");
  RC_ASSERT(again.SerializeAsString() == event.SerializeAsString());
}

// Flipping bytes may still give an event, never one that breaks a promise, and never a crash.
RC_GTEST_PROP(EventJsonPropertyTest, ADamagedEventIsRefusedOrStillValid, (std::uint64_t seed, std::uint64_t damage_seed)) {
  Random random(damage_seed, "damage", 0);
  auto bytes = random.NextBelow(2) == 0 ? AnyEvent(seed).SerializeAsString() : EncodeEventJson(AnyEvent(seed));
  for (auto left = 1 + random.NextBelow(4); left > 0; --left) {
    bytes[random.NextBelow(bytes.size())] = static_cast<char>(random.NextU64());
  }
  v1::Event again;
  const auto status = DecodeEvent(bytes, {}, &again);
  if (status.ok()) RC_ASSERT(ValidateEvent(again, {}).ok());
  RC_ASSERT(status.ok() == status.message.empty());
  RC_ASSERT(IsUtf8(status.message));
}

RC_GTEST_PROP(TextPropertyTest, Base64IsReadBackAndNothingElseIsRead, (const std::string& bytes)) {
  const auto text = ToBase64(bytes);
  RC_ASSERT(FromBase64(text) == bytes);
  RC_ASSERT(!FromBase64(text + "="));
}

TEST(TextTest, Base64HasTheAnswersOfItsStandard) {
  EXPECT_EQ(ToBase64("") + ToBase64("f") + ToBase64("fo") + ToBase64("foo") + ToBase64("foobar"), "Zg==Zm8=Zm9vZm9vYmFy");
  for (const auto* wrong : {"Zg", "Zg=", "Zh==", "Zm9=", "Z===", "====", "Zm8=Zm8=", "Zm-_", "Zm8 "}) {
    EXPECT_FALSE(FromBase64(wrong).has_value()) << wrong;
  }
}

TEST(TextTest, Utf8IsWhatTheStandardSays) {
  for (const auto* good : {"", "a", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_TRUE(IsUtf8(good)) << Shown(good);
  }
  for (const auto* bad : {"\x80", "\xc0\x80", "\xc1\xbf", "\xc2", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe2\x82", "\xff"}) {
    EXPECT_FALSE(IsUtf8(bad)) << ToBase64(bad);
  }
}

}  // namespace
}  // namespace fuseline
