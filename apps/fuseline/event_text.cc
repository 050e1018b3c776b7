#include "event_text.h"

namespace fuseline {

std::string ExposureText(const v1::Exposure& exposure) {
  std::string text = "request " + exposure.request_id();
  if (!exposure.arm().empty()) text += ", arm " + exposure.arm();
  text += ", version " + std::to_string(exposure.policy_version()) + ", items";
  for (const v1::ExposedItem& item : exposure.items()) text += ' ' + item.item_id();
  return text;
}

std::string FeedbackText(const v1::Feedback& feedback) {
  std::string text = KindText(feedback.kind()) + " of " + feedback.item_id() + " in request " + feedback.request_id();
  if (feedback.watch_ms() > 0) text += ", watched " + std::to_string(feedback.watch_ms()) + " ms";
  return text;
}

std::string KindText(std::int32_t kind) {
  const std::string& name = v1::Feedback::Kind_Name(static_cast<v1::Feedback::Kind>(kind));
  return name.empty() ? "kind number " + std::to_string(kind) : name;
}

const char* EndText(v1::SessionEnd end) {
  switch (end) {
    case v1::TERMINATED: return "terminated";
    case v1::TRUNCATED: return "truncated";
    default: return "flushed";
  }
}

}  // namespace fuseline
