// Any valid event survives JSON and protobuf bit by bit. The events are drawn; a failure prints the seed to run it again with.

#include <bit>
#include <cmath>
#include <limits>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "fuseline/core/random.h"
#include "fuseline/proto/event_codec.h"
#include "fuseline/test_support/matchers.h"

#include "text.h"

namespace fuseline {
namespace {

// Any finite float, by its bits: denormals and the ends of the range as likely as the rest.
float AnyFloat(Random& random) {
  for (;;) {
    const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(random.NextU64()));
    if (std::isfinite(value)) return random.NextBelow(8) == 0 ? -0.0F : value;
  }
}

std::string AnyText(Random& random) {
  static constexpr const char* kPieces[] = {"a", "Z", "0", " ", "\"", "\\", "/", "\n", "\x01", "\x7f", "é", "語", "😀", "\u2028"};
  std::string text = "t";
  for (auto left = random.NextBelow(12); left > 0; --left) text += kPieces[random.NextBelow(std::size(kPieces))];
  return text;
}

void FillFeatures(Random& random, v1::Features* features) {
  for (auto left = random.NextBelow(5); left > 0; --left) features->add_dense(AnyFloat(random));
  for (auto left = random.NextBelow(3); left > 0; --left) features->add_ids(random.NextU64());
}

void FillExposure(Random& random, v1::Exposure* exposure) {
  exposure->set_request_id(AnyText(random));
  exposure->set_arm(AnyText(random));
  exposure->set_policy_version(random.NextU64());
  for (int i = 0; i < 32; ++i) exposure->mutable_schema_digest()->push_back(static_cast<char>(random.NextU64()));
  FillFeatures(random, exposure->mutable_user_features());
  FillFeatures(random, exposure->mutable_context_features());
  if (random.NextBelow(2) == 0) {
    exposure->mutable_box()->set_lower(-2);
    exposure->mutable_box()->set_upper(2);
    exposure->set_log_density(random.NextNormal() * 1e-300);
  }
  const auto tasks = random.NextBelow(4);
  for (auto items = random.NextBelow(4); items > 0; --items) {
    auto& item = *exposure->add_items();
    item.set_item_id(AnyText(random));
    item.set_position(static_cast<std::uint32_t>(exposure->items_size()));
    FillFeatures(random, item.mutable_item_features());
    for (std::uint64_t t = 0; t < tasks; ++t) item.add_task_scores(AnyFloat(random));
    for (std::uint64_t d = 0; d < 2 * tasks; ++d) {
      item.add_baseline_action(static_cast<float>(random.NextUniform(-1, 1)));
      item.add_executed_action(static_cast<float>(random.NextUniform(-1, 1)));
    }
    item.set_fused_score(AnyFloat(random));
  }
}

v1::Event AnyEvent(std::uint64_t seed) {
  Random random(seed, "any_event", 0);
  v1::Event event;
  event.set_event_id(AnyText(random));
  event.set_user_id(AnyText(random));
  event.set_event_time_ms(static_cast<std::int64_t>(random.NextBelow(253'402'300'800'000)));
  switch (random.NextBelow(4)) {
    case 0: event.mutable_control()->mutable_tick()->set_predecessor_offset(std::numeric_limits<std::int64_t>::max()); break;
    case 1: {
      auto& feedback = *event.mutable_feedback();
      feedback.set_request_id(AnyText(random));
      feedback.set_item_id(AnyText(random));
      feedback.set_kind(static_cast<v1::Feedback::Kind>(random.NextBelow(11)));
      feedback.set_watch_ms(static_cast<std::int64_t>(random.NextBelow(1'000'000)));
      break;
    }
    default: FillExposure(random, event.mutable_exposure());
  }
  return event;
}

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
