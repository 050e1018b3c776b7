#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "fuseline/ingest/dead_letter.h"
#include "fuseline/proto/event_codec.h"
#include "fuseline/v1/event.pb.h"

namespace fuseline {

inline v1::Event ClickAt(std::int64_t time_ms, const std::string& id) {
  v1::Event event;
  event.set_event_id(id);
  event.set_user_id("u42");
  event.set_event_time_ms(time_ms);
  event.mutable_feedback()->set_request_id("r1");
  event.mutable_feedback()->set_item_id("i7");
  event.mutable_feedback()->set_kind(v1::Feedback::CLICK);
  return event;
}

inline v1::Event ExposureWithScore(float score) {
  v1::Event event = ClickAt(1, "e");
  auto* exposure = event.mutable_exposure();
  exposure->set_request_id("r1");
  auto* item = exposure->add_items();
  item->set_item_id("i7");
  item->add_task_scores(score);
  return event;
}

// Ten ways of being malformed, each with what it is.
inline std::vector<std::pair<std::string, std::string>> MalformedInputs() {
  const std::string valid = ClickAt(1, "e1").SerializeAsString();
  return {
      {"truncated protobuf", valid.substr(0, valid.size() - 3)},
      {"empty", ""},
      {"wrong wire type", std::string("\x08\x01", 2) + valid},
      {"not a number", ExposureWithScore(std::numeric_limits<float>::quiet_NaN()).SerializeAsString()},
      {"oversize", ClickAt(1, std::string(5'000, 'x')).SerializeAsString()},
      {"0xFF", std::string(64, '\xff')},
      {"unknown JSON key",
       R"({"event_id":"e1","user_id":"u","event_time_ms":1,"feedbak":{"request_id":"r","item_id":"i","kind":"CLICK"}})"},
      {"unknown JSON enumerator",
       R"({"event_id":"e1","user_id":"u","event_time_ms":1,"feedback":{"request_id":"r","item_id":"i","kind":"CLIK"}})"},
      {"truncated JSON", R"({"event_id":"e1","user_id":"u","event_)"},
      {"no payload", R"({"event_id":"e1","user_id":"u","event_time_ms":1})"},
  };
}

// Keeps letters; refuses as many calls as it is told.
class FakeSink final : public DeadLetterSink {
 public:
  Status Write(DeadLetter&& letter) override {
    if (refuse_writes > 0) {
      --refuse_writes;
      return ErrorStatus(Code::kUnavailable, "sink is down");
    }
    written.push_back(std::move(letter));
    return OkStatus();
  }
  Status Flush(std::int64_t) override {
    if (refuse_flushes > 0) {
      --refuse_flushes;
      return ErrorStatus(Code::kUnavailable, "sink is down");
    }
    durable = written.size();
    return OkStatus();
  }

  int refuse_writes = 0;
  int refuse_flushes = 0;
  std::vector<DeadLetter> written;
  std::size_t durable = 0;
};

}  // namespace fuseline
