// Any bytes at all: DecodeEvent must refuse and say why, or give an event that keeps every promise of event.proto and comes back
// from JSON as it is; and ViewEvent, which walks where that parses, must say the same.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "fuseline/core/check.h"
#include "fuseline/proto/event_codec.h"
#include "fuseline/proto/event_view.h"

namespace fuseline {
namespace {

void CheckView(std::string_view bytes, const Status& expected, const v1::Event& event) {
  ByteArena arena;
  EventView view;
  const Status status = ViewEvent(bytes, {}, arena, &view);
  FUSELINE_CHECK(status.code == expected.code && status.message == expected.message);
  if (!status.ok()) return;
  v1::Event viewed;
  FUSELINE_CHECK(ParseEvent(view, &viewed).ok());
  v1::Event without_unknown = event;  // Those beside the payload are nobody's.
  without_unknown.GetReflection()->MutableUnknownFields(&without_unknown)->Clear();
  FUSELINE_CHECK(viewed.SerializeAsString() == without_unknown.SerializeAsString());
}

void CheckJson(const v1::Event& event) {
  const auto json = EncodeEventJson(event);
  v1::Event again;
  // JSON spells bytes and floats longer than protobuf does: such an event may be too large for it.
  FUSELINE_CHECK(DecodeEvent(json, {.event_bytes = 1 << 26}, &again).ok());
  FUSELINE_CHECK(EncodeEventJson(again) == json);
}

}  // namespace
}  // namespace fuseline

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  fuseline::v1::Event event;
  const auto status = fuseline::DecodeEvent(bytes, {}, &event);
  fuseline::CheckView(bytes, status, event);
  if (!status.ok()) {
    FUSELINE_CHECK(status.code == fuseline::Code::kInvalidInput && !status.message.empty());
    return 0;
  }
  FUSELINE_CHECK(fuseline::ValidateEvent(event, {}).ok());
  fuseline::CheckJson(event);
  return 0;
}
