#include "fuseline/proto/offset_metadata.h"

#include "json_message.h"

namespace fuseline {
namespace {

constexpr int kDepth = 2;  // The object, and one inside it.

Status Check(const v1::OffsetMetadata& metadata) {
  const auto refuse = [](const char* field, const auto&... values) {
    return ErrorStatus(Code::kInvalidInput, "offset metadata:", field, values...);
  };
  if (!metadata.has_accounting()) return refuse("accounting", "is missing");
  if (!metadata.has_rules()) return refuse("rules", "is missing");
  if (metadata.rules_version() != metadata.rules().version()) {
    return refuse("rules_version", metadata.rules_version(), "is not that of the rules", metadata.rules().version());
  }
  if (metadata.low_water_offset() < 0) return refuse("low_water_offset", metadata.low_water_offset(), "is negative");
  if (metadata.previous_offset() < -1 || metadata.previous_offset() >= metadata.low_water_offset()) {
    return refuse("previous_offset", metadata.previous_offset(), "is not before low_water_offset", metadata.low_water_offset());
  }
  return OkStatus();
}

}  // namespace

std::string EncodeOffsetMetadata(const v1::OffsetMetadata& metadata) { return WriteJsonMessage(metadata); }

Result<v1::OffsetMetadata> DecodeOffsetMetadata(std::string_view json) {
  v1::OffsetMetadata metadata;
  FUSELINE_FAIL_IF_ERROR(ReadJsonMessage(json, kDepth, &metadata));
  FUSELINE_FAIL_IF_ERROR(Check(metadata));
  return metadata;
}

}  // namespace fuseline
