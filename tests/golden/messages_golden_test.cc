// Bytes that outlive the process, as they are today. NAME.hex holds a message's bytes, NAME.txtpb what they say; both directions must stay, or
// logs, checkpoints and archives of yesterday become unreadable. Made with `protoc --deterministic_output --encode`. A new
// field gets a new file; these never change.

#include <cstdlib>

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "fuseline/core/digest.h"
#include "fuseline/core/file.h"
#include "fuseline/proto/event_view.h"
#include "fuseline/proto/offset_metadata.h"
#include "fuseline/proto/schema.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/v1/policy.pb.h"
#include "fuseline/v1/trajectory.pb.h"

namespace fuseline {
namespace {

std::string Golden(const std::string& name) {
  const auto text = ReadFile(std::string(std::getenv("FUSELINE_SOURCE_DIR")) + "/tests/golden/" + name);
  EXPECT_TRUE(text.has_value()) << name;
  return text.value_or("");
}

std::string GoldenBytes(const std::string& name) {
  auto hex = Golden(name + ".hex");
  std::erase(hex, '\n');
  const auto bytes = FromHex(hex);
  EXPECT_TRUE(bytes.has_value() && !bytes->empty()) << name;
  return bytes.value_or("");
}

template <typename Message>
void ExpectGolden(const std::string& name) {
  SCOPED_TRACE(name);
  const auto bytes = GoldenBytes(name);
  Message read, said;
  ASSERT_TRUE(read.ParseFromString(bytes));
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(Golden(name + ".txtpb"), &said));
  EXPECT_EQ(read.DebugString(), said.DebugString());
  EXPECT_EQ(ToHex(CanonicalBytes(said)), ToHex(bytes));
}

TEST(MessagesGoldenTest, TheBytesOfTodayAreReadAndWritten) {
  ExpectGolden<v1::Event>("event");
  ExpectGolden<v1::Event>("feedback");
  ExpectGolden<v1::TrajectoryRecord>("trajectory");
  ExpectGolden<v1::PolicyManifest>("manifest");
}

TEST(MessagesGoldenTest, TheMetadataOfACommittedOffsetIsReadAndWritten) {
  std::string json = Golden("offset_metadata.json");
  std::erase(json, '\n');
  v1::OffsetMetadata said;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(Golden("offset_metadata.txtpb"), &said));
  ASSERT_OK_AND_ASSIGN(const v1::OffsetMetadata read, DecodeOffsetMetadata(json));
  EXPECT_EQ(read.DebugString(), said.DebugString());
  EXPECT_EQ(EncodeOffsetMetadata(said), json);
}

TEST(MessagesGoldenTest, TheEventsPassTheDoorAndTheirJsonIsKnown) {
  v1::Event event;
  ASSERT_THAT(DecodeEvent(GoldenBytes("event"), {}, &event), IsOk());
  EXPECT_EQ(event.exposure().items(0).item_id(), "i7");
  ASSERT_THAT(DecodeEvent(GoldenBytes("feedback"), {}, &event), IsOk());
  EXPECT_EQ(EncodeEventJson(event),
            R"({"event_id":"e2","user_id":"u42","event_time_ms":1650812781436,"feedback":)"
            R"({"request_id":"r1","item_id":"i7","kind":"WATCH","watch_ms":40000,"item_duration_ms":61000}})");
}

// As the Confluent serialisers write them: schema id 7, message indexes [0], short and long.
TEST(MessagesGoldenTest, ConfluentFramedEventsAreTheSameEvents) {
  for (const std::string name : {"event", "feedback"}) {
    SCOPED_TRACE(name);
    v1::Event plain, framed;
    ASSERT_THAT(DecodeEvent(GoldenBytes(name), {}, &plain), IsOk());
    const std::string bytes = GoldenBytes(name + "_confluent");
    ASSERT_THAT(DecodeEvent(bytes, {}, &framed), IsOk());
    EXPECT_EQ(ToHex(CanonicalBytes(framed)), ToHex(CanonicalBytes(plain)));

    ByteArena arena;
    EventView view;
    ASSERT_THAT(ViewEvent(bytes, {}, arena, &view), IsOk());
    v1::Event viewed;
    ASSERT_THAT(ParseEvent(view, &viewed), IsOk());
    EXPECT_EQ(ToHex(CanonicalBytes(viewed)), ToHex(CanonicalBytes(plain)));
  }
}

// Fields 900 and up are of a schema that is not written yet: in the body, its items and features, the steps. They are kept.
template <typename Message>
void ExpectUnknownFieldsKept(const std::string& name) {
  SCOPED_TRACE(name);
  const auto bytes = GoldenBytes(name);
  Message read;
  ASSERT_TRUE(read.ParseFromString(bytes));
  EXPECT_EQ(ToHex(CanonicalBytes(read)), ToHex(bytes));
}

TEST(MessagesGoldenTest, WhatANewerSchemaSaysIsKept) {
  ExpectUnknownFieldsKept<v1::Event>("event_newer");
  ExpectUnknownFieldsKept<v1::Event>("feedback_newer");
  ExpectUnknownFieldsKept<v1::TrajectoryRecord>("trajectory_newer");

  for (const std::string name : {"event_newer", "feedback_newer"}) {
    const std::string bytes = GoldenBytes(name);
    ByteArena arena;
    EventView view;
    ASSERT_THAT(ViewEvent(bytes, {}, arena, &view), IsOk()) << name;
    EXPECT_EQ(ToHex(view.body), ToHex(bytes.substr(bytes.size() - view.body.size()))) << name;
  }
  v1::Event feedback;
  ASSERT_THAT(DecodeEvent(GoldenBytes("feedback_newer"), {}, &feedback), IsOk());
  EXPECT_EQ(feedback.feedback().kind(), 77) << "a kind that is not known yet";
}

}  // namespace
}  // namespace fuseline
