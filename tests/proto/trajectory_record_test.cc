// Records of the topic `trajectories`: wrapped bytes are what protobuf would write, and what stands in the wrong place is refused.
#include <string>

#include <gtest/gtest.h>

#include "fuseline/proto/trajectory_record.h"
#include "fuseline/test_support/matchers.h"

namespace fuseline {
namespace {

v1::TrajectoryRecord Record() {
  v1::TrajectoryRecord record;
  record.mutable_trajectory()->mutable_name()->set_partition(2);
  record.mutable_trajectory()->mutable_name()->set_offset(70);
  record.mutable_trajectory()->mutable_predecessor()->set_offset(60);
  record.mutable_trajectory()->set_user_id("u42");
  record.mutable_trajectory()->add_steps()->mutable_exposure()->set_request_id(std::string(300, 'r'));
  return record;
}

TEST(TrajectoryRecordTest, AWrappedTrajectoryIsTheRecordThatProtobufWouldWrite) {
  ASSERT_OK_AND_ASSIGN(const TrajectoryRecordBytes bytes, RecordOfTrajectory(Record().trajectory().SerializeAsString()));
  EXPECT_EQ(bytes.user_id, "u42");
  EXPECT_EQ(bytes.value, Record().SerializeAsString());
  ASSERT_OK_AND_ASSIGN(const v1::TrajectoryRecord read, DecodeTrajectoryRecord(bytes.value, 2));
  EXPECT_EQ(read.trajectory().user_id(), "u42");
}

TEST(TrajectoryRecordTest, WhatIsNoTrajectoryIsNotWrapped) {
  const std::string good = Record().trajectory().SerializeAsString();
  EXPECT_THAT(RecordOfTrajectory(""), HasCode(Code::kCorrupt));
  EXPECT_THAT(RecordOfTrajectory(good.substr(0, 8)), HasCode(Code::kCorrupt));
  EXPECT_THAT(RecordOfTrajectory("\xff\xff\xff"), HasCode(Code::kCorrupt));
}

TEST(TrajectoryRecordTest, ARecordThatSaysNothingOrStandsElsewhereIsRefused) {
  v1::TrajectoryRecord mark;
  mark.mutable_progress()->set_partition(1);
  EXPECT_THAT(DecodeTrajectoryRecord(mark.SerializeAsString(), 1), IsOk());
  EXPECT_THAT(DecodeTrajectoryRecord(mark.SerializeAsString(), 2), HasCode(Code::kCorrupt));
  EXPECT_THAT(DecodeTrajectoryRecord(Record().SerializeAsString(), 0), HasCode(Code::kCorrupt));
  EXPECT_THAT(DecodeTrajectoryRecord("", 0), HasCode(Code::kCorrupt));
  EXPECT_THAT(DecodeTrajectoryRecord("garbage", 0), HasCode(Code::kCorrupt));
  v1::TrajectoryRecord nameless;
  nameless.mutable_trajectory()->set_user_id("u");
  EXPECT_THAT(DecodeTrajectoryRecord(nameless.SerializeAsString(), 0), HasCode(Code::kCorrupt));
}

}  // namespace
}  // namespace fuseline
