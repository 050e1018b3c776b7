#include "fuseline/proto/trajectory_record.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/wire_format_lite.h>

namespace fuseline {
namespace {

using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

constexpr std::uint32_t kUserTag =
    WireFormatLite::MakeTag(v1::Trajectory::kUserIdFieldNumber, WireFormatLite::WIRETYPE_LENGTH_DELIMITED);
constexpr std::uint32_t kTrajectoryTag =
    WireFormatLite::MakeTag(v1::TrajectoryRecord::kTrajectoryFieldNumber, WireFormatLite::WIRETYPE_LENGTH_DELIMITED);

std::string UserOf(std::string_view trajectory) {
  CodedInputStream in(reinterpret_cast<const std::uint8_t*>(trajectory.data()), static_cast<int>(trajectory.size()));
  std::string user_id;
  while (const std::uint32_t tag = in.ReadTag()) {
    if (tag == kUserTag) return WireFormatLite::ReadString(&in, &user_id) ? user_id : "";
    if (!WireFormatLite::SkipField(&in, tag)) return "";
  }
  return "";
}

}  // namespace

Result<TrajectoryRecordBytes> RecordOfTrajectory(std::string_view trajectory) {
  TrajectoryRecordBytes record;
  record.user_id = UserOf(trajectory);
  if (record.user_id.empty()) return Error(Code::kCorrupt, "stored trajectory of", trajectory.size(), "bytes names no user");
  google::protobuf::io::StringOutputStream bytes(&record.value);
  google::protobuf::io::CodedOutputStream out(&bytes);
  out.WriteVarint32(kTrajectoryTag);
  out.WriteVarint32(static_cast<std::uint32_t>(trajectory.size()));
  out.WriteRaw(trajectory.data(), static_cast<int>(trajectory.size()));
  out.Trim();
  return record;
}

Result<v1::TrajectoryRecord> DecodeTrajectoryRecord(std::string_view value, std::int32_t partition) {
  v1::TrajectoryRecord record;
  if (!record.ParseFromArray(value.data(), static_cast<int>(value.size()))) {
    return Error(Code::kCorrupt, "record of", value.size(), "bytes is no TrajectoryRecord");
  }
  const bool is_named = record.has_trajectory() && record.trajectory().has_name();
  if (!is_named && !record.has_progress()) return Error(Code::kCorrupt, "record has neither a named trajectory nor a progress mark");
  const std::int32_t stated = is_named ? record.trajectory().name().partition() : record.progress().partition();
  if (stated != partition) return Error(Code::kCorrupt, "record of input partition", stated, "stands in partition", partition);
  return record;
}

}  // namespace fuseline
