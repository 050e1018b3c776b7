#include "fuseline/proto/event_codec.h"

#include <cctype>

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/stubs/logging.h>

#include "confluent_framing.h"
#include "json_message.h"
#include "wire_fault.h"

namespace fuseline {
namespace {

constexpr int kMaxDepth = 16;

// The parser prints strings that are not UTF-8 to standard error, one line for each. A hostile producer would fill the
// disk so; our status names the field instead.
void QuietParser() {
  [[maybe_unused]] static google::protobuf::LogHandler* const replaced = google::protobuf::SetLogHandler(nullptr);
}

// A field that came with another's wire type is kept as unknown by the parser: it must not pass for absent.
Status RefuseMistyped(const google::protobuf::Message& message, std::string_view path) {
  const auto field = MistypedField(message);
  if (field.empty()) return OkStatus();
  return ErrorStatus(Code::kInvalidInput, std::string(path) + field, "has the wrong wire type");
}

Status RefuseMistypedFields(const v1::Event& event) {
  FUSELINE_RETURN_IF_ERROR(RefuseMistyped(event, ""));
  if (event.has_feedback()) return RefuseMistyped(event.feedback(), "feedback.");
  if (event.has_control()) {
    const auto& control = event.control();
    FUSELINE_RETURN_IF_ERROR(RefuseMistyped(control, "control."));
    if (control.has_tick()) return RefuseMistyped(control.tick(), "control.tick.");
    if (control.has_rules()) return RefuseMistyped(control.rules(), "control.rules.");
  }
  if (!event.has_exposure()) return OkStatus();
  const auto& exposure = event.exposure();
  FUSELINE_RETURN_IF_ERROR(RefuseMistyped(exposure, "exposure."));
  FUSELINE_RETURN_IF_ERROR(RefuseMistyped(exposure.user_features(), "exposure.user_features."));
  FUSELINE_RETURN_IF_ERROR(RefuseMistyped(exposure.context_features(), "exposure.context_features."));
  FUSELINE_RETURN_IF_ERROR(RefuseMistyped(exposure.box(), "exposure.box."));
  for (const auto& item : exposure.items()) {
    FUSELINE_RETURN_IF_ERROR(RefuseMistyped(item, "exposure.items[]."));
    FUSELINE_RETURN_IF_ERROR(RefuseMistyped(item.item_features(), "exposure.items[].item_features."));
  }
  return OkStatus();
}

Status ParseProtobuf(std::string_view bytes, v1::Event* event) {
  QuietParser();
  google::protobuf::io::CodedInputStream in(reinterpret_cast<const std::uint8_t*>(bytes.data()),
                                            static_cast<int>(bytes.size()));
  in.SetRecursionLimit(kMaxDepth);
  if (!event->ParseFromCodedStream(&in) || !in.ConsumedEntireMessage()) {
    // A slip of somebody who types JSON deserves a better answer than a fault of the wire.
    if (!bytes.empty() && (std::isalpha(static_cast<unsigned char>(bytes[0])) != 0 || bytes[0] == '[')) {
      return ErrorStatus(Code::kInvalidInput, "no JSON object, and no protobuf; it begins with", bytes.substr(0, 1));
    }
    return ErrorStatus(Code::kInvalidInput, WireFault(bytes, *v1::Event::descriptor(), kMaxDepth));
  }
  return RefuseMistypedFields(*event);
}

}  // namespace

EventLimits LimitsOf(const v1::Ingest& settings) {
  return {settings.max_event_bytes(), settings.max_string_bytes(), settings.max_items(), settings.max_values()};
}

Status DecodeEvent(std::string_view bytes, const EventLimits& limits, v1::Event* event) {
  FUSELINE_ASSIGN_OR_RETURN(bytes, WithoutConfluentFraming(bytes));
  if (bytes.empty()) return ErrorStatus(Code::kInvalidInput, "Event is empty: 0 bytes");
  if (bytes.size() > static_cast<std::size_t>(limits.event_bytes)) {
    return ErrorStatus(Code::kInvalidInput, "Event is larger than max_event_bytes:", bytes.size(), ">", limits.event_bytes);
  }
  FUSELINE_RETURN_IF_ERROR(bytes.front() == '{' ? ReadJsonMessage(bytes, kMaxDepth, event) : ParseProtobuf(bytes, event));
  return ValidateEvent(*event, limits);
}

std::string EncodeEventJson(const v1::Event& event) { return WriteJsonMessage(event); }

}  // namespace fuseline
