#pragma once

#include <string>
#include <string_view>

#include "fuseline/core/status.h"
#include "fuseline/v1/trajectory.pb.h"

namespace fuseline {

// A trajectory as a record of the topic `trajectories`, made without reading the whole of it.
struct TrajectoryRecordBytes {
  std::string user_id;  // The record's key.
  std::string value;    // A serialised v1::TrajectoryRecord.
};

// `trajectory`: a serialised v1::Trajectory. Errors: kCorrupt if it is none, or names no user.
Result<TrajectoryRecordBytes> RecordOfTrajectory(std::string_view trajectory);

// Bytes of a record → the record, with a trajectory that has a name, or a progress mark, of `partition`.
// Errors: kCorrupt, saying what is wrong with it.
Result<v1::TrajectoryRecord> DecodeTrajectoryRecord(std::string_view value, std::int32_t partition);

}  // namespace fuseline
