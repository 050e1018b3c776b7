// The walk over an event's bytes says what the parser says: on valid events, on ones that were cut, shuffled, doubled, mistyped
// and extended at any depth, and on plain damage. The parser and ValidateEvent are the slow and obvious way.

#include "fuseline/proto/event_view.h"

#include <algorithm>
#include <random>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "any_event.h"
#include "event_scan.h"
#include "fuseline/core/random.h"
#include "fuseline/proto/wire.h"
#include "fuseline/test_support/matchers.h"

namespace fuseline {
namespace {

using test::AnyEvent;

std::string BodyBytes(const v1::Event& event) {
  if (event.has_exposure()) return event.exposure().SerializeAsString();
  return event.has_feedback() ? event.feedback().SerializeAsString() : event.control().SerializeAsString();
}

// Both ways on the same bytes. Returns whether they accept.
bool ExpectSameJudgement(std::string_view bytes, const EventLimits& limits = {}) {
  v1::Event expected;
  const Status by_parser = DecodeEvent(bytes, limits, &expected);
  ByteArena arena;
  EventView view;
  const Status by_walk = ViewEvent(bytes, limits, arena, &view);
  EXPECT_EQ(by_walk.message, by_parser.message);
  EXPECT_EQ(by_walk.code, by_parser.code);
  if (!by_parser.ok() || !by_walk.ok()) return false;
  EXPECT_EQ(view.event_id, expected.event_id());
  EXPECT_EQ(view.user_id, expected.user_id());
  EXPECT_EQ(view.event_time_ms, expected.event_time_ms());
  v1::Event parsed;
  EXPECT_THAT(ParseEvent(view, &parsed), IsOk());
  EXPECT_EQ(parsed.payload_case(), expected.payload_case());
  EXPECT_EQ(BodyBytes(parsed), BodyBytes(expected));
  return true;
}

// One field with its tag, as it lies in the bytes.
using Field = std::pair<std::uint32_t, std::string>;

std::vector<Field> FieldsOf(std::string_view bytes) {
  std::vector<Field> fields;
  wire::Reader in(bytes);
  while (in.Next()) {
    std::string raw;
    wire::AppendVarint(in.tag(), &raw);
    const std::uint64_t number = in.number();
    switch (static_cast<wire::Type>(in.tag() & 7)) {
      case wire::Type::kVarint: wire::AppendVarint(number, &raw); break;
      case wire::Type::kFixed32: raw.append(reinterpret_cast<const char*>(&number), 4); break;
      case wire::Type::kFixed64: raw.append(reinterpret_cast<const char*>(&number), 8); break;
      case wire::Type::kBytes: wire::AppendVarint(in.bytes().size(), &raw); raw.append(in.bytes()); break;
    }
    fields.emplace_back(in.tag(), raw);
  }
  EXPECT_TRUE(in.ok());
  return fields;
}

std::string UnknownField(Random& random) {
  std::string field;
  const auto number = static_cast<std::uint32_t>(20 + random.NextBelow(5'000));
  switch (random.NextBelow(5)) {
    case 0: wire::AppendNumber(number, random.NextU64() >> random.NextBelow(64), &field); break;
    case 1: wire::AppendVarint(wire::Tag(number, wire::Type::kFixed32), &field); field += "abcd"; break;
    case 2: wire::AppendVarint(wire::Tag(number, wire::Type::kFixed64), &field); field += "abcdefgh"; break;
    case 3: field += "\x9b\x06\x9c\x06"; break;  // A group, which nobody writes any more.
    default: wire::AppendBytes(number, std::string(random.NextBelow(20), '\xff'), &field);
  }
  return field;
}

// Changes one thing of a message's fields, here or in a nested one.
std::string Changed(std::string_view bytes, Random& random) {
  std::vector<Field> fields = FieldsOf(bytes);
  if (fields.empty()) return UnknownField(random);
  auto& [tag, raw] = fields[random.NextBelow(fields.size())];
  switch (random.NextBelow(8)) {
    case 0: fields.emplace_back(tag, raw); break;
    case 1: raw.clear(); break;
    case 2: std::shuffle(fields.begin(), fields.end(), std::minstd_rand(static_cast<std::uint32_t>(random.NextU64()))); break;
    case 3: raw = UnknownField(random) + raw; break;
    case 4: raw = std::string(1, static_cast<char>(tag ^ (1U + random.NextBelow(7)))) + raw.substr(1); break;
    case 5: wire::AppendNumber(tag >> 3, random.NextU64() >> random.NextBelow(64), &(raw = std::string())); break;
    default: {  // Deeper, where there is a depth.
      wire::Reader in(raw);
      if (!in.Next() || (tag & 7) != 2 || in.bytes().size() < 2) break;
      const std::string inner(in.bytes());
      wire::Reader probe(inner);
      while (probe.Next()) {}
      if (!probe.ok()) break;
      wire::AppendBytes(tag >> 3, Changed(inner, random), &(raw = std::string()));
    }
  }
  std::string changed;
  for (const auto& field : fields) changed += field.second;
  return changed;
}

TEST(EventViewTest, EveryCanonicalEventButAControlIsAcceptedByTheWalkAlone) {
  for (std::uint64_t seed = 0; seed < 3'000; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const v1::Event event = AnyEvent(seed);
    const std::string bytes = event.SerializeAsString();
    EventView view;

    EXPECT_EQ(ScanEvent(bytes, {}, &view), !event.has_control());
    ASSERT_TRUE(ExpectSameJudgement(bytes));
  }
}

TEST(EventViewTest, WhateverIsChangedTheWalkAndTheParserAgree) {
  int accepted = 0;
  for (std::uint64_t seed = 0; seed < 30'000 && !HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random(seed, "changes", 0);
    std::string bytes = AnyEvent(seed % 1'000).SerializeAsString();
    for (auto left = 1 + random.NextBelow(3); left > 0; --left) {
      bytes = Changed(bytes, random);
      wire::Reader probe(bytes);
      while (probe.Next()) {}
      if (!probe.ok()) break;  // No fields any more.
    }
    accepted += ExpectSameJudgement(bytes) ? 1 : 0;
  }
  EXPECT_GT(accepted, 8'000);
  EXPECT_LT(accepted, 25'000);
}

TEST(EventViewTest, WhateverIsDamagedTheWalkAndTheParserAgree) {
  for (std::uint64_t seed = 0; seed < 30'000 && !HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random(seed, "damage", 0);
    std::string bytes = AnyEvent(seed % 1'000).SerializeAsString();
    for (auto left = 1 + random.NextBelow(3); left > 0; --left) {
      bytes[random.NextBelow(bytes.size())] = static_cast<char>(random.NextU64());
    }
    if (random.NextBelow(4) == 0) bytes.resize(random.NextBelow(bytes.size()));
    ExpectSameJudgement(bytes);
  }
}

TEST(EventViewTest, ABoxBehindTheItemsIsHeldAgainstThem) {
  v1::Exposure exposure;
  exposure.set_request_id("r");
  v1::ExposedItem& shown = *exposure.add_items();
  shown.set_item_id("i");
  shown.add_task_scores(1);
  for (const float baseline : {0.0F, 0.5F}) {
    shown.add_baseline_action(baseline);
    shown.add_executed_action(baseline + 0.25F);
  }
  for (const float upper : {0.1F, 0.3F}) {
    v1::Exposure box;
    box.mutable_box()->set_upper(upper);
    std::string bytes = "\x0a\x01" "e\x12\x01u";
    wire::AppendBytes(4, exposure.SerializeAsString() + box.SerializeAsString(), &bytes);

    EXPECT_EQ(ExpectSameJudgement(bytes), upper > 0.25F);
  }
}

TEST(EventViewTest, InConfluentFramingTheWalkAndTheParserAgree) {
  const std::string framings[] = {{"\0\0\0\0\7\0", 6}, {"\0\0\0\0\7\2\0", 7}, {"\0\0\0\0\7\2\2", 7}, {"\0\0\0", 3}};
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    for (std::size_t i = 0; i < std::size(framings); ++i) {
      ASSERT_EQ(ExpectSameJudgement(framings[i] + AnyEvent(seed).SerializeAsString()), i < 2);
    }
  }
}

TEST(EventViewTest, EachLimitIsTheSameForBoth) {
  const EventLimits tight[] = {
      {.event_bytes = 100}, {.string_bytes = 5}, {.items = 1}, {.values = 1}, {.items = 0, .values = 0}};
  for (const EventLimits& limits : tight) {
    int refused = 0;
    for (std::uint64_t seed = 0; seed < 500; ++seed) {
      SCOPED_TRACE("seed " + std::to_string(seed));
      refused += ExpectSameJudgement(AnyEvent(seed).SerializeAsString(), limits) ? 0 : 1;
    }
    EXPECT_GT(refused, 20);
  }
}

TEST(EventViewTest, UnknownFieldsOfABodySurviveByteForByteAndThoseBesideItAreDropped) {
  std::string feedback = "\x0a\x01r\x12\x01i";
  wire::AppendBytes(901, "of tomorrow", &feedback);
  std::string bytes = "\x0a\x01" "e\x12\x01u\x18\x07";
  wire::AppendBytes(900, "beside", &bytes);
  wire::AppendBytes(5, feedback, &bytes);

  ByteArena arena;
  EventView view;
  ASSERT_THAT(ViewEvent(bytes, {}, arena, &view), IsOk());

  EXPECT_EQ(view.body, feedback);
}

TEST(EventViewTest, ABodyThatIsUnusualIsWrittenAnew) {
  const std::string twice = "\x0a\x01" "e\x12\x01u\x18\x07" "\x2a\x09\x0a\x01x\x12\x01i\x0a\x01r";

  ByteArena arena;
  EventView view;
  ASSERT_THAT(ViewEvent(twice, {}, arena, &view), IsOk());

  EXPECT_EQ(view.body, "\x0a\x01r\x12\x01i");
}

TEST(EventViewTest, ABatchesViewsStayWhenItsArenaIsMoved) {
  ByteArena arena;
  std::vector<EventView> views(5'000);
  for (std::size_t i = 0; i < views.size(); ++i) {
    ASSERT_THAT(ViewEvent(AnyEvent(i).SerializeAsString(), {}, arena, &views[i]), IsOk());
  }
  ByteArena moved = std::move(arena);
  arena = ByteArena();
  arena.Add(std::string(1'000'000, 'x'));

  for (std::size_t i = 0; i < views.size(); ++i) {
    ASSERT_EQ(views[i].event_id, AnyEvent(i).event_id());
    ASSERT_EQ(views[i].body, BodyBytes(AnyEvent(i)));
  }
}

}  // namespace
}  // namespace fuseline
