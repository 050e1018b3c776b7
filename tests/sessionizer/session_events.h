#pragma once

#include <cstdint>
#include <cstdlib>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "fuseline/proto/event_batch.h"
#include "fuseline/sessionizer/partition_sessions.h"
#include "fuseline/v1/event.pb.h"

namespace fuseline::test {

inline v1::Event ExposureEvent(const std::string& user, std::int64_t time_ms, const std::string& id,
                               const std::string& request, const std::vector<std::string>& items = {"i1"}) {
  v1::Event event;
  event.set_event_id(id);
  event.set_user_id(user);
  event.set_event_time_ms(time_ms);
  event.mutable_exposure()->set_request_id(request);
  for (const std::string& item : items) event.mutable_exposure()->add_items()->set_item_id(item);
  return event;
}

inline v1::Event FeedbackEvent(const std::string& user, std::int64_t time_ms, const std::string& id,
                               const std::string& request = "r1", const std::string& item = "i1",
                               v1::Feedback::Kind kind = v1::Feedback::CLICK, std::int64_t watch_ms = 0) {
  v1::Event event;
  event.set_event_id(id);
  event.set_user_id(user);
  event.set_event_time_ms(time_ms);
  event.mutable_feedback()->set_request_id(request);
  event.mutable_feedback()->set_item_id(item);
  event.mutable_feedback()->set_kind(kind);
  event.mutable_feedback()->set_watch_ms(watch_ms);
  return event;
}

inline v1::Event TickEvent(std::int64_t time_ms, std::int64_t predecessor_offset) {
  v1::Event event;
  event.set_event_id("tick");
  event.set_event_time_ms(time_ms);
  event.mutable_control()->mutable_tick()->set_predecessor_offset(predecessor_offset);
  return event;
}

inline v1::Event RulesEvent(std::int64_t time_ms, const v1::SessionRules& rules) {
  v1::Event event;
  event.set_event_id("rules");
  event.set_event_time_ms(time_ms);
  *event.mutable_control()->mutable_rules() = rules;
  return event;
}

inline Record RecordOf(std::int64_t offset, const v1::Event& event, ByteArena& bytes) {
  return {.offset = offset, .fate = RecordFate::kEvent, .event = ViewOf(event, bytes)};
}

// What the record says; empty when it says nothing.
inline v1::Event EventOf(const Record& record) {
  v1::Event event;
  if (record.fate == RecordFate::kEvent && !ParseEvent(record.event, &event).ok()) std::abort();
  return event;
}

// What the closing says; nothing without an exposure.
inline std::optional<v1::Trajectory> TrajectoryOf(const Closing& closing) {
  std::optional<v1::Trajectory> trajectory;
  if (closing.name && !trajectory.emplace().ParseFromString(closing.trajectory)) std::abort();
  return trajectory;
}

inline std::uint64_t Accounted(const v1::Accounting& a) {
  return a.used() + a.pending() + a.duplicate() + a.late() + a.orphan() + a.malformed() + a.quarantined() + a.control();
}

// "u [first,last] n=events end"
inline std::string Print(const Closing& closing) {
  std::ostringstream out;
  out << closing.user_id << " [" << closing.first_ms << ',' << closing.last_ms << "] n=" << closing.events << ' '
      << v1::SessionEnd_Name(closing.end);
  return out.str();
}

inline std::string Print(const std::vector<Closing>& closings) {
  std::string out;
  for (const Closing& closing : closings) out += (out.empty() ? "" : " | ") + Print(closing);
  return out;
}

// "read=… used=…": what is not zero.
inline std::string Print(const v1::Accounting& a) {
  std::ostringstream out;
  const std::pair<const char*, std::uint64_t> fields[] = {
      {"read", a.read()},     {"used", a.used()},           {"pending", a.pending()},
      {"dup", a.duplicate()}, {"late", a.late()},           {"orphan", a.orphan()},
      {"bad", a.malformed()}, {"quarantined", a.quarantined()}, {"control", a.control()},
      {"over", a.used_over_max_events()}};
  for (const auto& [name, value] : fields) {
    if (value != 0) out << (out.tellp() > 0 ? " " : "") << name << '=' << value;
  }
  return out.str();
}

}  // namespace fuseline::test
