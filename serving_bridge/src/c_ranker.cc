#include "fuseline/serving_bridge/c_ranker.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fuseline/core/clock.h"
#include "fuseline/core/log.h"
#include "fuseline/core/metrics.h"
#include "fuseline/proto/settings.h"
#include "fuseline/rollout/assignment.h"
#include "fuseline/serving_bridge/event_log.h"
#include "fuseline/serving_bridge/ranker.h"

namespace {

using fuseline::Code;
using fuseline::ErrorStatus;
using fuseline::OkStatus;
using fuseline::Result;
using fuseline::Status;

thread_local std::string last_error;

int NumberOf(Code code) {
  switch (code) {
    case Code::kOk: return FUSELINE_OK;
    case Code::kInvalidInput: return FUSELINE_INVALID_INPUT;
    case Code::kNotFound: return FUSELINE_NOT_FOUND;
    case Code::kUnavailable:
    case Code::kConflict: return FUSELINE_UNAVAILABLE;
    case Code::kCorrupt: return FUSELINE_CORRUPT;
    case Code::kInternal: return FUSELINE_INTERNAL;
  }
  return FUSELINE_INTERNAL;
}

// Runs the body of a call. What it throws (no memory) ends here: no exception may pass a C caller.
template <typename Body>
int Call(Body&& body) noexcept {
  try {
    Status status = body();
    if (!status.ok()) last_error = std::move(status.message);
    return NumberOf(status.code);
  } catch (const std::exception& thrown) {
    try {
      last_error = thrown.what();
    } catch (...) {
      last_error.clear();
    }
    return FUSELINE_INTERNAL;
  }
}

Status Missing(const char* what) { return ErrorStatus(Code::kInvalidInput, "argument is NULL:", what); }

std::string_view TextOf(const char* text) { return text == nullptr ? std::string_view() : std::string_view(text); }

fuseline_shape ShapeOf(const fuseline::v1::FeatureSchema& schema) {
  fuseline_shape shape{};
  for (const auto& feature : schema.features()) {
    const bool user = feature.scope() == fuseline::v1::USER, context = feature.scope() == fuseline::v1::CONTEXT;
    if (feature.has_categorical()) ++(user ? shape.user_ids : context ? shape.context_ids : shape.item_ids);
    else (user ? shape.user_dense : context ? shape.context_dense : shape.item_dense) += feature.dense().width();
  }
  shape.tasks = static_cast<std::size_t>(schema.tasks_size());
  return shape;
}

struct FaceOptions {
  fuseline::RankerOptions ranker;
  fuseline::EventLogOptions events;
};

Result<FaceOptions> OptionsOf(const fuseline_ranker_options& from) {
  fuseline::SettingsSources sources;
  sources.file = TextOf(from.config_file);
  sources.environment = fuseline::SettingsEnvironment();
  if (from.settings_count > 0 && from.settings == nullptr) return tl::unexpected(Missing("settings"));
  for (const char* setting : std::span(from.settings, from.settings_count)) sources.flags.emplace_back(TextOf(setting));
  FUSELINE_ASSIGN_OR_FAIL(const auto config, fuseline::LoadSettings(sources));
  FaceOptions options;
  FUSELINE_ASSIGN_OR_FAIL(options.ranker, fuseline::RankerOptionsOf(config));
  options.ranker.name = TextOf(from.name);
  options.ranker.version_folder = TextOf(from.version_folder);
  options.ranker.scorer_folder = TextOf(from.scorer_folder);
  options.events.queue_events = static_cast<std::size_t>(config.ranker().event_log_queue());
  return options;
}

Result<fuseline::FeatureView> ViewOf(const fuseline_features& from, const char* scope) {
  if ((from.dense_count > 0 && from.dense == nullptr) || (from.id_count > 0 && from.ids == nullptr)) return tl::unexpected(Missing(scope));
  return fuseline::FeatureView{{from.dense, from.dense_count}, {from.ids, from.id_count}};
}

}  // namespace

struct fuseline_ranker {
  fuseline_ranker(fuseline::Severity least, const fuseline::v1::FeatureSchema& schema) : log(least), shape(ShapeOf(schema)) {}

