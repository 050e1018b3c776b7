#include "open_sessions.h"

#include <filesystem>

#include <nlohmann/json.hpp>

#include "event_text.h"
#include "fuseline/core/clock.h"
#include "fuseline/core/log.h"
#include "fuseline/core/metrics.h"
#include "pipeline_status.h"
#include "time_text.h"

namespace fuseline {
namespace {

using Json = nlohmann::ordered_json;

std::string BodyText(const ShownEvent& event) {
  if (event.left_out)
    return std::string(event.is_exposure ? "exposure" : "feedback") + ", left out by sessionizer.max_events";
  v1::Exposure exposure;
  v1::Feedback feedback;
  if (event.is_exposure && exposure.ParseFromString(event.body)) return "exposure: " + ExposureText(exposure);
  if (!event.is_exposure && feedback.ParseFromString(event.body)) return FeedbackText(feedback);
  return "cannot be read";
}

Json EventJson(const ShownEvent& event) {
  return {{"event_time_ms", event.time_ms}, {"offset", event.offset},
          {"event_id", event.id},           {"type", event.is_exposure ? "exposure" : "feedback"},
          {"left_out", event.left_out},     {"text", BodyText(event)}};
}

}  // namespace

Result<OpenSessions> ReadOpenSessions(const v1::Config& config, const std::string& user_id) {
  const std::filesystem::path folder = StateFolders(config.fuseline().state_dir()).sessions;
  if (!std::filesystem::exists(folder)) return Error(Code::kNotFound, "no state of sessions:", folder.string());
  Log log(Severity::kError);
  Metrics metrics;
  SystemClock clock;
  FUSELINE_ASSIGN_OR_FAIL(const auto sessionizer,
                          Sessionizer::OpenReadOnly(folder, config.sessionizer(), clock, log, metrics));
  FUSELINE_ASSIGN_OR_FAIL(std::vector<ShownSession> shown, sessionizer->Show(user_id));
  OpenSessions open{.user_id = user_id, .sessions = {}};
  for (ShownSession& session : shown) {
    const PartitionPosition position = sessionizer->Position(session.partition);
    const std::int64_t closes_ms = session.last_ms + position.rules.gap_ms() + position.rules.lateness_ms();
    open.sessions.push_back({std::move(session), position.stream_time_ms, closes_ms});
  }
  return open;
}

std::string OpenSessionsText(const OpenSessions& open) {
  std::string text = "user " + open.user_id + ": " + std::to_string(open.sessions.size()) +
                     " open sessions, as of the last commit\n";
  for (const auto& [session, stream_time_ms, closes_after_ms] : open.sessions) {
    text += "session of partition " + std::to_string(session.partition) + ", " + TimeText(session.first_ms) + " to " +
            TimeText(session.last_ms) + ", " + std::to_string(session.events.size()) +
            " events; closes when stream time, now " + TimeText(stream_time_ms) + ", passes " +
            TimeText(closes_after_ms) + '\n';
    for (const ShownEvent& event : session.events) {
      text += "  " + TimeText(event.time_ms) + "  offset " + std::to_string(event.offset) + "  " + event.id + "  " +
              BodyText(event) + '\n';
    }
  }
  return text;
}

std::string OpenSessionsJson(const OpenSessions& open) {
  Json sessions = Json::array();
  for (const auto& [session, stream_time_ms, closes_after_ms] : open.sessions) {
    Json events = Json::array();
    for (const ShownEvent& event : session.events) events.push_back(EventJson(event));
    sessions.push_back({{"partition", session.partition},
                        {"first_ms", session.first_ms},
                        {"last_ms", session.last_ms},
                        {"stream_time_ms", stream_time_ms},
                        {"closes_after_ms", closes_after_ms},
                        {"events", events}});
  }
  return Json{{"user_id", open.user_id}, {"sessions", sessions}}.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace fuseline
