// Any bytes at all: DecodeEvent must refuse and say why, or give an event that keeps every promise of event.proto and comes back
// from JSON as it is.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "fuseline/core/check.h"
#include "fuseline/proto/event_codec.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuseline::v1::Event event;
  const auto status = fuseline::DecodeEvent({reinterpret_cast<const char*>(data), size}, {}, &event);
  if (!status.ok()) {
    FUSELINE_CHECK(status.code == fuseline::Code::kInvalidInput && !status.message.empty());
    return 0;
  }
  FUSELINE_CHECK(fuseline::ValidateEvent(event, {}).ok());
  const auto json = fuseline::EncodeEventJson(event);
  fuseline::v1::Event again;
  // JSON spells bytes and floats longer than protobuf does: such an event may be too large for it.
  FUSELINE_CHECK(fuseline::DecodeEvent(json, {.event_bytes = 1 << 26}, &again).ok());
  FUSELINE_CHECK(fuseline::EncodeEventJson(again) == json);
  return 0;
}