  fuseline::Log log;
  fuseline::Metrics metrics;
  fuseline::SystemClock clock;
  const fuseline_shape shape;
  const fuseline::Counter refused_total =
      metrics.GetCounter("fuseline_serving_bridge_requests_refused_total", "requests that were not ranked, by reason",
                         {{"reason", "argument"}});
  std::unique_ptr<fuseline::Ranker> ranker;
  std::unique_ptr<fuseline::EventLog> events;  // Null: none.
};

struct fuseline_reader {
  explicit fuseline_reader(fuseline_ranker& of) : ranker(of), slot(of.ranker->NewReader()) {}

  // Fills the view of a request, which borrows from `items` and `names`.
  Result<fuseline::RankingRequest> View(const fuseline_request& request);

  fuseline_ranker& ranker;
  fuseline::Ranker::Reader slot;
  fuseline::Decision decision;  // The last.
  std::vector<fuseline::CandidateView> items;
  std::vector<std::string_view> names;
  std::vector<std::size_t> order;
  std::vector<double> scores;
  std::string bytes;
};

Result<fuseline::RankingRequest> fuseline_reader::View(const fuseline_request& from) {
  if (from.candidates > 0) {
    if (from.item_ids == nullptr) return tl::unexpected(Missing("item_ids"));
    if (from.item_dense == nullptr && from.item_dense_count > 0) return tl::unexpected(Missing("item_dense"));
    if (from.item_features_ids == nullptr && from.item_id_count > 0) return tl::unexpected(Missing("item_features_ids"));
    if (from.task_scores == nullptr && from.task_count > 0) return tl::unexpected(Missing("task_scores"));
  }
  names.clear();
  items.clear();
  for (std::size_t i = 0; i < from.candidates; ++i) {
    if (from.item_ids[i] == nullptr) return tl::unexpected(Missing("item_ids[i]"));
    names.emplace_back(from.item_ids[i]);
    items.push_back({{{from.item_dense + i * from.item_dense_count, from.item_dense_count},
                      {from.item_features_ids + i * from.item_id_count, from.item_id_count}},
                     {from.task_scores + i * from.task_count, from.task_count}});
  }
  fuseline::RankingRequest view;
  view.request_id = TextOf(from.request_id);
  view.user_id = TextOf(from.user_id);
  view.surface = TextOf(from.surface);
  view.event_time_ms = from.event_time_ms;
  FUSELINE_ASSIGN_OR_FAIL(view.user, ViewOf(from.user, "user"));
  FUSELINE_ASSIGN_OR_FAIL(view.context, ViewOf(from.context, "context"));
  view.item_ids = names;
  view.candidates = items;
  view.expose_count = from.expose_count;
  return view;
}

