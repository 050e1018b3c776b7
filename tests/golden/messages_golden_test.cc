// Bytes that outlive the process, as they are today. NAME.hex holds a message's bytes, NAME.txtpb what they say; both directions must stay, or
// logs, checkpoints and archives of yesterday become unreadable. Made with `protoc --deterministic_output --encode`. A new
// field gets a new file; these never change.

#include <cstdlib>

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "fuseline/core/digest.h"
#include "fuseline/core/file.h"
#include "fuseline/proto/event_codec.h"
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

}  // namespace
}  // namespace fuseline
