#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "fuseline/core/random.h"
#include "session_events.h"
#include "session_oracle.h"

namespace fuseline::test {

// Draws the small numbers that a random stream or course of events is made of.
class Dice {
 public:
  Dice(std::uint64_t seed, std::string_view purpose, std::uint64_t counter) : random_(seed, purpose, counter) {}
  std::int64_t Below(std::int64_t n) {
    return static_cast<std::int64_t>(random_.NextBelow(static_cast<std::uint64_t>(n)));
  }
  bool OneIn(std::int64_t n) { return Below(n) == 0; }
  template <typename T>
  const T& Of(const std::vector<T>& values) {
    return values[static_cast<std::size_t>(Below(static_cast<std::int64_t>(values.size())))];
  }

 private:
  Random random_;
};

inline v1::SessionRules RandomRules(std::uint64_t version, Dice& dice) {
  v1::SessionRules rules;
  rules.set_version(version);
  rules.set_format(version == 0 ? 0 : 1);
  rules.set_gap_ms(dice.Below(12));
  rules.set_lateness_ms(dice.Below(25));
  rules.set_cut_every_ms(dice.Of<std::int64_t>({0, 0, 7, 40, 100}));
  rules.set_max_events(static_cast<std::uint32_t>(1 + dice.Below(12)));
  return rules;
}

// The log of a partition in which few users, ids, requests and instants make equal times, resends, joins, cuts and
// bridges frequent. Begins under `rules`; most change them now and then.
class RandomStream {
 public:
  RandomStream(std::uint64_t seed, v1::SessionRules rules, std::int64_t max_records = 100)
      : dice_(seed, "session stream", 0), rules_(std::move(rules)) {
    offset_ = dice_.Below(3);
    for (std::int64_t left = dice_.Below(max_records); left > 0; --left) Append(MakeRecord());
  }

  std::vector<LoggedRecord> records;

 private:
  LoggedRecord MakeRecord() {
    now_ms_ += dice_.OneIn(4) ? dice_.Below(pace_ * 8) : dice_.Below(pace_);
    switch (dice_.Below(24)) {
      case 0: return {.fate = RecordFate::kMalformed};
      case 1: return {.fate = RecordFate::kQuarantined};
      case 2: return {.fate = RecordFate::kVoidControl};
      case 3:
      case 4:
        return {.event =
                    TickEvent(now_ms_ + dice_.Below(30), dice_.OneIn(3) ? offset_ - 1 - dice_.Below(3) : previous_)};
      case 5:
      case 6: return {.event = Resend()};
      case 7: return {.event = dice_.OneIn(2) ? Restamped() : Fresh()};
      case 8: return {.event = rules_change_ ? ChangeOfRules() : Fresh()};
      default: return {.event = Fresh()};
    }
  }
  void Append(LoggedRecord record) {
    record.offset = previous_ = offset_;
    offset_ += 1 + (dice_.OneIn(10) ? dice_.Below(3) : 0);  // Holes, as compaction leaves them.
    if (record.fate == RecordFate::kEvent && !record.event.has_control()) sent_.push_back(record.event);
    records.push_back(std::move(record));
  }

  v1::Event Fresh() {
    const std::int64_t time_ms = std::max<std::int64_t>(0, now_ms_ - dice_.Below(disorder_ms_));
    const std::string user = "u" + std::to_string(dice_.Below(users_));
    const std::string id = "e" + std::to_string(records.size());
    const std::string request = "r" + std::to_string(dice_.Below(8));
    const std::string item = "i" + std::to_string(dice_.Below(3));
    if (dice_.Below(8) < 3) {
      v1::Event event = ExposureEvent(user, time_ms, id, request, {item, "i" + std::to_string(dice_.Below(4))});
      event.mutable_exposure()->set_policy_version(static_cast<std::uint64_t>(dice_.Below(5)));
      return event;
    }
    return FeedbackEvent(user, time_ms, id, request, item, static_cast<v1::Feedback::Kind>(dice_.Below(14)),
                         dice_.Below(9));
  }
  v1::Event Resend() { return sent_.empty() ? Fresh() : dice_.Of(sent_); }
  // An id again, at another time.
  v1::Event Restamped() {
    v1::Event event = Resend();
    event.set_event_time_ms(Fresh().event_time_ms());
    return event;
  }
  v1::Event ChangeOfRules() {
    const v1::SessionRules fresh = RandomRules(rules_.version() + static_cast<std::uint64_t>(dice_.Below(3)), dice_);
    v1::SessionRules rules = rules_;
    rules.set_version(fresh.version());
    rules.set_format(1);
    if (dice_.OneIn(2)) rules.set_gap_ms(fresh.gap_ms());
    if (dice_.OneIn(2)) rules.set_lateness_ms(fresh.lateness_ms());
    if (dice_.OneIn(2)) rules.set_cut_every_ms(fresh.cut_every_ms());
    if (dice_.OneIn(2)) rules.set_max_events(fresh.max_events());
    if (rules.version() > rules_.version()) rules_ = rules;
    return RulesEvent(now_ms_ + dice_.Below(30), rules);
  }

  Dice dice_;
  v1::SessionRules rules_;
  std::int64_t users_ = 1 + dice_.Below(4);
  std::int64_t disorder_ms_ = 1 + dice_.Below(40);
  std::int64_t pace_ = 1 + dice_.Below(8);
  bool rules_change_ = !dice_.OneIn(4);
  std::int64_t now_ms_ = 0;
  std::int64_t offset_ = 0, previous_ = -1;
  std::vector<v1::Event> sent_;
};

}  // namespace fuseline::test