namespace {

// The event of the reader's last decision. Errors: kInvalidInput if `request` cannot be the one it was made of.
Result<fuseline::v1::Event> ExposureOf(fuseline_reader& reader, const fuseline_request& request) {
  FUSELINE_ASSIGN_OR_FAIL(const fuseline::RankingRequest view, reader.View(request));
  const auto beyond = [&](const fuseline::RankedItem& item) { return item.candidate >= view.candidates.size(); };
  const std::size_t tasks = reader.decision.task_scores.empty() ? reader.ranker.shape.tasks : 0;
  const bool has_other_tasks = request.candidates > 0 && request.task_count != tasks;
  if (has_other_tasks || std::any_of(reader.decision.order.begin(), reader.decision.order.end(), beyond)) {
    return fuseline::Error(Code::kInvalidInput, "request is not the one of the reader's last decision:", view.request_id);
  }
  return reader.ranker.ranker->MakeExposureEvent(view, reader.decision);
}

Result<fuseline::v1::Event> EventOf(const fuseline_feedback& from) {
  fuseline::v1::Feedback::Kind kind = fuseline::v1::Feedback::UNSPECIFIED;
  if (!fuseline::v1::Feedback::Kind_Parse(std::string(TextOf(from.kind)), &kind) || kind == fuseline::v1::Feedback::UNSPECIFIED) {
    return fuseline::Error(Code::kInvalidInput, "feedback of an unknown kind:", TextOf(from.kind));
  }
  if (TextOf(from.event_id).empty() || TextOf(from.user_id).empty() || TextOf(from.request_id).empty() || TextOf(from.item_id).empty()) {
    return fuseline::Error(Code::kInvalidInput, "feedback needs event_id, user_id, request_id and item_id");
  }
  return fuseline::MakeFeedbackEvent({.event_id = from.event_id,
                                      .user_id = from.user_id,
                                      .event_time_ms = from.event_time_ms,
                                      .request_id = from.request_id,
                                      .item_id = from.item_id,
                                      .kind = kind,
                                      .watch_ms = from.watch_ms,
                                      .item_duration_ms = from.item_duration_ms});
}

Status Push(const fuseline_ranker& ranker, fuseline::v1::Event&& event) {
  if (ranker.events == nullptr) return ErrorStatus(Code::kInvalidInput, "ranker was opened without event_file");
  if (!ranker.events->TryPush(std::move(event))) return ErrorStatus(Code::kUnavailable, "event log is full; the event is dropped and counted");
  return OkStatus();
}

Status Hand(const fuseline::v1::Event& event, fuseline_reader& reader, const uint8_t** bytes, size_t* size) {
  reader.bytes.clear();
  event.AppendToString(&reader.bytes);
  *bytes = reinterpret_cast<const uint8_t*>(reader.bytes.data());
  *size = reader.bytes.size();
  return OkStatus();
}

}  // namespace

int fuseline_ranker_abi(void) { return FUSELINE_RANKER_ABI; }

const char* fuseline_last_error(void) { return last_error.c_str(); }

int fuseline_ranker_open(const fuseline_ranker_options* options, fuseline_ranker** ranker) {
  return Call([&]() -> Status {
    if (options == nullptr || ranker == nullptr) return Missing("options or ranker");
    FUSELINE_ASSIGN_OR_RETURN(FaceOptions its, OptionsOf(*options));
    auto opened = std::make_unique<fuseline_ranker>(fuseline::Severity::kWarn, its.ranker.schema);
    if (const std::string_view file = TextOf(options->event_file); !file.empty()) {
      FUSELINE_ASSIGN_OR_RETURN(auto sink, fuseline::OpenFileSink(file, opened->log));
      opened->events = std::make_unique<fuseline::EventLog>(its.events, std::move(sink), opened->log, opened->metrics);
    }
    FUSELINE_ASSIGN_OR_RETURN(opened->ranker, fuseline::Ranker::Open(std::move(its.ranker), opened->log, opened->metrics, opened->clock));
    *ranker = opened.release();
    return OkStatus();
  });
}

int fuseline_ranker_close_events(fuseline_ranker* ranker, int64_t patience_ms) {
  return Call([&]() -> Status {
    if (ranker == nullptr) return Missing("ranker");
    return ranker->events == nullptr ? OkStatus() : ranker->events->Close(patience_ms);
  });
}

void fuseline_ranker_close(fuseline_ranker* ranker) { delete ranker; }

int fuseline_ranker_shape(const fuseline_ranker* ranker, fuseline_shape* shape) {
  return Call([&]() -> Status {
    if (ranker == nullptr || shape == nullptr) return Missing("ranker or shape");
    *shape = ranker->shape;
    return OkStatus();
  });
}

int fuseline_ranker_state(const fuseline_ranker* ranker, fuseline_state* state) {
  return Call([&]() -> Status {
    if (ranker == nullptr || state == nullptr) return Missing("ranker or state");
    const fuseline::RankerStatus status = ranker->ranker->status();
    *state = {.version = status.version, .epoch = status.epoch, .change = status.change, .taken = status.taken, .refused = status.refused,
              .redis_connected = status.redis_connected ? 1 : 0, .scorer_version = status.scorer_version, .events_written = 0, .events_dropped = 0};
    if (ranker->events == nullptr) return OkStatus();
    const fuseline::EventLog::Figures figures = ranker->events->figures();
    state->events_written = figures.written;
    state->events_dropped = figures.dropped();
    return OkStatus();
  });
}

