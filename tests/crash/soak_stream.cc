#include "soak_stream.h"

#include <algorithm>

#include "fuseline/core/random.h"
#include "fuseline/v1/event.pb.h"

namespace fuseline::test {
namespace {

constexpr std::int64_t kStartMs = 1'704'067'200'000;
constexpr std::int64_t kStepMs = 5;     // Of event time, from record to record.
constexpr std::uint64_t kWave = 2'000;  // Records, after which other users come.
constexpr std::uint64_t kWaveUsers = 80;
constexpr std::uint64_t kUsers = 4'000;
constexpr std::int64_t kRequestMs = 2'000;  // One request of a user in so much event time.

std::int64_t NowMs(std::uint64_t index) { return kStartMs + static_cast<std::int64_t>(index) * kStepMs; }

SoakRecord RecordOf(const v1::Event& event) {
  return {event.user_id(), event.SerializeAsString(), event.event_time_ms()};
}

v1::Event EventAt(const std::string& user, std::int64_t time_ms, const std::string& id) {
  v1::Event event;
  event.set_event_id(id);
  event.set_user_id(user);
  event.set_event_time_ms(time_ms);
  return event;
}

void SetExposure(const std::string& request, Random& random, v1::Event* event) {
  v1::Exposure* exposure = event->mutable_exposure();
  exposure->set_request_id(request);
  exposure->set_policy_version(random.NextBelow(9));
  for (std::uint32_t i = 0; i < 4; ++i) {
    v1::ExposedItem* item = exposure->add_items();
    item->set_item_id("i" + std::to_string(i));
    item->set_position(i);
    item->set_fused_score(static_cast<float>(random.NextUniform()));
  }
}

void SetFeedback(const std::string& request, Random& random, v1::Event* event) {
  v1::Feedback* feedback = event->mutable_feedback();
  feedback->set_request_id(request);
  feedback->set_item_id("i" + std::to_string(random.NextBelow(5)));  // The last of them was never shown.
  feedback->set_kind(static_cast<v1::Feedback::Kind>(1 + random.NextBelow(10)));
  if (feedback->kind() == v1::Feedback::WATCH)
    feedback->set_watch_ms(static_cast<std::int64_t>(random.NextBelow(60'000)));
}

v1::Event FreshEvent(std::uint64_t seed, std::uint64_t index) {
  Random random(seed, "soak event", index);
  const std::uint64_t wave = index / kWave;
  const std::string user = "u" + std::to_string((wave * kWaveUsers / 2 + random.NextBelow(kWaveUsers)) % kUsers);
  const bool late = random.NextBelow(30) == 0;
  const auto behind_ms =
      static_cast<std::int64_t>(late ? kSoakLatenessMs + 1 + random.NextBelow(8'000) : random.NextBelow(1'500));
  const std::int64_t time_ms = std::max(kStartMs, NowMs(index) - behind_ms);
  v1::Event event = EventAt(user, time_ms, "e" + std::to_string(index));
  const std::string request = user + "-" + std::to_string(time_ms / kRequestMs);
  random.NextBelow(4) == 0 ? SetExposure(request, random, &event) : SetFeedback(request, random, &event);
  return event;
}

}  // namespace

SoakRecord MakeSoakRecord(std::uint64_t seed, std::uint64_t index) {
  Random random(seed, "soak record", index);
  switch (random.NextBelow(60)) {
    case 0: return {"garbage", std::string(1 + random.NextBelow(40), '\xff'), NowMs(index)};
    case 1: return RecordOf(FreshEvent(seed, index - std::min<std::uint64_t>(index, random.NextBelow(300))));
    case 2: return RecordOf(FreshEvent(seed, index - std::min<std::uint64_t>(index, random.NextBelow(3'000))));
    case 3: {
      if (random.NextBelow(200) != 0) return RecordOf(FreshEvent(seed, index));
      v1::Event event = FreshEvent(seed, index - std::min<std::uint64_t>(index, random.NextBelow(300)));
      event.set_event_time_ms(std::max(kStartMs, NowMs(index) - static_cast<std::int64_t>(random.NextBelow(1'500))));
      return RecordOf(event);
    }
    default: return RecordOf(FreshEvent(seed, index));
  }
}

SoakRecord MakeSoakRules(std::uint64_t version, std::uint64_t index) {
  v1::Event event = EventAt("", NowMs(index), "rules-" + std::to_string(version));
  v1::SessionRules* rules = event.mutable_control()->mutable_rules();
  rules->set_version(version);
  rules->set_format(1);
  rules->set_gap_ms(version % 2 == 1 ? kSoakGapMs + 2'000 : kSoakGapMs);
  rules->set_lateness_ms(version % 3 == 1 ? kSoakLatenessMs + 500 : kSoakLatenessMs);
  rules->set_cut_every_ms(version % 2 == 1 ? 60'000 : 90'000);
  rules->set_max_events(version % 2 == 1 ? 12 : 40);
  return RecordOf(event);
}

SoakRecord MakeSoakEnd(std::uint64_t index, bool second) {
  Random random(0, "soak end", 0);
  v1::Event event = EventAt("the end", NowMs(index) + (second ? 3'600'000 : 10'000), second ? "end-2" : "end-1");
  SetExposure(second ? "end-2" : "end-1", random, &event);
  return RecordOf(event);
}

}  // namespace fuseline::test
