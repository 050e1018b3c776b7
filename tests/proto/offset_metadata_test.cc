// What a committed offset says beside itself: any metadata comes back as it was written, the largest fits under 1 KiB, and what is
// not exactly such an object is refused by its field.
#include <limits>
#include <string>

#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include "fuseline/proto/offset_metadata.h"
#include "fuseline/test_support/matchers.h"

namespace fuseline {
namespace {

constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

v1::OffsetMetadata Metadata() {
  v1::OffsetMetadata metadata;
  metadata.set_low_water_offset(5);
  metadata.set_previous_offset(3);
  metadata.set_stream_time_ms(-7);
  metadata.mutable_accounting()->set_read(9);
  metadata.mutable_rules()->set_format(1);
  return metadata;
}

// Every number at its widest.
void Fill(google::protobuf::Message* message) {
  using google::protobuf::FieldDescriptor;
  const auto* reflection = message->GetReflection();
  for (int i = 0; i < message->GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = message->GetDescriptor()->field(i);
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_MESSAGE: Fill(reflection->MutableMessage(message, field)); break;
      case FieldDescriptor::CPPTYPE_INT64: reflection->SetInt64(message, field, std::numeric_limits<std::int64_t>::min()); break;
      case FieldDescriptor::CPPTYPE_UINT64: reflection->SetUInt64(message, field, std::numeric_limits<std::uint64_t>::max()); break;
      case FieldDescriptor::CPPTYPE_INT32: reflection->SetInt32(message, field, std::numeric_limits<std::int32_t>::min()); break;
      case FieldDescriptor::CPPTYPE_UINT32: reflection->SetUInt32(message, field, std::numeric_limits<std::uint32_t>::max()); break;
      default: FAIL() << field->full_name();
    }
  }
}

TEST(OffsetMetadataTest, WhatIsWrittenIsReadBack) {
  const v1::OffsetMetadata metadata = Metadata();
  ASSERT_OK_AND_ASSIGN(const v1::OffsetMetadata read, DecodeOffsetMetadata(EncodeOffsetMetadata(metadata)));
  EXPECT_EQ(read.DebugString(), metadata.DebugString());
}

TEST(OffsetMetadataTest, TheWidestIsUnderOneKibibyte) {
  v1::OffsetMetadata metadata;
  Fill(&metadata);
  EXPECT_LT(EncodeOffsetMetadata(metadata).size(), 1024u) << EncodeOffsetMetadata(metadata);
  // A position is never negative: the widest that can be is read back.
  metadata.set_low_water_offset(kMost);
  metadata.set_previous_offset(kMost - 1);
  EXPECT_THAT(DecodeOffsetMetadata(EncodeOffsetMetadata(metadata)), IsOk());
}

TEST(OffsetMetadataTest, WhatIsNoSuchObjectIsRefusedByItsField) {
  const std::string good = EncodeOffsetMetadata(Metadata());
  const auto with = [&](const std::string& part, const std::string& other) {
    std::string bad = good;
    bad.replace(bad.find(part), part.size(), other);
    return bad;
  };
  EXPECT_THAT(DecodeOffsetMetadata(""), HasCode(Code::kInvalidInput));
  EXPECT_THAT(DecodeOffsetMetadata(Metadata().SerializeAsString()), HasCode(Code::kInvalidInput));
  EXPECT_THAT(DecodeOffsetMetadata(good.substr(0, good.size() - 1)), HasCode(Code::kInvalidInput));
  EXPECT_THAT(DecodeOffsetMetadata(good + "x"), HasCode(Code::kInvalidInput));
  EXPECT_THAT(DecodeOffsetMetadata("{}"), MessageNames("accounting"));
  EXPECT_THAT(DecodeOffsetMetadata(with("\"rules\"", "\"ruler\"")), MessageNames("ruler"));
  EXPECT_THAT(DecodeOffsetMetadata(with("\"format\":1", "\"format\":\"one\"")), MessageNames("format"));
  EXPECT_THAT(DecodeOffsetMetadata(with("\"format\":1", "\"version\":2")), MessageNames("rules_version"));
  EXPECT_THAT(DecodeOffsetMetadata(with("\"low_water_offset\":5", "\"low_water_offset\":-5")), MessageNames("low_water_offset"));
  EXPECT_THAT(DecodeOffsetMetadata(with("\"previous_offset\":3", "\"previous_offset\":5")), MessageNames("previous_offset"));
}

}  // namespace
}  // namespace fuseline