size_t fuseline_ranker_metrics(const fuseline_ranker* ranker, char* text, size_t capacity) {
  size_t size = 0;
  Call([&]() -> Status {
    if (ranker == nullptr) return Missing("ranker");
    const std::string all = ranker->metrics.Text();
    size = all.size();
    if (text == nullptr || capacity == 0) return OkStatus();
    const size_t written = std::min(all.size(), capacity - 1);
    std::memcpy(text, all.data(), written);
    text[written] = '\0';
    return OkStatus();
  });
  return size;
}

int fuseline_reader_open(fuseline_ranker* ranker, fuseline_reader** reader) {
  return Call([&]() -> Status {
    if (ranker == nullptr || reader == nullptr) return Missing("ranker or reader");
    *reader = new fuseline_reader(*ranker);
    return OkStatus();
  });
}

void fuseline_reader_close(fuseline_reader* reader) { delete reader; }

int fuseline_rank(fuseline_reader* reader, const fuseline_request* request, fuseline_decision* decision) {
  return Call([&]() -> Status {
    if (reader == nullptr || request == nullptr || decision == nullptr) return Missing("reader, request or decision");
    const auto view = reader->View(*request);
    if (!view) {
      reader->ranker.refused_total.Increment();
      return view.error();
    }
    FUSELINE_RETURN_IF_ERROR(reader->ranker.ranker->Rank(*view, reader->slot, reader->decision));
    const fuseline::Decision& made = reader->decision;
    reader->order.clear();
    reader->scores.clear();
    for (const fuseline::RankedItem& item : made.order) {
      reader->order.push_back(item.candidate);
      reader->scores.push_back(item.fused_score);
    }
    *decision = {.count = made.order.size(), .order = reader->order.data(), .fused_scores = reader->scores.data(),
                 .action_width = made.action_width, .baseline_actions = made.baseline_actions.data(),
                 .executed_actions = made.executed_actions.data(), .has_log_density = made.log_density ? 1 : 0,
                 .log_density = made.log_density.value_or(0), .policy_version = made.policy_version,
                 .scorer_version = made.scorer_version, .arm = made.arm.c_str(),
                 .fell_back = made.fell_back ? 1 : 0};
    return OkStatus();
  });
}

int fuseline_exposure_event(fuseline_reader* reader, const fuseline_request* request, const uint8_t** bytes, size_t* size) {
  return Call([&]() -> Status {
    if (reader == nullptr || request == nullptr || bytes == nullptr || size == nullptr) return Missing("reader, request, bytes or size");
    FUSELINE_ASSIGN_OR_RETURN(const fuseline::v1::Event event, ExposureOf(*reader, *request));
    return Hand(event, *reader, bytes, size);
  });
}

int fuseline_log_exposure(fuseline_reader* reader, const fuseline_request* request) {
  return Call([&]() -> Status {
    if (reader == nullptr || request == nullptr) return Missing("reader or request");
    FUSELINE_ASSIGN_OR_RETURN(fuseline::v1::Event event, ExposureOf(*reader, *request));
    return Push(reader->ranker, std::move(event));
  });
}

int fuseline_feedback_event(fuseline_reader* reader, const fuseline_feedback* feedback, const uint8_t** bytes, size_t* size) {
  return Call([&]() -> Status {
    if (reader == nullptr || feedback == nullptr || bytes == nullptr || size == nullptr) return Missing("reader, feedback, bytes or size");
    FUSELINE_ASSIGN_OR_RETURN(const fuseline::v1::Event event, EventOf(*feedback));
    return Hand(event, *reader, bytes, size);
  });
}

int fuseline_log_feedback(fuseline_ranker* ranker, const fuseline_feedback* feedback) {
  return Call([&]() -> Status {
    if (ranker == nullptr || feedback == nullptr) return Missing("ranker or feedback");
    FUSELINE_ASSIGN_OR_RETURN(fuseline::v1::Event event, EventOf(*feedback));
    return Push(*ranker, std::move(event));
  });
}

double fuseline_bucket(const char* user_id, const char* salt) {
  return user_id == nullptr || salt == nullptr ? -1.0 : fuseline::BucketOf(user_id, salt, fuseline::HashVersion::kTwo);
}
