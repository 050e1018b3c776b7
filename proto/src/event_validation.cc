#include "fuseline/proto/event_codec.h"

#include <algorithm>
#include <cmath>

#include "event_rules.h"
#include "text.h"

namespace fuseline {
namespace {

constexpr std::uint32_t kRulesFormat = 1;                        // Whose bounds are known here.
constexpr std::int64_t kRulesMaxMs = 1'000'000'000'000'000;     // Keeps every sum of times within 64 bits.

// Where a value stands, spelled out only when it is refused.
struct Place {
  std::string_view message;  // "exposure.", or "exposure.items[" with an index.
  int index = -1;
  std::string_view inner = "";  // "item_features."

  std::string Name(std::string_view field) const {
    std::string name(message);
    if (index >= 0) name += std::to_string(index) + "].";
    return name.append(inner).append(field);
  }
};

template <typename... Values>
Status Refused(const Place& place, std::string_view field, const Values&... why) {
  return ErrorStatus(Code::kInvalidInput, place.Name(field), why...);
}

bool AllFinite(const google::protobuf::RepeatedField<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

Status CheckString(const Place& place, std::string_view field, const std::string& text, const EventLimits& limits) {
  if (text.size() > static_cast<std::size_t>(limits.string_bytes)) {
    return Refused(place, field, "is longer than max_string_bytes:", text.size(), ">", limits.string_bytes);
  }
  if (!IsUtf8(text)) return Refused(place, field, "is not UTF-8");
  return OkStatus();
}

Status CheckId(const Place& place, std::string_view field, const std::string& id, const EventLimits& limits) {
  if (id.empty()) return Refused(place, field, "is empty");
  return CheckString(place, field, id, limits);
}

Status CheckTime(const Place& place, std::string_view field, std::int64_t time_ms) {
  if (time_ms < 0) return Refused(place, field, "is negative:", time_ms);
  if (time_ms > kEndOfYear9999Ms) return Refused(place, field, "is after the year 9999; is its unit milliseconds?", time_ms);
  return OkStatus();
}

Status CheckFloats(const Place& place, std::string_view field, const google::protobuf::RepeatedField<float>& values,
                   const EventLimits& limits) {
  if (values.size() > limits.values) return Refused(place, field, "has more than max_values:", values.size(), ">", limits.values);
  if (!AllFinite(values)) return Refused(place, field, "has a value that is not finite");
  return OkStatus();
}

Status CheckFeatures(const Place& place, const v1::Features& features, const EventLimits& limits) {
  FUSELINE_RETURN_IF_ERROR(CheckFloats(place, "dense", features.dense(), limits));
  if (features.ids_size() > limits.values) {
    return Refused(place, "ids", "has more than max_values:", features.ids_size(), ">", limits.values);
  }
  return OkStatus();
}

Status CheckAction(const Place& place, std::string_view field, const google::protobuf::RepeatedField<float>& action,
                   const EventLimits& limits) {
  FUSELINE_RETURN_IF_ERROR(CheckFloats(place, field, action, limits));
  for (const float value : action) {
    if (value < -1 || value > 1) return Refused(place, field, "has a value outside [-1, 1]:", value);
  }
  return OkStatus();
}

Status CheckActions(const Place& place, const v1::ExposedItem& item, const EventLimits& limits) {
  FUSELINE_RETURN_IF_ERROR(CheckAction(place, "baseline_action", item.baseline_action(), limits));
  FUSELINE_RETURN_IF_ERROR(CheckAction(place, "executed_action", item.executed_action(), limits));
  const int width = item.baseline_action_size();
  if (item.executed_action_size() != width) {
    return Refused(place, "executed_action", "has another width than baseline_action:", item.executed_action_size(), "for", width);
  }
  // Those who log no action may still log scores; an action without the scores that it weighs means nothing.
  if (width != 0 && width != 2 * item.task_scores_size()) {
    return Refused(place, "baseline_action", "is not twice as wide as task_scores:", width, "for", item.task_scores_size());
  }
  return OkStatus();
}

Status CheckInsideBox(const Place& place, const v1::ExposedItem& item, const v1::Box& box) {
  for (int d = 0; d < item.executed_action_size(); ++d) {
    const float noise = item.executed_action(d) - item.baseline_action(d);
    if (noise < box.lower() - kBoxTolerance || noise > box.upper() + kBoxTolerance) {
      return Refused(place, "executed_action", "leaves the box around baseline_action by", noise, "in dimension", d);
    }
  }
  return OkStatus();
}

Status CheckItem(const v1::Exposure& exposure, int index, const EventLimits& limits) {
  const Place place{"exposure.items[", index};
  const auto& item = exposure.items(index);
  const auto& first = exposure.items(0);
  FUSELINE_RETURN_IF_ERROR(CheckId(place, "item_id", item.item_id(), limits));
  if (index > 0 && item.position() < exposure.items(index - 1).position()) {
    return Refused(place, "position", "is less than that of the item before:", item.position());
  }
  FUSELINE_RETURN_IF_ERROR(CheckFeatures({place.message, index, "item_features."}, item.item_features(), limits));
  FUSELINE_RETURN_IF_ERROR(CheckFloats(place, "task_scores", item.task_scores(), limits));
  if (item.task_scores_size() != first.task_scores_size()) {
    return Refused(place, "task_scores", "has another width than that of the first item:", item.task_scores_size());
  }
  FUSELINE_RETURN_IF_ERROR(CheckActions(place, item, limits));
  if (item.baseline_action_size() != first.baseline_action_size()) {
    return Refused(place, "baseline_action", "has another width than that of the first item:", item.baseline_action_size());
  }
  if (!std::isfinite(item.fused_score())) return Refused(place, "fused_score", "is not finite");
  return exposure.has_box() ? CheckInsideBox(place, item, exposure.box()) : OkStatus();
}

// What rankers say of policies that they did not serve is added up as it is.
Status CheckRollout(const v1::Exposure& exposure) {
  const Place place{"exposure."};
  if (exposure.experiment_coverage() > kWholeCoverage) {
    return Refused(place, "experiment_coverage", "is more than", kWholeCoverage, ":", exposure.experiment_coverage());
  }
  if (exposure.shadows_size() > kShadowsMax) return Refused(place, "shadows", "are more than", kShadowsMax, ":", exposure.shadows_size());
  for (const v1::ShadowScore& shadow : exposure.shadows()) {
    const auto within = [](float value, float lower, float upper) { return value >= lower && value <= upper; };
    if (!within(shadow.rank_correlation(), -1, 1)) return Refused(place, "shadows.rank_correlation", "is outside [-1, 1]");
    if (!within(shadow.top_overlap(), 0, 1)) return Refused(place, "shadows.top_overlap", "is outside [0, 1]");
    if (!within(shadow.action_difference(), 0, 2)) return Refused(place, "shadows.action_difference", "is outside [0, 2]");
  }
  return OkStatus();
}

Status CheckExposure(const v1::Exposure& exposure, const EventLimits& limits) {
  const Place place{"exposure."};
  FUSELINE_RETURN_IF_ERROR(CheckId(place, "request_id", exposure.request_id(), limits));
  FUSELINE_RETURN_IF_ERROR(CheckString(place, "surface", exposure.surface(), limits));
  FUSELINE_RETURN_IF_ERROR(CheckString(place, "experiment", exposure.experiment(), limits));
  FUSELINE_RETURN_IF_ERROR(CheckString(place, "arm", exposure.arm(), limits));
  FUSELINE_RETURN_IF_ERROR(CheckRollout(exposure));
  if (!exposure.schema_digest().empty() && exposure.schema_digest().size() != kDigestBytes) {
    return Refused(place, "schema_digest", "has neither 32 bytes nor none:", exposure.schema_digest().size());
  }
  FUSELINE_RETURN_IF_ERROR(CheckFeatures({"exposure.user_features."}, exposure.user_features(), limits));
  FUSELINE_RETURN_IF_ERROR(CheckFeatures({"exposure.context_features."}, exposure.context_features(), limits));
  if (exposure.has_box()) {
    const auto& box = exposure.box();
    if (!(box.lower() >= -2 && box.lower() <= 0 && box.upper() >= 0 && box.upper() <= 2)) {
      return Refused(place, "box", "is not -2 <= lower <= 0 <= upper <= 2:", box.lower(), box.upper());
    }
  }
  if (exposure.has_log_density() && !std::isfinite(exposure.log_density())) return Refused(place, "log_density", "is not finite");
  if (exposure.has_log_density() && !exposure.has_box()) return Refused(place, "log_density", "stands without a box");
  if (exposure.items_size() > limits.items) {
    return Refused(place, "items", "has more than max_items:", exposure.items_size(), ">", limits.items);
  }
  for (int i = 0; i < exposure.items_size(); ++i) FUSELINE_RETURN_IF_ERROR(CheckItem(exposure, i, limits));
  return OkStatus();
}

Status CheckFeedback(const v1::Feedback& feedback, const EventLimits& limits) {
  const Place place{"feedback."};
  FUSELINE_RETURN_IF_ERROR(CheckId(place, "request_id", feedback.request_id(), limits));
  FUSELINE_RETURN_IF_ERROR(CheckId(place, "item_id", feedback.item_id(), limits));
  FUSELINE_RETURN_IF_ERROR(CheckTime(place, "watch_ms", feedback.watch_ms()));
  return CheckTime(place, "item_duration_ms", feedback.item_duration_ms());
}

Status CheckRulesMs(std::string_view field, std::int64_t value_ms) {
  const Place place{"control.rules."};
  if (value_ms < 0) return Refused(place, field, "is negative:", value_ms);
  if (value_ms > kRulesMaxMs) return Refused(place, field, "is larger than", kRulesMaxMs, "ms:", value_ms);
  return OkStatus();
}

Status CheckRules(const v1::SessionRules& rules) {
  const Place place{"control.rules."};
  if (rules.version() == 0) return Refused(place, "version", "is 0");
  if (rules.format() == 0) return Refused(place, "format", "is 0");
  // A newer format may mean other things by these fields. It must reach the sessionizer, which then does not go on; refused here, it
  // would be counted as malformed, and sessions would silently keep the old rules.
  if (rules.format() > kRulesFormat) return OkStatus();
  FUSELINE_RETURN_IF_ERROR(CheckRulesMs("gap_ms", rules.gap_ms()));
  FUSELINE_RETURN_IF_ERROR(CheckRulesMs("lateness_ms", rules.lateness_ms()));
  FUSELINE_RETURN_IF_ERROR(CheckRulesMs("cut_every_ms", rules.cut_every_ms()));
  if (rules.max_events() == 0) return Refused(place, "max_events", "is 0");
  return OkStatus();
}

Status CheckControl(const v1::Control& control) {
  if (control.has_tick()) {
    if (control.tick().predecessor_offset() >= -1) return OkStatus();  // -1: no record came before it.
    return Refused({"control.tick."}, "predecessor_offset", "is less than -1:", control.tick().predecessor_offset());
  }
  if (!control.has_rules()) return Refused({"control."}, "kind", "is absent: neither tick nor rules");
  return CheckRules(control.rules());
}

}  // namespace

Status ValidateEvent(const v1::Event& event, const EventLimits& limits) {
  const Place place{""};
  FUSELINE_RETURN_IF_ERROR(CheckId(place, "event_id", event.event_id(), limits));
  if (!event.has_control()) FUSELINE_RETURN_IF_ERROR(CheckId(place, "user_id", event.user_id(), limits));
  FUSELINE_RETURN_IF_ERROR(CheckTime(place, "event_time_ms", event.event_time_ms()));
  switch (event.payload_case()) {
    case v1::Event::kExposure: return CheckExposure(event.exposure(), limits);
    case v1::Event::kFeedback: return CheckFeedback(event.feedback(), limits);
    case v1::Event::kControl: return CheckControl(event.control());
    case v1::Event::PAYLOAD_NOT_SET: break;
  }
  return Refused(place, "payload", "is absent: none of exposure, feedback, control");
}

}  // namespace fuseline
